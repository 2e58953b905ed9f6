"""What the page says about plans and operations, without a gateway."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import MultiDict

from gatehouse.operator.page.planning import find_same, read_form
from gatehouse.operator.page.progress import percent, remaining, result
from gatehouse.operator.page.selection import fixed, in_words

NOW = 1_767_225_600.0
START = "2026-01-01T00:00:00Z"


def running(**members: Any) -> dict[str, Any]:
    base = {"id": "A", "state": "running", "total": 200, "done": 0, "failed": 0, "rate": "50/s", "to": None}
    return base | {"filter": {}, "waiting_for": []} | members


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({}, "All dead letters"),
        ({"until": START}, "Dead letters received before 2026-01-01 00:00:00 UTC"),
        ({"destination": "app", "source": "shop"}, "Dead letters of app, from shop"),
        (
            {"type": "a.*", "reason": "rejected", "http_status": "422"},
            "Dead letters of type a.*, with an attempt that ended with rejected and HTTP 422",
        ),
    ],
)
def test_dead_letters_are_named_by_their_filters(filters: dict[str, str], words: str) -> None:
    assert in_words(filters, "dead letters") == words


def test_events_are_named_by_their_filters() -> None:
    filters = {"status": "pending", "destination": "app", "since": START, "until": START, "contains": "x"}
    day = "2026-01-01 00:00:00 UTC"
    assert in_words(filters, "events") == (
        f"Events with “x” in the body, received since {day} and before {day}, with a pending delivery to app"
    )


def test_times_of_a_plan_do_not_move() -> None:
    names = ("since", "until", "type")
    assert fixed({"since": "1h", "type": "a"}, names, NOW) == {
        "type": "a",
        "since": "2025-12-31T23:00:00Z",
        "until": START,
    }
    assert fixed({"until": "2h"}, names, NOW) == {"until": "2025-12-31T22:00:00Z"}
    assert fixed({"until": "2099-01-01"}, names, NOW) == {"until": START}
    assert fixed({"since": "soon", "until": "later"}, names, NOW) == {"since": "soon", "until": "later"}


def test_a_form_names_destinations_only_if_the_choice_has_changed() -> None:
    shown = [("was", ""), ("was", "a"), ("was", "b"), ("counted_to", "")]
    same = read_form(MultiDict([*shown, ("to", "b"), ("to", "a")]), NOW)
    assert (same.to, same.is_counted, same.is_nowhere) == ((), True, False)
    other = read_form(MultiDict([*shown, ("to", "b")]), NOW)
    assert (other.to, other.is_counted) == (("b",), False)
    nowhere = read_form(MultiDict(shown), NOW)
    assert (nowhere.is_counted, nowhere.is_nowhere) == (False, True)
    link = read_form(MultiDict([("to", "b"), ("rate", " 5/s ")]), NOW)
    assert (link.to, link.rate, link.is_counted) == (("b",), "5/s", False)
    assert link.link() == {"until": START, "to": ["b"], "rate": "5/s"}


def test_the_same_operation_runs_or_began_with_the_same_form() -> None:
    form = read_form(MultiDict([("type", "a"), ("status", "dead")]), NOW)
    earlier = {"type": "a", "until": "2025-12-31T00:00:00Z"}
    runs = running(filter=earlier)
    assert find_same([running(), runs], form, "retries") == runs
    assert find_same([runs | {"state": "done"}], form, "retries") is None
    assert find_same([runs | {"state": "done", "filter": {"type": "a", "until": START}}], form, "retries")
    assert find_same([runs | {"to": ["b"]}], form, "retries") is None
    assert find_same([runs], form._replace(despite="A"), "retries") is None
    # A replay keeps its filter for the status.
    assert find_same([runs], form, "replays") is None
    assert find_same([running(filter=earlier | {"status": "dead"})], form, "replays")


def test_progress_is_told_with_what_is_left() -> None:
    assert percent(running(total=0)) == 100
    assert percent(running(done=1, failed=1)) == 1
    assert remaining(running(done=99, failed=1)) == "at least 2 s at its rate"
    assert remaining(running(waiting_for=["app"])) == "unknown while it waits; 4 s at its rate"
    assert remaining(running(state="done")) == "none"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"state": "running"}, ""),
        ({"state": "done", "total": 0}, "Nothing was retried: no event matched any more."),
        (
            {"state": "done", "done": 150, "failed": 20},
            (
                "150 of 200 events were retried. 20 could not be: no longer kept, or without a destination. "
                "30 did not match any more when their turn came."
            ),
        ),
        (
            {"state": "cancelled", "done": 5},
            "Stopped after 5 of 200 events. What was due is still delivered.",
        ),
    ],
)
def test_the_end_of_an_operation_is_told(members: dict[str, Any], words: str) -> None:
    assert result("retries", running(**members)) == words
