"""The client's address is the peer's, unless the peer is trusted to know better."""

from __future__ import annotations

import pytest

from gatehouse.ingest.client import client_address

TRUSTED = ("10.0.0.0/8", "127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.2", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["198.51.100.1, 10.0.0.3"], "198.51.100.1"),
        ("10.0.0.2", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", ["nonsense"], "nonsense"),
        ("10.0.0.2", [], "10.0.0.2"),
        (None, ["198.51.100.1"], None),
    ],
)
@pytest.mark.case("S-55")
def test_the_right_most_hop_that_is_not_trusted_counts(
    peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert client_address(TRUSTED)(peer, forwarded) == expected


@pytest.mark.case("S-55")
def test_without_trusted_proxies_the_peer_counts() -> None:
    assert client_address(())("10.0.0.2", ["198.51.100.1"]) == "10.0.0.2"
