"""Dedupe keys: their scopes and their windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from multidict import CIMultiDict

from gatehouse.config.coverage import effective_max_age
from gatehouse.config.sources import DedupeConfig, SourceConfig
from gatehouse.events.dedupe import UNREADABLE_SCOPE, KeyReader, scopes_of
from gatehouse.language.request import Request
from gatehouse.language.scope import Scope
from gatehouse.language.template import Template

if TYPE_CHECKING:
    from gatehouse.events.dedupe import DedupeKey

NOW = 1_750_000_000.0
HOUR, DAY = 3600.0, 86400.0


def scope(body: bytes = b'{"id":"e1"}', **headers: str) -> Scope:
    return Scope(Request("POST", "/", "", CIMultiDict(headers), body), facts={"signed": b"s1"})


def keys(*by: Any, of: Scope | None = None, **options: Any) -> list[DedupeKey]:
    """Return the keys that resolve."""
    config = DedupeConfig.model_validate({"by": by} | options)
    return [key for key in KeyReader(config).read(of or scope(Id="h1"), NOW) if key is not None]


def scoped(*by: Any, of: Scope | None = None) -> list[bytes]:
    return [key.scoped for key in keys(*by, of=of)]


@pytest.mark.case("F-08")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["{header:Id}", "{body:id}"], ["{body:id}"]),
        (["{body:id}"], ["{header:Id}", "{body:id}"]),
        (["{header:Id}", "{body:id}"], ["{body:id}", "{header:Id}"]),
        ([("{body:id}", "{signed}")], ["{body:id}"]),
        ([("{body:none}", "{signed}")], [("{body:id}x{body:none}", "{signed}")]),
        (["{header:Id}"], [{"key": "{header:iD}", "window": "1h"}]),
        (["{body:id}/{body:none?}"], ["{body:id?}/{body:none?}"]),
    ],
    ids=["without", "in front", "order", "list", "list in front", "spelling", "optional"],
)
def test_a_key_does_not_depend_on_the_other_keys(before: list[Any], after: list[Any]) -> None:
    assert set(scoped(*before)) & set(scoped(*after))


@pytest.mark.case("F-08")
@pytest.mark.parametrize(
    "others",
    [
        ["{header:Id}", "{body:id}", "{signed}"],
        ["{body:id} ", " {body:id}", "{{body:id}}"],
        ["{body:id}", "{body:Id}"],
        [("{body:none}", "{header:Id}"), "{body:id}"],
    ],
)
def test_equal_values_of_different_templates_are_different_keys(others: list[Any]) -> None:
    same = scope(b'{"id":"e1","Id":"e1"}', Id="e1")
    found = scoped(*others, of=same)

    assert len(set(found)) == len(found) == len(others)


def test_each_key_has_its_own_window() -> None:
    found = keys("{header:Id}", {"key": "{signed}", "window": "6h"}, {"key": "{body:id}"}, window="2d")

    assert [key.until - NOW for key in found] == [2 * DAY, 6 * HOUR, 2 * DAY]


def test_the_longer_of_two_windows_for_one_template_applies() -> None:
    for by in (
        [{"key": "{header:Id}", "window": "1h"}, {"key": ("{header:ID}", "{signed}"), "window": "3h"}],
        [{"key": "{header:Id}", "window": "3h"}, {"key": "{header:id}", "window": "1h"}],
    ):
        assert {(key.key, key.until - NOW) for key in keys(*by)} == {(b"h1", 3 * HOUR)}


def test_the_key_of_an_unreadable_event_has_the_longest_window() -> None:
    config = DedupeConfig.model_validate({"by": ("{signed}", {"key": "{body}", "window": "9d"})})
    key = KeyReader(config).unreadable(b"s1", NOW)

    assert (key.scope, key.key, key.until) == (UNREADABLE_SCOPE, b"s1", NOW + 9 * DAY)
    assert UNREADABLE_SCOPE not in scopes_of(Template(("{signed}", "unreadable")))


@pytest.mark.parametrize(
    ("dedupe", "limit"),
    [
        ({"by": ("{body:id}",), "window": "2d"}, 2 * DAY),
        ({"by": ("{body:id}",), "window": "9d"}, 3 * DAY),
        ({"by": ({"key": "{body:id}", "window": "9d"},), "window": "1h"}, 3 * DAY),
        ({"by": ({"key": "{body:id}", "window": "2h"}, {"key": "{signed}", "window": "6h"})}, 6 * HOUR),
    ],
)
def test_the_maximum_age_is_at_most_the_longest_window(dedupe: dict[str, Any], limit: float) -> None:
    config = SourceConfig.model_validate(
        {
            "verify": {"type": "hmac", "signature": {"header": "X-Sig"}},
            "event": {"type": "{body:type}", "time": "{body:at}"},
            "max_age": "3d",
            "dedupe": dedupe,
        }
    )

    assert effective_max_age(config) == limit
