"""What one attempt came to."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

import msgspec

OutcomeReason = Literal[
    "ok",
    "redirect",
    "gone",
    "rejected",
    "throttled",
    "server_error",
    "timeout",
    "dns",
    "connect",
    "tls",
    "disconnected",
    "invalid_reply",
    "unsendable",
    "corrupt",
]

#: The `reason` label of `gatehouse_attempts_total`, and the field in the log.
OUTCOME_REASONS: tuple[OutcomeReason, ...] = (
    "ok",  # 2xx
    "redirect",  # 3xx: never followed
    "gone",  # 410
    "rejected",  # other 4xx, but for the next
    "throttled",  # 408, 425, 429
    "server_error",  # 5xx
    "timeout",  # no answer within the destination's timeout
    "dns",  # the name has no address
    "connect",  # refused or unreachable
    "tls",  # no trusted connection
    "disconnected",  # closed before an answer
    "invalid_reply",  # not HTTP, or a status that no answer has
    "unsendable",  # our own fault: no request could be made of the event
    "corrupt",  # the event is damaged on the store's disk: no attempt was made
)


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One HTTP try of a delivery."""

    reason: OutcomeReason
    #: The destination's status, when it gave one.
    http_status: int | None
    #: Seconds.
    duration: float
    #: What `Retry-After` asked for, in seconds from the reply; None when it asked for nothing.
    retry_after: float | None = None
    #: One line of what TLS, the name service or the connection reported.
    error: str | None = None


def reason_for(status: int) -> OutcomeReason:
    """Say what a status means."""
    if status == HTTPStatus.GONE:
        return "gone"
    if status in _THROTTLED:
        return "throttled"
    return _BY_CLASS.get(status // 100, "invalid_reply")


_THROTTLED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_BY_CLASS: dict[int, OutcomeReason] = {2: "ok", 3: "redirect", 4: "rejected", 5: "server_error"}
