"""Every error that Gatehouse raises on purpose, as one tree.

GatewayError                        a message, and a hint: what to try
├─ ConfigError                      all problems of a config file, each with file:line
├─ StoreError
│   ├─ StoreUnavailableError        503 to the provider, so that it sends again
│   ├─ StoreInUseError              another process holds the SQLite file
│   └─ SchemaVersionError           the store was written by a newer Gatehouse
└─ RequestRejectedError             what a provider is told: status, code, outcome
    ├─ UnknownSourceError           404
    ├─ ForbiddenError               403
    ├─ MethodNotAllowedError        405
    ├─ RequestTimeoutError          408
    ├─ BodyTooLargeError            413
    ├─ UnsupportedEncodingError     415
    ├─ MalformedRequestError        400
    ├─ VerificationError            401, with the reason for the operator only
    ├─ UnavailableError             503, with Retry-After
    └─ RelayFailedError             502, the destination's fault
        └─ RelayTimeoutError        504
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


Reason = Literal[
    "missing_signature",
    "malformed_signature",
    "duplicate_header",
    "wrong_signature",
    "stale_timestamp",
    "future_timestamp",
    "malformed_timestamp",
    "malformed_body",
    "wrong_credentials",
]

#: Why a verifier refused: the label of `gatehouse_verification_failures_total`, never told to the caller.
REASONS: tuple[Reason, ...] = (
    "missing_signature",
    "malformed_signature",
    "duplicate_header",
    "wrong_signature",
    "stale_timestamp",
    "future_timestamp",
    "malformed_timestamp",
    "malformed_body",
    "wrong_credentials",
)

#: Why a request got 503: the `reason` in its log line.
Shortage = Literal[
    "overloaded",
    "busy",
    "disk",
    "store",
    "commit_deadline",
    "not_ready",
    "keys",
    "confirmation",
    "stopped",
    "defect",
]

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

#: Why an event could not be relayed, besides what came of an attempt: the `reason` in the request's log line.
RelayFault = Literal["paused", "breaker_open", "unusable_reply", "no_destination"]


class GatewayError(Exception):
    """The root of the tree: a message for people, and a hint that says what to try."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a config file."""

    #: The file as the operator named it.
    file: str
    #: Counted from 1; 0 when the problem is about the file as a whole.
    line: int
    #: Where in the document, as in `sources.shop.verify.type`.
    path: str
    message: str
    #: What would be right.
    hint: str | None = None
    #: Of a warning: which one it is.
    code: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {subject}{self.message}{hint}" + (f" [{self.code}]" if self.code else "")


class ConfigError(GatewayError):
    """A config that does not load. It holds every problem found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class StoreError(GatewayError):
    """The store can't do what was asked. The driver's own error is the cause."""


class StoreUnavailableError(StoreError):
    """Not now: locked, full, failing or too slow. Nothing of the batch was written."""


class StoreInUseError(StoreError):
    """Another process has the SQLite file open."""


class SchemaVersionError(StoreError):
    """The store has a newer schema than this version of Gatehouse knows."""


class RequestRejectedError(GatewayError):
    """A request that gets an error for an answer. Subclasses fix status, code and outcome."""

    #: HTTP status of the answer.
    status: ClassVar[int]
    #: The `code` in the JSON answer, and the name under which a source may override the status.
    code: ClassVar[str]
    #: The `outcome` label of `gatehouse_requests_total`.
    outcome: ClassVar[str]
    #: For the operator only: more about why.
    reason: str | None = None


class MalformedRequestError(RequestRejectedError):
    """Not HTTP as the parser understands it, or no handshake where only handshakes are answered."""

    status, code, outcome = 400, "bad_request", "malformed"


class VerificationError(RequestRejectedError):
    """The request did not prove where it comes from. `reason` is for logs and metrics only."""

    status, code, outcome = 401, "unauthorized", "unauthorized"

    def __init__(self, reason: Reason) -> None:
        super().__init__("the request could not be verified")
        self.reason: Reason = reason


class ForbiddenError(RequestRejectedError):
    """A handshake whose token is not one of the source's."""

    status, code, outcome = 403, "forbidden", "unauthorized"
    reason = "wrong_credentials"


class UnknownSourceError(RequestRejectedError):
    """No source is served at this path."""

    status, code, outcome = 404, "not_found", "not_found"


class MethodNotAllowedError(RequestRejectedError):
    """Providers POST; other methods are for handshakes. `allow` is what the source takes."""

    status, code, outcome = 405, "method_not_allowed", "method_not_allowed"

    def __init__(self, message: str, *, allow: str = "POST") -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeoutError(RequestRejectedError):
    """The body did not arrive within the request deadline."""

    status, code, outcome = 408, "timeout", "timeout"


class BodyTooLargeError(RequestRejectedError):
    """The body is longer than the source's `max_body`."""

    status, code, outcome = 413, "too_large", "too_large"


class UnsupportedEncodingError(RequestRejectedError):
    """The body is compressed; signatures are over the bytes sent, so it is not unpacked."""

    status, code, outcome = 415, "unsupported_encoding", "unsupported_encoding"


class UnavailableError(RequestRejectedError):
    """A fault of our own: the provider should send again, and will. `reason` is for logs only."""

    status, code, outcome = 503, "unavailable", "unavailable"

    def __init__(self, message: str, *, reason: Shortage) -> None:
        super().__init__(message)
        self.reason: Shortage = reason


class RelayFailedError(RequestRejectedError):
    """The destination gave no reply to relay. Nothing is stored: the provider's retry is no duplicate.

    `reason` is for logs only: that of the attempt, or why none was made.
    """

    status, code, outcome = 502, "bad_gateway", "relay_failed"
    told: ClassVar[str] = "the event could not be handed on; send it again later"

    def __init__(self, reason: RelayFault | OutcomeReason) -> None:
        super().__init__(self.told)
        self.reason: RelayFault | OutcomeReason = reason


class RelayTimeoutError(RelayFailedError):
    """The destination's reply did not come in the time that the provider waits."""

    status, code = 504, "gateway_timeout"
    told = "the event was not handled in time; send it again later"
