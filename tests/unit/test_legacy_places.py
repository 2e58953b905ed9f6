"""Which keys version 0.1 had at which place: as the config says, or as the presets said then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatehouse.config.load import parse
from gatehouse.events.dedupe import UNREADABLE_SCOPE, scopes_of
from gatehouse.gateway.reload import lost_keys
from gatehouse.language.template import Template
from gatehouse.store.legacy_keys import legacy_places

if TYPE_CHECKING:
    from gatehouse.config.load import LoadedConfig

#: As the presets of 0.1 have it.
MANDATO_THEN = [("{header:X-Mandato-Delivery-Id}",), ("{body:id}", "{signed}"), None]


def loaded(source: str) -> LoadedConfig:
    return parse(f"sources: {{it: {{provider: mandato, secrets: [env:S], {source}}}}}")


@pytest.mark.case("F-08")
@pytest.mark.parametrize(
    ("source", "then"),
    [
        ("dedupe: {window: 14d}", MANDATO_THEN),
        ("max_body: 1MiB", MANDATO_THEN),
        ("dedupe: {by: ['{body:id}', {key: '{signed}', window: 1h}]}", [("{body:id}",), ("{signed}",), None]),
        ("dedupe: {by: []}", [None]),
    ],
)
def test_a_source_had_the_keys_that_it_says_or_else_those_of_the_preset_of_then(
    source: str, then: list[tuple[str, ...] | None]
) -> None:
    assert legacy_places(loaded(source)) == {
        "it": [scopes_of(Template(by)) if by else (UNREADABLE_SCOPE,) for by in then]
    }


@pytest.mark.case("F-08")
@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ("'{body:a}', '{body:b}'", "'{body:b}', '{body:a}'", []),
        ("'{body:a}'", "'{body:b}', '{body:a}'", []),
        ("'{body:a}', '{body:b}'", "'{body:b}'", ["{body:a}"]),
        ("'{header:X-A}'", "'{header:x-a?}'", []),
        ("['{body:a}', '{body:b}']", "'{body:a}', '{body:b}'", []),
        ("['{body:a}', '{body:b}']", "'{body:a}'", ["{body:b}"]),
        # An event with an a had none but its a, and would be told by its n.
        ("['{body:a}', '{body:b}']", "['{body:n}', '{body:a}', '{body:b}']", ["{body:a}", "{body:b}"]),
        ("['{body:a}', '{body:b}']", "['{body:b}', '{body:a}']", ["{body:a}"]),
    ],
)
def test_a_key_is_lost_when_an_event_that_had_it_would_not_have_it_again(
    before: str, after: str, lost: list[str]
) -> None:
    old, new = (loaded(f"dedupe: {{by: [{by}]}}").config for by in (before, after))

    assert lost_keys(old, new) == ({"it": lost} if lost else {})
