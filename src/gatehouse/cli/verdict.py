"""What the gateway would make of a saved request: the steps that ingest takes, with no store behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gatehouse.config import describe
from gatehouse.diagnosis.diagnose import diagnose
from gatehouse.diagnosis.known import known_sources
from gatehouse.errors import (
    BodyTooLargeError,
    GatewayError,
    MethodNotAllowedError,
    RequestRejectedError,
    UnsupportedEncodingError,
    VerificationError,
)
from gatehouse.verify.remote_keys import RemoteKeys

if TYPE_CHECKING:
    from gatehouse.config.model import Config
    from gatehouse.config.secrets import Secrets
    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.events.event import Event
    from gatehouse.ingest.source import Source
    from gatehouse.language.request import Request

#: How a dedupe key that is kept as a hash begins, and how long it is then.
_HASH_MARK, _HASHED = b"sha256:", 39


class Verdict(NamedTuple):
    """The verdict, as `--json` prints it."""

    verified: bool
    #: The scheme, in words; None when nothing was verified.
    by: str | None
    #: Why it is refused: the verifier's reason, or else the outcome that it counts as.
    reason: str | None
    #: What to look at.
    findings: tuple[str, ...]
    #: The handshake that it is, instead of events.
    handshake: str | None = None
    events: tuple[dict[str, Any], ...] = ()
    #: When it says that it was signed (unix seconds).
    signed_at: float | None = None


async def judge(source: Source, request: Request, now: float, config: Config, secrets: Secrets) -> Verdict:
    """Take a request for one that arrives at `now` (unix seconds). Raises `GatewayError`.

    Keys that the provider publishes are fetched as the gateway does, from the addresses that it pins.
    """
    if source.not_ready is not None:
        hint = "set it right where this command runs; gatehouse check lists what is missing"
        raise GatewayError(f"source {source.name} can't verify: {source.not_ready}", hint=hint)
    keys = RemoteKeys()
    missing: RequestRejectedError | None = None
    try:
        missing = (await keys.prepare(source.name, source.verification.needed(request, now), request)).missing
        return _accepted(source, request, now)
    except VerificationError as error:
        if missing is not None:
            return _refused(source, request, missing)
        known = known_sources(config.sources, secrets, config.server.max_body, keys)
        own = next(one for one in known if one.name == source.name)
        found = diagnose(request, own, known, now, error.reason)
        notes = (*found.findings, *_notes(source, request))
        return Verdict(
            verified=False, by=None, reason=error.reason, findings=notes, signed_at=found.signed_at
        )
    except RequestRejectedError as error:
        return _refused(source, request, error)
    finally:
        await keys.close()


def _accepted(source: Source, request: Request, now: float) -> Verdict:
    """Do as ingest does. Raises `RequestRejectedError`."""
    _check_limits(source, request)
    by, notes = describe.verification(source.settings), _notes(source, request)
    if source.handshakes and (reply := source.handshakes.unverified(request)):
        return Verdict(verified=True, by=None, reason=None, findings=notes, handshake=reply.handshake)
    verified = source.verification.verify(request, now)
    if source.handshakes and (reply := source.handshakes.verified(verified)):
        return Verdict(verified=True, by=by, reason=None, findings=notes, handshake=reply.handshake)
    read = source.reader.read(verified, now, ())
    events = tuple(_event(source, event, keys) for event, keys, _ in read)
    return Verdict(verified=True, by=by, reason=None, findings=notes, events=events)


def _refused(source: Source, request: Request, error: RequestRejectedError) -> Verdict:
    findings = (error.message, *_notes(source, request))
    return Verdict(verified=False, by=None, reason=error.reason or error.outcome, findings=findings)


def _check_limits(source: Source, request: Request) -> None:
    if request.method not in source.methods:
        raise MethodNotAllowedError(f"only {', '.join(source.methods)} is served here")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedEncodingError("send the body without Content-Encoding")
    if len(request.body) > source.max_body:
        raise BodyTooLargeError(f"the body is longer than {source.max_body} bytes")


def _notes(source: Source, request: Request) -> tuple[str, ...]:
    if request.path == source.path:
        return ()
    return (f"it was sent to another path than the source's, {source.path}",)


def _event(source: Source, event: Event, keys: tuple[DedupeKey | None, ...]) -> dict[str, Any]:
    return {
        "id": event.external_id,
        "type": event.type,
        "time": event.time,
        "subject": event.subject,
        "account": event.account,
        "keys": [None if key is None else _key(key.key) for key in keys],
        "destinations": list(source.route(event.type)),
    }


def _key(key: bytes) -> str:
    if key.startswith(_HASH_MARK) and len(key) == _HASHED:
        return _HASH_MARK.decode() + key.removeprefix(_HASH_MARK).hex()
    return key.decode("utf-8", "replace")
