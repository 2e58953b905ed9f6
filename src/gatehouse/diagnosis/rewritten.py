"""What something in front may have done to a request: the same request as it may have been before.

Each variant comes with words that complete the sentence "it would verify …".
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.language.request import Request

_FRONT = "something in front changed the bytes"
#: JSON that takes longer to write out again than a diagnosis may take.
_LONGEST_JSON = 256 * 1024
_MOST_FIELDS = 1000


def other_bodies(request: Request, max_body: int) -> Iterator[tuple[str, Request]]:
    """Give the request with bodies that may have been signed instead: a fixed, small number of them."""
    seen = {request.body}
    for phrase, body in _bodies(request, max_body):
        if body not in seen and len(body) <= max_body:
            seen.add(body)
            yield phrase, msgspec.structs.replace(request, body=body)


def _bodies(request: Request, max_body: int) -> Iterator[tuple[str, bytes]]:
    body = request.body
    yield from _white_space(body)
    if request.headers.get("Content-Encoding"):
        yield "if the body were not compressed (Content-Encoding)", _unpacked(body, max_body)
    if len(body) <= _LONGEST_JSON:
        around = "" if body == body.strip() else ", without white space around it"
        yield from ((_rewritten(layout + around), written) for layout, written in _as_json(body))
        if "form" in request.headers.get("Content-Type", "").lower():
            yield from _as_form(body)


def _white_space(body: bytes) -> Iterator[tuple[str, bytes]]:
    if body.endswith((b"\n", b"\r")):
        without = "without the newline at the end of the body: an editor or a tool added it"
        yield without, body.removesuffix(b"\n").removesuffix(b"\r")
    yield "without the white space around the body", body.strip()
    yield f"with a newline at the end of the body: {_FRONT}", body + b"\n"
    unix = body.replace(b"\r\n", b"\n")
    yield f"with LF at the end of the body's lines instead of CRLF: {_FRONT}", unix
    yield f"with CRLF at the end of the body's lines instead of LF: {_FRONT}", unix.replace(b"\n", b"\r\n")
    yield "without the byte order mark at the start of the body", body.removeprefix(b"\xef\xbb\xbf")


def _unpacked(body: bytes, limit: int) -> bytes:
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, limit)
    except zlib.error:
        return body


def _as_json(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Write the JSON as the usual serialisers do; the first few keep every digit and every escape."""
    try:
        value = json.loads(body)
        for layout, indent in (("compact", -1), ("with a space after : and ,", 0), ("indented by 2", 2)):
            yield layout, msgspec.json.format(body, indent=indent)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return
    for layout, options in _LAYOUTS:
        yield layout, json.dumps(value, **options).encode("utf-8", "surrogatepass")
    compact = json.dumps(value, separators=(",", ":")).replace("/", "\\/")
    yield "compact, with \\/ as PHP writes it", compact.encode()
    yield "compact, with \\u003c as Go writes it", _as_go(value)


def _rewritten(layout: str) -> str:
    return f"if the JSON were written {layout}: {_FRONT}"


_COMPACT: dict[str, Any] = {"separators": (",", ":")}
#: The layouts of Python's `json.dumps`, and of JavaScript's `JSON.stringify` (compact, not escaped). Python's
#: with sorted keys is not among them: that is `{body_sorted}`, and tried as such.
_LAYOUTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("compact", {**_COMPACT, "ensure_ascii": False}),
    ("compact and escaped to ASCII", _COMPACT),
    ("as Python writes it", {}),
    ("as Python writes it, not escaped to ASCII", {"ensure_ascii": False}),
    ("compact with sorted keys", {**_COMPACT, "ensure_ascii": False, "sort_keys": True}),
    ("compact with sorted keys and escaped to ASCII", {**_COMPACT, "sort_keys": True}),
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
            body.decode("utf-8", "surrogateescape"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        return
    plus = urlencode(fields, errors="surrogateescape")
    spaces = urlencode(fields, quote_via=quote, errors="surrogateescape")
    yield f"if the form were encoded with + for a space: {_FRONT}", plus.encode()
    yield f"if the form were encoded with %20 for a space: {_FRONT}", spaces.encode()


def other_addresses(request: Request) -> Iterator[tuple[str, Request]]:
    """Give the request with other addresses that its provider may have used, for schemes that sign it."""
    seen = {request.public_url}
    for address in _public_urls(request):
        if address not in seen:
            seen.add(address)
            yield (
                f"with `public_url: {address}`",
                msgspec.structs.replace(request, public_url=address),
            )
    path = request.path.removesuffix("/") if request.path.endswith("/") else f"{request.path}/"
    slash = "without" if request.path.endswith("/") else "with"
    yield f"{slash} a slash at the end of the path", msgspec.structs.replace(request, path=path)
    if request.query:
        without = "without the query: it was added to the address, or is not signed"
        yield without, msgspec.structs.replace(request, query="")


def _public_urls(request: Request) -> Iterator[str]:
    """Combine the hosts that are known with both schemes, and with the ports that are usual or none."""
    configured = urlsplit(request.public_url)
    hosts = [configured.netloc, *_single(request, "X-Forwarded-Host"), *_single(request, "Host")]
    for host in dict.fromkeys(host for host in hosts if _is_host(host)):
        bare, _, port = host.partition(":")
        for scheme, usual in (("https", "443"), ("http", "80")):
            for end in dict.fromkeys(("", f":{usual}", f":{port}" if port else "", ":8080")):
                yield f"{scheme}://{bare}{end}"


def _single(request: Request, name: str) -> list[str]:
    return request.headers.getall(name, [])[:1]


def _is_host(text: str) -> bool:
    return bool(text) and len(text) <= 255 and all(c.isascii() and (c.isalnum() or c in ".-:") for c in text)  # noqa: PLR2004 - RFC 1035: no name is longer
