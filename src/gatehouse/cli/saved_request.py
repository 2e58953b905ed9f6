"""Parses a saved HTTP request, and verifies it as the gateway does, but without a store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from multidict import CIMultiDict

from gatehouse.config import describe
from gatehouse.diagnosis.before_verification import about_error
from gatehouse.diagnosis.diagnose import diagnose
from gatehouse.diagnosis.known import known_sources
from gatehouse.errors import (
    BodyTooLargeError,
    GatewayError,
    MethodNotAllowedError,
    RequestRejectedError,
    VerificationError,
)
from gatehouse.ingest.body import Bodies, check_codings
from gatehouse.ingest.decoding import EncodedRequest, encoded_request
from gatehouse.language.request import Request
from gatehouse.verify.remote_keys import RemoteKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.model import Config
    from gatehouse.config.secrets import Secrets
    from gatehouse.events.event import ReadEvent
    from gatehouse.ingest.source import Source

#: The blank line after the headers. Lines end with CRLF or LF, or some with each if an editor changed them.
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+)( HTTP/[0-9](\.[0-9])?)?", re.ASCII)
_URL = re.compile(r"https?://[^/?#]+(.*)", re.ASCII)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.ASCII)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[^\r\n]*)?\r?\n")
_MAX_HEADERS = 1000
_FORM = "save it as: POST /path HTTP/1.1, headers, a blank line, and the body byte for byte"
_HEADER_FORM = "write each header on a line of its own, as Name: value"
_CHUNKED = (
    "save the body as it was received; or save the decoded body, and remove the header Transfer-Encoding"
)

#: The start of a hashed dedupe key, and the length of the whole key in bytes.
_HASH_PREFIX, _HASHED_LENGTH = b"sha256:", 39


def parse_request(raw: bytes, *, public_url: str = "", client: str = "") -> Request:
    """Parse a saved request. Raises `GatewayError`, which names the part that is not HTTP.

    Every byte of the body is kept, but a chunked body is decoded.
    """
    head, body = _split(raw)
    first, *lines = head.decode("utf-8", "surrogateescape").split("\n")
    method, path, query = _request_line(first.removesuffix("\r"))
    headers: CIMultiDict[str] = CIMultiDict(_headers(lines))
    if headers.get("Transfer-Encoding", "").lower().endswith("chunked"):
        body = _decode_chunks(body)
    return Request(method, path, query, headers, body, public_url, client)


def _split(raw: bytes) -> tuple[bytes, bytes]:
    raw = raw.lstrip(b"\r\n")
    if not raw:
        raise GatewayError("the file is empty", hint=_FORM)
    blank = _BLANK_LINE.search(raw)
    if blank is None:
        raise GatewayError("no blank line ends the headers", hint=_FORM)
    return raw[: blank.start()], raw[blank.end() :]


def _request_line(line: str) -> tuple[str, str, str]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise GatewayError("line 1: not the first line of an HTTP request", hint=_FORM)
    target = match[2]
    if not target.startswith("/"):  # a request to a proxy contains the whole URL
        url = _URL.fullmatch(target)
        if url is None:
            raise GatewayError("line 1: neither a path nor a URL", hint=_FORM)
        target = url[1] if url[1].startswith("/") else f"/{url[1]}"
    path, _, query = target.partition("#")[0].partition("?")
    return match[1], path, query


def _headers(lines: list[str]) -> Iterator[tuple[str, str]]:
    if len(lines) > _MAX_HEADERS:
        raise GatewayError(f"more than {_MAX_HEADERS} headers", hint=_FORM)
    for number, line in enumerate(lines, 2):
        match = _HEADER.fullmatch(line.removesuffix("\r"))
        if match is None:
            # The error does not repeat the line, which may contain a credential.
            raise GatewayError(f"line {number}: not a header", hint=_HEADER_FORM)
        yield match[1], match[2]


def _decode_chunks(body: bytes) -> bytes:
    """Decode a chunked body. Many tools decode it but save the header: such a body is returned unchanged."""
    if not _CHUNK_SIZE.match(body):
        return body
    chunks: list[bytes] = []
    position = 0
    while True:
        size = _CHUNK_SIZE.match(body, position)
        if size is None:
            raise GatewayError(f"the chunked body is invalid at byte {position}", hint=_CHUNKED)
        length, start = int(size[1], 16), size.end()
        if not length:
            return b"".join(chunks)
        chunks.append(body[start : start + length])
        if len(chunks[-1]) < length:
            raise GatewayError("the chunked body ends before its last chunk", hint=_CHUNKED)
        position = _skip_line_end(body, start + length)


def _skip_line_end(body: bytes, position: int) -> int:
    if body.startswith(b"\r\n", position):
        return position + 2
    return position + body.startswith(b"\n", position)


class Verdict(NamedTuple):
    """The result of a verification. `--json` prints these members."""

    verified: bool
    #: A description of the scheme. None if nothing was verified.
    by: str | None
    #: The reason for the refusal: the one of the verifier, or the outcome that the metrics count.
    reason: str | None
    #: What was found and what to do, as full sentences.
    findings: tuple[str, ...]
    #: The name of the handshake, if the request is one. A handshake has no events.
    handshake: str | None = None
    events: tuple[dict[str, Any], ...] = ()
    #: When the request was signed, according to its timestamp (Unix seconds).
    signed_at: float | None = None
    #: The findings about a refusal, each with its parts, as in the API.
    explained: tuple[dict[str, Any], ...] = ()


async def verify_request(
    source: Source, request: Request, now: float, config: Config, secrets: Secrets
) -> Verdict:
    """Verify a request as if it arrived at `now` (Unix seconds). Raises `GatewayError`.

    Like the gateway, it fetches the provider's public keys, and only from the pinned addresses.
    """
    if source.not_ready is not None:
        hint = "set the secret in the environment of this command; gatehouse check lists what is missing"
        raise GatewayError(f"source {source.name} can't verify: {source.not_ready}", hint=hint)
    keys = RemoteKeys()
    missing: RequestRejectedError | None = None
    try:
        missing = (
            await keys.prepare(source.name, source.verification.needing_keys(request, now), request)
        ).unavailable
        _check_limits(source, request)
        if encoded := encoded_request(request, source, Bodies()):
            request = await encoded.before_verification()
        return await _accepted(source, request, now, encoded)
    except VerificationError as error:
        if missing is not None:
            return _refused(source, request, missing)
        known = known_sources(config.sources, secrets, config.server.max_body, keys)
        own = next(one for one in known if one.name == source.name)
        diagnosis = diagnose(request, own, known, now, error.reason)
        return Verdict(
            verified=False,
            by=None,
            reason=error.reason,
            findings=(*diagnosis.findings, *_notes(source, request)),
            explained=tuple(finding._asdict() for finding in diagnosis.explained),
            signed_at=diagnosis.signed_at,
        )
    except RequestRejectedError as error:
        return _refused(source, request, error)
    finally:
        await keys.close()


async def _accepted(source: Source, request: Request, now: float, encoded: EncodedRequest | None) -> Verdict:
    """Process the request as ingest does. Raises `RequestRejectedError`."""
    by, notes = describe.verification(source.settings), _notes(source, request)
    if source.handshakes and (reply := source.handshakes.before_verification(request)):
        return Verdict(verified=True, by=None, reason=None, findings=notes, handshake=reply.handshake)
    if encoded is None:
        verified = source.verification.verify(request, now)
    else:
        verified = source.verification.without_age.verify(request, now)
        verified = await encoded.after_verification(verified, source.verification.age, now)
    if source.handshakes and (reply := source.handshakes.after_verification(verified)):
        return Verdict(verified=True, by=by, reason=None, findings=notes, handshake=reply.handshake)
    read = (source.reader if encoded is None else encoded).read(verified, now, ())
    events = tuple(_event(source, one) for one in read)
    return Verdict(verified=True, by=by, reason=None, findings=notes, events=events)


def _refused(source: Source, request: Request, error: RequestRejectedError) -> Verdict:
    finding = about_error(error, request, source.name, source.max_body)
    return Verdict(
        verified=False,
        by=None,
        reason=error.reason or error.outcome,
        findings=(finding.text, *_notes(source, request)),
        explained=(finding._asdict(),),
    )


def _check_limits(source: Source, request: Request) -> None:
    if request.method not in source.methods:
        methods = " or ".join(source.methods)
        message = f"the method is {request.method}, but the source accepts only {methods}"
        raise MethodNotAllowedError(message, allow=methods)
    check_codings(request.headers.getall("Content-Encoding", ()), source.codings)
    if len(request.body) > source.max_body:
        length, limit = len(request.body), source.max_body
        raise BodyTooLargeError(f"the body has {length} bytes, but `max_body` is {limit} bytes")


def _notes(source: Source, request: Request) -> tuple[str, ...]:
    if request.path == source.path:
        return ()
    return (f"The request was sent to another path. The path of the source is {source.path}.",)


def _event(source: Source, read: ReadEvent) -> dict[str, Any]:
    event, keys, scope = read
    return {
        "id": event.external_id,
        "type": event.type,
        "time": event.time,
        "subject": event.subject,
        "account": event.account,
        "keys": [None if key is None else _printable_key(key.key) for key in keys],
        "destinations": list(source.destinations(event.type, scope)),
    }


def _printable_key(key: bytes) -> str:
    if key.startswith(_HASH_PREFIX) and len(key) == _HASHED_LENGTH:
        return _HASH_PREFIX.decode() + key.removeprefix(_HASH_PREFIX).hex()
    return key.decode("utf-8", "replace")
