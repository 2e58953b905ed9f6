"""Answers to providers, with what the log and the metrics record about the request."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import msgspec

from gatehouse.errors import (
    MethodNotAllowedError,
    RequestRejectedError,
    UnavailableError,
    VerificationError,
)
from gatehouse.language.document import is_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.config.model import AnswersConfig
    from gatehouse.events.event import Event
    from gatehouse.store.base import Receipt
    from gatehouse.verify.handshake import Reply

#: Range of the `Retry-After` header after a fault of the gateway, in whole seconds. The value is random, so
#: that refused requests do not all return at the same time. Most providers wait longer anyway.
RETRY_AFTER: Final = (5, 30)

_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
#: The type that a client has to assume when none is given (RFC 9110, 8.3).
_UNKNOWN_TYPE = "application/octet-stream"
_ACCEPTED, _DUPLICATE, _END = b'{"status":"accepted","id":"', b'{"status":"duplicate","id":"', b'"}'


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An HTTP answer, and what the log and the metrics record about its request."""

    status: int
    #: JSON, unless `headers` say otherwise.
    body: bytes
    outcome: str
    headers: dict[str, str] = {}
    #: For the operator only: the reason of the verifier, or the kind of error.
    reason: str | None = None
    event_ids: tuple[str, ...] = ()
    event_type: str | None = None
    #: The kind of the handshake that was answered.
    handshake: str | None = None
    #: How many dead deliveries are retried because the event was sent again.
    revived: int = 0
    #: The position of the secret that verified the request, starting at 1; 0 when there is none.
    secret: int = 0


def committed(
    event: Event, receipt: Receipt, answers: AnswersConfig, revived: int = 0, secret: int = 0
) -> Answer:
    """Answer for a committed event: `accepted` when it is new, otherwise `duplicate`.

    For a relayed event the answer is the destination's reply, also for duplicates.
    """
    is_new = receipt.status == "accepted"
    status = answers.accepted if is_new else answers.duplicate or answers.accepted
    headers: dict[str, str] = {}
    if receipt.reply is not None:
        status, body = receipt.reply.status, receipt.reply.body
        headers = {"Content-Type": receipt.reply.content_type or _UNKNOWN_TYPE}
    elif answers.body is not None:
        body, headers = _configured_body(answers.body)
    else:
        body = (_ACCEPTED if is_new else _DUPLICATE) + receipt.event_id.encode() + _END
    return Answer(
        status=status,
        body=body,
        outcome=receipt.status,
        headers=headers,
        event_ids=(receipt.event_id,),
        event_type=event.type,
        revived=revived,
        secret=secret,
    )


def committed_batch(
    events: Sequence[Event],
    receipts: Sequence[Receipt],
    answers: AnswersConfig,
    revived: int = 0,
    secret: int = 0,
) -> Answer:
    """Answer for a committed batch: `accepted` when any event is new, otherwise `duplicate`."""
    statuses = [receipt.status for receipt in receipts]
    is_new = "accepted" in statuses or not statuses
    ids = tuple([receipt.event_id for receipt in receipts])
    headers: dict[str, str] = {}
    if answers.body is not None:
        body, headers = _configured_body(answers.body)
    else:
        body = msgspec.json.encode({"status": "accepted" if is_new else "duplicate", "ids": ids})
    return Answer(
        status=answers.accepted if is_new else answers.duplicate or answers.accepted,
        body=body,
        outcome="accepted" if is_new else "conflict" if "conflict" in statuses else "duplicate",
        headers=headers,
        event_ids=ids,
        event_type=events[0].type if events else None,
        revived=revived,
        secret=secret,
    )


def _configured_body(text: str) -> tuple[bytes, dict[str, str]]:
    """Return the answer body that the source configures, and its headers."""
    body = text.encode()
    return body, {} if is_json(body) and body.startswith(b"{") else _TEXT


def handshake_answer(reply: Reply) -> Answer:
    """Answer a handshake with its own body. The configured body does not apply."""
    return Answer(
        status=reply.status,
        body=reply.body,
        outcome="handshake",
        headers=reply.headers,
        handshake=reply.handshake,
    )


def rejected(
    error: RequestRejectedError,
    answers: AnswersConfig | None = None,
    *,
    draw: Callable[[int, int], int] = random.randint,
) -> Answer:
    """Answer for an error. It names the kind of error, but never the check that failed.

    `draw` returns a random whole number between its two arguments, inclusive.
    """
    status = error.status
    headers: dict[str, str] = {}
    if isinstance(error, VerificationError):
        status = answers.unauthorized if answers else status
    elif isinstance(error, UnavailableError):
        headers = {"Retry-After": str(draw(*RETRY_AFTER))}
    elif isinstance(error, MethodNotAllowedError):
        headers = {"Allow": error.allow}
    if answers is not None and answers.body == "":
        body, headers = b"", headers | _TEXT
    else:
        body = msgspec.json.encode({"error": {"code": error.code, "message": error.message}})
    return Answer(status=status, body=body, outcome=error.outcome, headers=headers, reason=error.reason)
