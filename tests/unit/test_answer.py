"""Answers say what happened to a request, but never which check failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, get_args

import pytest

from gatehouse import errors
from gatehouse.config.model import AnswersConfig
from gatehouse.errors import (
    REASONS,
    MethodNotAllowedError,
    Reason,
    RequestRejectedError,
    UnavailableError,
    VerificationError,
)
from gatehouse.events.event import Event
from gatehouse.ingest.answer import committed, committed_batch, rejected
from gatehouse.store.base import Receipt, Reply
from gatehouse.telemetry.metrics import OUTCOMES

DEFAULT = AnswersConfig()
EVENT = Event(
    id="01A", source="s", path="/p", provider="p", external_id="e", type="t", time="", received=0.0, body=b""
)


Status = Literal["accepted", "duplicate", "conflict"]
_TEXT = "text/plain; charset=utf-8"


def receipt(status: Status, number: int = 0) -> Receipt:
    return Receipt(status, f"ID{number}")


@pytest.mark.parametrize(
    ("status", "word"), [("accepted", "accepted"), ("duplicate", "duplicate"), ("conflict", "duplicate")]
)
def test_the_answer_for_one_event_contains_its_id(status: Status, word: str) -> None:
    answer = committed(EVENT, receipt(status), DEFAULT)

    assert (answer.status, json.loads(answer.body)) == (200, {"status": word, "id": "ID0"})
    assert answer.outcome == status


@pytest.mark.parametrize("status", ["accepted", "duplicate"])
@pytest.mark.parametrize("content_type", ["text/xml; charset=utf-8", None])
def test_the_answer_for_a_relayed_event_is_the_destinations_reply(
    status: Literal["accepted", "duplicate"], content_type: str | None
) -> None:
    relayed = Receipt(status, "ID0", reply=Reply(201, content_type, b"<Response/>"))

    answer = committed(EVENT, relayed, AnswersConfig(accepted=202, body=""))

    assert (answer.status, answer.body, answer.outcome) == (201, b"<Response/>", status)
    assert answer.headers == {"Content-Type": content_type or "application/octet-stream"}
    assert answer.event_ids == ("ID0",)


@pytest.mark.parametrize(
    ("statuses", "outcome", "word"),
    [
        (("accepted", "duplicate"), "accepted", "accepted"),
        (("duplicate", "duplicate"), "duplicate", "duplicate"),
        (("duplicate", "conflict"), "conflict", "duplicate"),
        ((), "accepted", "accepted"),
    ],
)
def test_the_answer_for_a_batch_contains_all_ids(statuses: Any, outcome: str, word: str) -> None:
    answer = committed_batch([EVENT] * len(statuses), [*map(receipt, statuses, range(9))], DEFAULT)

    assert json.loads(answer.body) == {"status": word, "ids": [f"ID{i}" for i in range(len(statuses))]}
    assert answer.outcome == outcome


def test_a_source_can_configure_other_status_codes() -> None:
    answers = AnswersConfig(accepted=202, duplicate=208, unauthorized=400)

    assert committed(EVENT, receipt("accepted"), answers).status == 202
    assert committed(EVENT, receipt("duplicate"), answers).status == 208
    assert rejected(VerificationError("wrong_signature"), answers).status == 400


def test_a_source_can_configure_the_body_of_success_answers() -> None:
    answers = AnswersConfig(body="[accepted]")

    for status in ("accepted", "duplicate"):
        one, batch = receipt(status), [receipt(status)]
        for answer in (committed(EVENT, one, answers), committed_batch([EVENT], batch, answers)):
            assert (answer.body, answer.headers["Content-Type"]) == (b"[accepted]", _TEXT)
            assert answer.event_ids == ("ID0",)
    assert json.loads(rejected(VerificationError("wrong_signature"), answers).body)["error"]


@pytest.mark.parametrize(
    "error", [VerificationError("wrong_signature"), UnavailableError("later", reason="store")]
)
def test_a_source_can_configure_empty_bodies(error: RequestRejectedError) -> None:
    answers = AnswersConfig(body="")

    assert committed(EVENT, receipt("accepted"), answers).body == b""
    answer = rejected(error, answers)
    assert (answer.body, answer.status) == (b"", error.status)
    assert ("Retry-After" in answer.headers) == (error.status == 503)


def test_the_answer_to_a_wrong_method_lists_the_allowed_methods() -> None:
    assert rejected(MethodNotAllowedError("no", allow="POST, GET")).headers == {"Allow": "POST, GET"}


@pytest.mark.parametrize("reason", REASONS)
def test_the_caller_never_sees_the_reason(reason: Reason) -> None:
    answer = rejected(VerificationError(reason))

    assert answer.status == 401
    assert answer.body == rejected(VerificationError("wrong_signature")).body
    assert answer.reason == reason


@pytest.mark.case("O-02")
@pytest.mark.parametrize(("draw", "wait"), [(min, "5"), (max, "30")])
def test_a_fault_of_the_gateway_has_a_retry_after_of_5_to_30_seconds(
    draw: Callable[[int, int], int], wait: str
) -> None:
    answer = rejected(UnavailableError("later", reason="store"), draw=draw)

    assert (answer.status, answer.headers, answer.reason) == (503, {"Retry-After": wait}, "store")


@pytest.mark.case("O-02")
def test_retry_after_values_are_spread() -> None:
    error = UnavailableError("later", reason="store")
    waits = {int(rejected(error).headers["Retry-After"]) for _ in range(1000)}

    # The probability that a thousand draws miss one of the 26 values is below 10^-15.
    assert waits == set(range(5, 31))


def rejections() -> list[type[RequestRejectedError]]:
    return [
        found
        for found in vars(errors).values()
        if isinstance(found, type)
        and issubclass(found, RequestRejectedError)
        and found is not RequestRejectedError
    ]


def made(kind: type[RequestRejectedError]) -> RequestRejectedError:
    if kind is VerificationError:
        return VerificationError("wrong_signature")
    return UnavailableError("why", reason="store") if kind is UnavailableError else kind("why")


@pytest.mark.parametrize("kind", rejections())
def test_every_error_has_the_same_shape_and_a_counted_outcome(kind: type[RequestRejectedError]) -> None:
    error = made(kind)
    body = json.loads(rejected(error).body)

    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert kind.outcome in OUTCOMES
    assert 400 <= kind.status <= 504


def test_the_list_of_reasons_is_complete() -> None:
    assert set(REASONS) == set(get_args(Reason))
