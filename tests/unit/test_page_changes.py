"""What the audit says about a change, and where it leads."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.operator.page.changes import with_parts


def said(action: str, **what: Any) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the name of each part of a change, with its texts and where they lead."""
    parts = with_parts({"action": action, "what": what})["parts"]
    return [(part.name, [tuple(value) for value in part.values]) for part in parts]


@pytest.mark.parametrize(
    ("action", "what", "expected"),
    [
        ("pause", {"destination": "app"}, [("destination", [("app", "/destinations/app")])]),
        (
            "replay",
            {"event_id": "01A", "destinations": ["app", "crm"]},
            [
                ("event", [("01A", "/events/01A")]),
                ("destinations", [("app", "/destinations/app"), ("crm", "/destinations/crm")]),
            ],
        ),
        (
            "retry",
            {"started": "01B", "filter": {"destination": "app"}, "to": None, "rate": "50/s"},
            [
                ("started", [("01B", "/operations/retries/01B")]),
                ("chosen", [("Dead letters of app", "")]),
                ("rate", [("50/s", "")]),
            ],
        ),
        ("retry", {"filter": {"event_id": "01A"}}, [("event", [("01A", "/events/01A")])]),
        (
            "discard",
            {"ids": ["01A:app"] * 7, "note": "<b>old</b>"},
            [
                ("events", [("01A", "/events/01A")] * 5 + [("and 2 more", "")]),
                ("note", [("<b>old</b>", "")]),
            ],
        ),
        (
            "test",
            {"source": "shop", "type": "a.b"},
            [("source", [("shop", "/sources/shop")]), ("type", [("a.b", "")])],
        ),
        (
            "reload",
            {"routes_added": 1, "sources_added": ["shop"]},
            [("routes_added", [("1", "")]), ("sources_added", [("shop", "")])],
        ),
    ],
)
def test_a_change_is_said_with_links_to_what_was_changed(
    action: str, what: dict[str, Any], expected: list[Any]
) -> None:
    assert said(action, **what) == expected
