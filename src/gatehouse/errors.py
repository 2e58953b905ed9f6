"""Defines every error that Gatehouse raises on purpose, as one tree.

GatewayError                        a message, and a hint
├─ ConfigError                      all problems of a config file, each with its file and line
├─ StoreError
│   ├─ StoreUnavailableError        503 to the provider, so that it retries
│   ├─ StoreInUseError              another process has the SQLite file open
│   └─ SchemaVersionError           a newer version of Gatehouse wrote the store
└─ RequestRejectedError             an error answer to a provider: status, code, outcome
    ├─ UnknownSourceError           404
    ├─ ForbiddenError               403
    ├─ MethodNotAllowedError        405
    ├─ RequestTimeoutError          408
    ├─ BodyTooLargeError            413
    ├─ UnsupportedEncodingError     415
    ├─ MalformedRequestError        400
    ├─ VerificationError            401, with the reason for the operator only
    ├─ UnavailableError             503, with Retry-After
    └─ RelayFailedError             502, a fault of the destination
        └─ RelayTimeoutError        504
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

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

#: Why verification failed: a label of `gatehouse_verification_failures_total`. The sender never sees it.
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
UnavailableReason = Literal[
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
    "redirect",  # 3xx, which is never followed
    "gone",  # 410
    "rejected",  # other 4xx
    "throttled",  # 408, 425, 429
    "server_error",  # 5xx
    "timeout",  # no reply within the timeout of the destination
    "dns",  # the host name has no address
    "connect",  # connection refused, or host unreachable
    "tls",  # no trusted TLS connection
    "disconnected",  # connection closed before a reply
    "invalid_reply",  # not HTTP, or an invalid status
    "unsendable",  # the gateway could not build a request from the event
    "corrupt",  # the event is damaged in the store, so no attempt was made
)

#: Why an event could not be relayed without a failed attempt: the `reason` in the log line of the request.
RelayFault = Literal["paused", "breaker_open", "unusable_reply", "no_destination"]


#: Why something does not allow what an operator asks for: the `code` of an answer with the status 409.
ConflictCode = Literal["busy", "paused", "breaker_closed", "not_ready", "cannot_sign", "no_sample"]


class GatewayError(Exception):
    """The base class: a message, and a hint about what to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Problem(NamedTuple):
    """One problem of a config file."""

    #: The file as the operator named it.
    file: str
    #: Counted from 1. 0 means the whole file.
    line: int
    #: The path of the key, such as `sources.shop.verify.type`.
    path: str
    message: str
    #: What to do.
    hint: str | None = None
    #: The code of a warning, such as `GH01`.
    code: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {subject}{self.message}{hint}" + (f" [{self.code}]" if self.code else "")


class ConfigError(GatewayError):
    """An invalid config, with every problem in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class StoreError(GatewayError):
    """A store operation failed. The cause is the error of the driver."""


class StoreUnavailableError(StoreError):
    """The store is locked, full, failing or too slow. It wrote nothing of the batch."""


class StoreInUseError(StoreError):
    """Another process has the SQLite file open."""


class SchemaVersionError(StoreError):
    """The store has a newer schema than this version of Gatehouse supports."""


class ConflictError(GatewayError):
    """The state of something does not allow what an operator asks for."""

    def __init__(self, code: ConflictCode, message: str) -> None:
        super().__init__(message)
        self.code: ConflictCode = code


class RequestRejectedError(GatewayError):
    """A request that gets an error answer. Subclasses define status, code and outcome."""

    #: HTTP status of the answer.
    status: ClassVar[int]
    #: The `code` in the JSON answer, and the name under which a source may override the status.
    code: ClassVar[str]
    #: The `outcome` label of `gatehouse_requests_total`.
    outcome: ClassVar[str]
    #: The reason in detail, for the operator only.
    reason: str | None = None


class MalformedRequestError(RequestRejectedError):
    """The request is not valid HTTP, or it is not a handshake although only handshakes are possible."""

    status, code, outcome = 400, "bad_request", "malformed"


class VerificationError(RequestRejectedError):
    """Verification failed. `reason` is for logs and metrics only."""

    status, code, outcome = 401, "unauthorized", "unauthorized"

    def __init__(self, reason: Reason) -> None:
        super().__init__("the request could not be verified")
        self.reason: Reason = reason


class ForbiddenError(RequestRejectedError):
    """The token of a handshake is not one of the source."""

    status, code, outcome = 403, "forbidden", "unauthorized"
    reason = "wrong_credentials"


class UnknownSourceError(RequestRejectedError):
    """No source has this path."""

    status, code, outcome = 404, "not_found", "not_found"


class MethodNotAllowedError(RequestRejectedError):
    """The source does not accept this method. `allow` lists the methods that it accepts."""

    status, code, outcome = 405, "method_not_allowed", "method_not_allowed"

    def __init__(self, message: str, *, allow: str = "POST") -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeoutError(RequestRejectedError):
    """The body did not arrive within the request deadline."""

    status, code, outcome = 408, "timeout", "timeout"


class BodyTooLargeError(RequestRejectedError):
    """The body is larger than the source's `max_body`."""

    status, code, outcome = 413, "too_large", "too_large"


class UnsupportedEncodingError(RequestRejectedError):
    """The body is compressed. Signatures cover the bytes as sent, so the gateway does not decompress it."""

    status, code, outcome = 415, "unsupported_encoding", "unsupported_encoding"


class UnavailableError(RequestRejectedError):
    """A fault of the gateway. The provider should retry. `reason` is for logs only."""

    status, code, outcome = 503, "unavailable", "unavailable"

    def __init__(self, message: str, *, reason: UnavailableReason) -> None:
        super().__init__(message)
        self.reason: UnavailableReason = reason


class RelayFailedError(RequestRejectedError):
    """The destination gave no reply that can be relayed.

    Nothing is stored, so a retry of the provider is not a duplicate. `reason` is for logs only. It is the
    reason of the attempt, or why there was no attempt.
    """

    status, code, outcome = 502, "bad_gateway", "relay_failed"
    answer_text: ClassVar[str] = "the event could not be handed on; send it again later"

    def __init__(self, reason: RelayFault | OutcomeReason) -> None:
        super().__init__(self.answer_text)
        self.reason: RelayFault | OutcomeReason = reason


class RelayTimeoutError(RelayFailedError):
    """The destination did not reply within the time that the provider waits."""

    status, code = 504, "gateway_timeout"
    answer_text = "the event was not handled in time; send it again later"
