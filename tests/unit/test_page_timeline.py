"""The timeline of an event, in words: attempts and gaps between them, and what happens next."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.errors import OUTCOME_REASONS
from gatehouse.operator.page.bodies import shown_body
from gatehouse.operator.page.reasons import EXPLAINED, explain
from gatehouse.operator.page.timeline import Attempt, Missing, folded, steps, what_next

NOW = 1_800_000_000.0
BEFORE, AFTER = "2027-01-15T07:59:00Z", "2027-01-15T08:04:00Z"
READY = {
    "ready": True,
    "not_ready": None,
    "paused": False,
    "breaker": "closed",
    "failures": 0,
    "next_probe": None,
}


def attempt(number: int, **given: Any) -> dict[str, Any]:
    plain = {"reason": "timeout", "http_status": None, "duration_ms": 5, "error": None, "reply": None}
    return {"number": number, "at": BEFORE, **plain, **given}


def delivery(status: str, **given: Any) -> dict[str, Any]:
    return {"status": status, "updated": BEFORE, "due": None, "note": None, "discarded_by": None, **given}


def test_every_reason_is_explained_and_says_what_to_do() -> None:
    assert set(EXPLAINED) == set(OUTCOME_REASONS)
    assert [
        name for name, text in EXPLAINED.items() if not text.meaning or not (text.advice or name == "ok")
    ] == []
    assert "secret" in explain("rejected", 401).advice
    assert explain("of_a_later_version", None).short == "of_a_later_version"


def test_attempts_that_are_not_kept_are_named_and_repeated_results_point_to_the_first() -> None:
    given = [attempt(2), attempt(3), attempt(4, reason="connect"), attempt(8, reason="connect")]
    found, between, last = folded(steps(given, 10))
    assert [one if isinstance(one, Missing) else (one.number, one.same_as) for one in found] == [
        Missing(1, 1),
        *((2, None), (3, 2), (4, None)),
        Missing(5, 7),
        (8, None),
        Missing(9, 10),
    ]
    assert (between, last) == ([], [])
    assert steps([], 0) == []


def test_of_many_attempts_those_in_between_are_shown_on_request() -> None:
    parts = folded(steps(map(attempt, range(1, 31)), 30))
    seen = [[(one.number, one.same_as) for one in part if isinstance(one, Attempt)] for part in parts]
    assert seen[0] == [(1, None), (2, 1), (3, 1)]
    assert len(seen[1]) == 22
    # What it repeats is in sight.
    assert seen[2] == [(26, None), *((number, 26) for number in range(27, 31))]


def test_a_long_reply_is_shown_on_request() -> None:
    replies = {"thanks": False, "x" * 300: True, "a\n" * 5: True, "\x07" * 9: True}
    shown = steps([attempt(n, reply=text) for n, text in enumerate(replies, 1)], 4)
    assert [one.has_long_reply for one in shown if isinstance(one, Attempt)] == list(replies.values())


@pytest.mark.parametrize(
    ("given", "destination", "words", "at"),
    [
        (delivery("delivered"), READY, "Delivered", BEFORE),
        (delivery("dead"), READY, "Dead letter", BEFORE),
        (delivery("dead"), None, "Dead letter", BEFORE),
        (delivery("discarded", discarded_by="alice"), READY, "Discarded by alice", BEFORE),
        (delivery("pending", due=AFTER), READY, "Next attempt", AFTER),
        (delivery("pending", due=BEFORE), READY, "Next attempt soon", None),
        (delivery("pending"), READY, "Waits for an earlier event", None),
        (delivery("pending", due=AFTER), None, "Waits: the destination is gone", None),
        (
            delivery("pending"),
            READY | {"paused": True},
            "Waits: the destination is paused",
            None,
        ),
        (
            delivery("pending", due=AFTER),
            READY | {"breaker": "open", "next_probe": AFTER},
            "Waits: the circuit breaker is open, next probe",
            AFTER,
        ),
        (
            delivery("pending"),
            READY | {"ready": False, "not_ready": "env:X is not set"},
            "Waits: the destination is not ready",
            None,
        ),
    ],
)
def test_what_happens_next_is_said_with_its_time(
    given: dict[str, Any], destination: dict[str, Any] | None, words: str, at: str | None
) -> None:
    found = what_next(given, destination, NOW)
    assert (found.words, found.at) == (words, at)
    assert found.advice or given["status"] == "delivered" or words == "Next attempt"


def test_a_body_is_shown_as_it_was_sent_or_as_a_dump() -> None:
    exact = '{"n":12345678901234567890.10,\r\n "s":"é"}'
    assert shown_body(exact.encode()) == (exact, False, len(exact.encode()), len(exact.encode()))
    # The cut goes through a character.
    long = shown_body(b"x" * (64 * 1024 - 1) + "é".encode() * 10)
    assert (long.is_dump, long.shown, long.is_whole) == (False, 64 * 1024 - 1, False)
    dump = shown_body(b"\xff\x00AB" * 600)
    assert (dump.is_dump, dump.shown, dump.size) == (True, 1024, 2400)
    assert dump.text.startswith("00000000  ff 00 41 42")
    assert dump.text.splitlines()[0].endswith("  ..AB..AB..AB..AB")
    assert len(dump.text.splitlines()) == 64
    assert shown_body(b"\x00" * 100_000).is_dump
