"""Converts events to HTTP requests: CloudEvents 1.0 structured, binary or batched, or the provider's bytes.

Sources: the CloudEvents specification 1.0.2, its JSON format (4: batches), its HTTP protocol binding (3.3),
and its extension "Distributed Tracing"; W3C Trace Context.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from gatehouse.events.event import CONTENT_ENCODING
from gatehouse.language.patterns import matches
from gatehouse.language.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.events.event import Event

#: The format of one event. `element` and `batch` write several events in one POST.
Format = Literal["cloudevents", "cloudevents-binary", "cloudevents-batch", "raw"]

STRUCTURED_TYPE = "application/cloudevents+json; charset=utf-8"
BATCH_TYPE = "application/cloudevents-batch+json; charset=utf-8"

#: W3C Trace Context, version 00 and later versions.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

#: Headers that are never forwarded: credentials, headers for one hop, and headers that the gateway sets
#: itself.
_NEVER_FORWARDED = frozenset(
    (
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "idempotency-key",
        "keep-alive",
        "set-cookie",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "x-real-ip",
    )
)
_RESERVED = ("proxy-", "x-forwarded-", "webhook-", "gatehouse-", "ce-")


class _Structured(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The structured mode. The fields are sent in this order."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str | None = None
    datacontenttype: str | None = None
    provider: str
    account: str | None = None
    receivedtime: str
    gatehouseid: str | None = None
    traceparent: str | None = None
    data: msgspec.Raw | None = None
    data_base64: str | None = None


_encode = msgspec.json.Encoder().encode


def structured(event: Event, *, gatehouseid: str | None = None, traceparent: str | None = None) -> bytes:
    """Return an event as one JSON text. JSON data is inserted unchanged, so numbers keep every digit.

    In a batch, the extension attributes replace headers, which would apply to all events.
    """
    data = event.data
    as_json = data is not None and event.data_is_json
    return _encode(
        _Structured(
            specversion="1.0",
            id=event.external_id,
            source=event.path,
            type=event.type,
            time=event.time,
            subject=event.subject,
            datacontenttype=_content_type(event),
            provider=event.provider,
            account=event.account,
            receivedtime=rfc3339(event.received),
            gatehouseid=gatehouseid,
            traceparent=traceparent,
            data=msgspec.Raw(data) if data is not None and as_json else None,
            data_base64=base64.b64encode(data).decode() if data is not None and not as_json else None,
        )
    )


def batch_element(event: Event) -> bytes:
    """Return an event as an element of a batch, with its own idempotency key and trace."""
    return structured(event, gatehouseid=event.id, traceparent=traceparent(event))


def batch(elements: Iterable[bytes]) -> bytes:
    """Return the body of a batch."""
    return b"[%b]" % b",".join(elements)


def batch_id(event_ids: Iterable[str]) -> str:
    """Return the idempotency key of a batch. It is the same for the same events in any order.

    A destination must deduplicate single events by their `gatehouseid`, because an event may come again in
    another batch.
    """
    digest = hashlib.sha256(b"\n".join(sorted(one.encode() for one in event_ids)))
    return f"batch_{digest.hexdigest()[:32]}"


def traceparent(event: Event) -> str | None:
    """Return the `traceparent` header of an event if it is valid."""
    for name, value in event.headers:
        if name == "traceparent":
            return value if _TRACEPARENT.fullmatch(value) else None
    return None


def encode(
    event: Event, form: Format, *, allowed: tuple[str, ...] = (), replaced: frozenset[str] = frozenset()
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the POST, without signature and attempt number.

    `allowed` contains the patterns (lower case) of provider headers that are forwarded in the raw format.
    Headers in `replaced` (lower case, with `-` for `_`) are not forwarded.
    """
    if form == "cloudevents":
        return {"Content-Type": STRUCTURED_TYPE}, structured(event)
    if form == "cloudevents-binary":
        return _binary_headers(event), event.data or b""
    if form == "cloudevents-batch":
        return {"Content-Type": BATCH_TYPE}, batch([batch_element(event)])
    return _raw_headers(event, allowed, replaced), event.body


def may_forward(name: str) -> bool:
    """Return whether a header of the provider (lower case) may be forwarded at all.

    This is also checked on sending, because stored events may be older than the list.
    """
    return name not in _NEVER_FORWARDED and not name.startswith(_RESERVED)


def _raw_headers(event: Event, allowed: tuple[str, ...], replaced: frozenset[str]) -> dict[str, str]:
    headers = {
        name: header_text(value)
        for name, value in event.headers
        if may_forward(name) and any(matches(pattern, name) for pattern in allowed)
    }
    if replaced:
        # Many servers treat `_` and `-` in a name as the same.
        headers = {name: text for name, text in headers.items() if name.replace("_", "-") not in replaced}
    if event.content_type:
        headers["Content-Type"] = header_text(event.content_type)
    # Only a body that is stored compressed has this header, as the last one.
    if event.headers and event.headers[-1][0] == CONTENT_ENCODING:
        headers["Content-Encoding"] = header_text(event.headers[-1][1])
    return headers


def _binary_headers(event: Event) -> dict[str, str]:
    attributes = {
        "specversion": "1.0",
        "id": event.external_id,
        "source": event.path,
        "type": event.type,
        "time": event.time,
        "subject": event.subject,
        "provider": event.provider,
        "account": event.account,
        "receivedtime": rfc3339(event.received),
    }
    headers = {f"ce-{name}": _percent(value) for name, value in attributes.items() if value is not None}
    content_type = _content_type(event)
    return headers | ({"Content-Type": content_type} if content_type else {})


def _content_type(event: Event) -> str | None:
    if event.data_span is None:
        return None
    if event.data_is_json:
        return "application/json"
    return header_text(event.content_type) if event.content_type else "application/octet-stream"


def header_text(text: str) -> str:
    """Replace characters that a header value must not contain, so that no header can be injected."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _percent(text: str) -> str:
    """Percent-encode spaces, quotes, percent signs and all but printable ASCII (HTTP binding, 3.1.3.2)."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte not in b'"%' else f"%{byte:02X}"  # noqa: PLR2004
        for byte in text.encode()
    )
