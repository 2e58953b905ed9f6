"""The places of version 0.1's dedupe keys come from the config, or from the presets of that version."""

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

#: The key in the presets of version 0.1.
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
def test_a_source_had_its_configured_keys_or_those_of_the_old_preset(
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
        # An event with a value of a had only this key, and would now have the key n.
        ("['{body:a}', '{body:b}']", "['{body:n}', '{body:a}', '{body:b}']", ["{body:a}", "{body:b}"]),
        ("['{body:a}', '{body:b}']", "['{body:b}', '{body:a}']", ["{body:a}"]),
    ],
)
def test_a_key_is_lost_if_the_new_config_gives_the_event_another_one(
    before: str, after: str, lost: list[str]
) -> None:
    old, new = (loaded(f"dedupe: {{by: [{by}]}}").config for by in (before, after))

    assert lost_keys(old, new) == ({"it": lost} if lost else {})
