"""The request before a proxy or a tool changed its body or its address in one way."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from gatehouse.diagnosis.wording import BODY_CHANGED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.language.request import Request

#: Longer JSON, in bytes, takes too long to write again.
_MAX_JSON = 256 * 1024
_MAX_FIELDS = 1000
#: RFC 1035: no host name is longer.
_MAX_HOST = 255


class RequestVariant(NamedTuple):
    """A request that differs from the received one."""

    #: The difference, as a condition: "the body ends with a newline".
    condition: str
    #: What to do if this request verifies.
    advice: str
    request: Request


def other_bodies(request: Request, max_body: int) -> Iterator[RequestVariant]:
    """Iterate over the request with bodies that may have been signed. Their number is small and fixed.

    `max_body` is the length limit of a body, in bytes.
    """
    seen = {request.body}
    for condition, advice, body in _bodies(request, max_body):
        if body not in seen and len(body) <= max_body:
            seen.add(body)
            yield RequestVariant(condition, advice, msgspec.structs.replace(request, body=body))


def _bodies(request: Request, max_body: int) -> Iterator[tuple[str, str, bytes]]:
    body = request.body
    yield from _white_space(body)
    if request.headers.get("Content-Encoding"):
        advice = "The provider signs the data before it compresses it: set `decode: {verify: decoded}`."
        yield "the body is decompressed", advice, _unpacked(body, max_body)
    if len(body) <= _MAX_JSON:
        around = "" if body == body.strip() else ", without white space around it"
        for layout, written in _as_json(body):
            yield f"the JSON in the body is written {layout}{around}", BODY_CHANGED, written
        if "form" in request.headers.get("Content-Type", "").lower():
            for encoding, written in _as_form(body):
                yield f"the form in the body is encoded {encoding}", BODY_CHANGED, written


def _white_space(body: bytes) -> Iterator[tuple[str, str, bytes]]:
    if body.endswith((b"\n", b"\r")):
        advice = "A tool added the newline, usually an editor. Send and save bodies byte for byte."
        yield (
            "the newline at the end of the body is removed",
            advice,
            body.removesuffix(b"\n").removesuffix(b"\r"),
        )
    yield "the white space around the body is removed", BODY_CHANGED, body.strip()
    yield "the body ends with a newline", BODY_CHANGED, body + b"\n"
    unix = body.replace(b"\r\n", b"\n")
    yield "the lines of the body end with LF instead of CRLF", BODY_CHANGED, unix
    yield "the lines of the body end with CRLF instead of LF", BODY_CHANGED, unix.replace(b"\n", b"\r\n")
    marked = "the byte order mark at the start of the body is removed"
    yield marked, BODY_CHANGED, body.removeprefix(b"\xef\xbb\xbf")


def _unpacked(body: bytes, limit: int) -> bytes:
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, limit)
    except zlib.error:
        return body


def _as_json(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Write the JSON as the usual serializers do. The first three layouts keep each digit and escape."""
    try:
        value = json.loads(body)
        for layout, indent in (
            ("in compact form", -1),
            ("with a space after : and ,", 0),
            ("with 2 spaces of indentation", 2),
        ):
            yield layout, msgspec.json.format(body, indent=indent)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return
    for layout, options in _LAYOUTS:
        yield layout, json.dumps(value, **options).encode("utf-8", "surrogatepass")
    compact = json.dumps(value, separators=(",", ":")).replace("/", "\\/")
    yield "in compact form, with \\/ as PHP writes it", compact.encode()
    yield "in compact form, with \\u003c as Go writes it", _as_go(value)


_COMPACT: dict[str, Any] = {"separators": (",", ":")}
#: The layouts of Python's `json.dumps`, and of JavaScript's `JSON.stringify` (compact, not escaped). Python's
#: layout with sorted keys is `{body_sorted}`, which is tried as a change of `signed`.
_LAYOUTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("in compact form", {**_COMPACT, "ensure_ascii": False}),
    ("in compact form, escaped to ASCII", _COMPACT),
    ("as Python writes it", {}),
    ("as Python writes it, not escaped to ASCII", {"ensure_ascii": False}),
    ("in compact form with sorted keys", {**_COMPACT, "ensure_ascii": False, "sort_keys": True}),
    ("in compact form with sorted keys, escaped to ASCII", {**_COMPACT, "sort_keys": True}),
    ("as Python writes it with sorted keys, not escaped", {"sort_keys": True, "ensure_ascii": False}),
)


def _as_go(value: object) -> bytes:
    text = json.dumps(value, **_COMPACT, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "surrogatepass")


def _as_form(body: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        fields = parse_qsl(
            body.decode("utf-8", "surrogateescape"), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        return
    yield "with + for a space", urlencode(fields, errors="surrogateescape").encode()
    yield "with %20 for a space", urlencode(fields, quote_via=quote, errors="surrogateescape").encode()


def other_addresses(request: Request) -> Iterator[RequestVariant]:
    """Iterate over the request with other addresses that the provider may have signed."""
    seen = {request.public_url}
    for url in _public_urls(request):
        if url not in seen:
            seen.add(url)
            advice = f"Set `server.public_url` to it; it is now {request.public_url or 'not set'}."
            changed = msgspec.structs.replace(request, public_url=url)
            yield RequestVariant(f"the provider sends to {url}", advice, changed)
    advice = (
        "Enter the address at the provider as it arrives at Gatehouse, or stop the proxy from changing it."
    )
    has_slash = request.path.endswith("/")
    path = request.path.removesuffix("/") if has_slash else f"{request.path}/"
    condition = f"the path ends {'without' if has_slash else 'with'} a slash"
    yield RequestVariant(condition, advice, msgspec.structs.replace(request, path=path))
    if request.query:
        without = "the query string is left out"
        reason = "The provider does not sign it, or a proxy added it: remove it from the address."
        yield RequestVariant(without, reason, msgspec.structs.replace(request, query=""))


def _public_urls(request: Request) -> Iterator[str]:
    """Combine each known host with both schemes and with the usual ports."""
    configured = urlsplit(request.public_url)
    hosts = [configured.netloc, *_first(request, "X-Forwarded-Host"), *_first(request, "Host")]
    for host in dict.fromkeys(host for host in hosts if _is_host(host)):
        bare, _, port = host.partition(":")
        for scheme, usual in (("https", "443"), ("http", "80")):
            for end in dict.fromkeys(("", f":{usual}", f":{port}" if port else "", ":8080")):
                yield f"{scheme}://{bare}{end}"


def _first(request: Request, name: str) -> list[str]:
    return request.headers.getall(name, [])[:1]


def _is_host(text: str) -> bool:
    return 0 < len(text) <= _MAX_HOST and all(c.isascii() and (c.isalnum() or c in ".-:") for c in text)
