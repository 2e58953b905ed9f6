"""The outcome of one attempt."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from gatehouse.errors import OutcomeReason


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one HTTP attempt of a delivery."""

    reason: OutcomeReason
    #: The destination's status, if it replied.
    http_status: int | None
    #: Seconds.
    duration: float
    #: The value of `Retry-After`, in seconds from the reply; None if there is none.
    retry_after: float | None = None
    #: One line that TLS, the name service or the connection reported.
    error: str | None = None
    #: The start of the body of the reply, if it is kept.
    reply: bytes | None = None


def reason_for(status: int) -> OutcomeReason:
    """Return the reason for a status."""
    if status == HTTPStatus.GONE:
        return "gone"
    if status in _THROTTLED:
        return "throttled"
    return _BY_CLASS.get(status // 100, "invalid_reply")


_THROTTLED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_BY_CLASS: dict[int, OutcomeReason] = {2: "ok", 3: "redirect", 4: "rejected", 5: "server_error"}
