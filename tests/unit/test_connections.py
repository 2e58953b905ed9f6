"""How many connections the limit on open files leaves room for."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from gatehouse.ingest.connections import allowed_connections


@pytest.fixture
def _limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_limits")
def test_a_soft_limit_is_raised_to_what_is_needed() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    assert allowed_connections(300) == 300
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 812


@pytest.mark.usefixtures("_limits")
def test_a_limit_that_is_high_enough_is_left() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert allowed_connections(1) == 1
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_a_hard_limit_leaves_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hard limit of this process could not be raised again, so the system's answers stand in."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)

    assert allowed_connections(4096) == 512
    monkeypatch.setattr(resource, "getrlimit", lambda _: (600, 600))
    assert allowed_connections(4096) == 300
