"""What a proxy or tool may have done to a request: the request as it may have been sent.

Bodies are tried with one change, with every pair of changes, and with some triples. The number of tries and
of bytes written is bounded, whatever the request contains.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit

import msgspec

from gatehouse.diagnosis.json_forms import Json, Write, escapes, numbers

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


_MOST_TRIES = 2500
_MOST_BYTES = 4_000_000
_LONGEST = 64 * 1024
_MARK = b"\xef\xbb\xbf"

#: Words for what was changed, and the bytes.
Variant = tuple[tuple[str, ...], bytes]
#: Words for how a text is written, and what writes it.
Form = tuple[tuple[str, ...], Callable[[], str]]
Change = Callable[[str], str]
#: Words for how strings and numbers are written, and all of them.
Leaves = tuple[tuple[str, ...], tuple[str, ...]]


def combined_bodies(request: Request) -> Iterator[tuple[str, Request]]:
    """Give the request with bodies that differ in several ways from what came, with words for all of them.

    Those with the fewest changes come first. The words complete the sentence "it would verify …".
    """
    if len(request.body) > _LONGEST:
        return
    seen, written = {request.body}, 0
    for words, body in _variants(request):
        if body in seen:
            continue
        seen.add(body)
        written += len(body)
        if len(seen) > _MOST_TRIES or written > _MOST_BYTES:
            return
        phrase = f"if the body were written {', '.join(words)}: something in front changed the bytes"
        yield phrase, msgspec.structs.replace(request, body=body)


def _variants(request: Request) -> Iterator[Variant]:
    """Give what can be written: few changes first, and orders of keys that nobody can know late."""
    for least, most, orders in ((1, 2, False), (1, 2, True), (3, 3, False)):
        for read, text in _texts(request.body):
            for form, write in _forms(text, request, orders=orders):
                before = len(form) + bool(read)
                if before <= most:
                    for words, body in _written(write(), read=read):
                        if least <= len(form) + len(words) <= most:
                            yield (*form, *words), body


def _written(text: str, *, read: str) -> Iterator[Variant]:
    """Give a text as bytes, in each character set and frame."""
    for charset, data in _charsets(text, read=bool(read)):
        for frame, framed in _frames(data):
            yield tuple(filter(None, (read or charset, frame))), framed


def _texts(body: bytes) -> Iterator[tuple[str, str]]:
    """Give the body as text; what is no UTF-8 may have been before someone took it for Latin-1."""
    bare = body.removeprefix(_MARK)
    try:
        text = bare.decode()
    except UnicodeDecodeError:
        for name, charset in (("Latin-1", "latin-1"), ("Windows-1252", "cp1252")):
            try:
                yield f"in UTF-8 and not in {name}", bare.decode(charset)
            except UnicodeDecodeError:
                continue
        return
    yield "", text
    try:
        once = text.encode("cp1252").decode()
    except UnicodeError:
        return
    if once != text:
        yield "encoded to UTF-8 once and not twice", once


def _charsets(text: str, *, read: bool) -> Iterator[tuple[str, bytes]]:
    data = text.encode("utf-8", "surrogatepass")
    yield "", data
    if not read and not text.isascii():
        try:
            yield "in Latin-1", text.encode("latin-1")
        except UnicodeEncodeError:
            return


def _frames(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Change what stands around and between the lines."""
    bare = data.strip(b" \t\r\n")
    yield "", data
    if bare != data:
        yield "without white space around it", bare
    yield "with a newline at its end", bare + b"\n"
    yield "with a byte order mark", _MARK + data
    yield "with CRLF at its end", bare + b"\r\n"
    if b"\n" in bare:
        unix = bare.replace(b"\r\n", b"\n")
        yield "with LF between its lines", unix
        yield "with CRLF between its lines", unix.replace(b"\n", b"\r\n")


def _forms(text: str, request: Request, *, orders: bool) -> Iterator[Form]:
    """Give the ways to write a text, each with what writes it; `orders`: JSON with its keys in any order."""
    if not orders:
        yield (), lambda: text
    if "form" in request.headers.get("Content-Type", "").lower():
        yield from () if orders else _form_variants(text)
        return
    try:
        document = Json(text)
    except (ValueError, IndexError, RecursionError):
        return
    own: Leaves = ((), tuple(document.leaves))
    leaves = (own,) if orders else _leaves(tuple(document.leaves))
    for layout, order, written in document.orders() if orders else document.skeletons():
        for words, changed in leaves:
            said = tuple(filter(None, (layout, order, *words)))
            if said:
                yield said, partial(_write, written, changed)


def _write(written: Callable[[], Write], leaves: tuple[str, ...]) -> str:
    return written()(leaves)


def _leaves(leaves: tuple[str, ...]) -> tuple[Leaves, ...]:
    """Give strings and numbers in all the ways in which they may be written, what came first."""
    strings = {"": leaves} | {
        words: tuple(_or_same(change, leaf) if leaf[0] == '"' else leaf for leaf in leaves)
        for words, change in escapes().items()
    }
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    changes: dict[str, Change] = {"": str, **numbers()}
    for (escape, texts), (number, change) in product(strings.items(), changes.items()):
        changed = tuple(_or_same(change, leaf) if _is_number(leaf) else leaf for leaf in texts)
        found.setdefault(changed, tuple(filter(None, (escape, number))))
    return tuple((words, changed) for changed, words in found.items())


def _is_number(leaf: str) -> bool:
    return leaf[0] in "-0123456789"


def _or_same(change: Change, leaf: str) -> str:
    try:
        return change(leaf)
    except (ValueError, OverflowError):
        return leaf


def _form_variants(text: str) -> Iterator[Form]:
    try:
        fields = parse_qsl(text.strip(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return
    orders = {"": fields, "with sorted fields": sorted(fields)}
    spaces = {"with + for a space": quote_plus, "with %20 for a space": quote}
    cases: dict[str, Change] = {"": str, "with small letters behind %": _small}
    marks = {"": "~", "with ~ as %7E": "%7E"}
    for (order, pairs), (space, encode), (case, change), (mark, tilde) in product(
        orders.items(), spaces.items(), cases.items(), marks.items()
    ):
        written = "&".join(f"{encode(name, safe='')}={encode(value, safe='')}" for name, value in pairs)
        said = tuple(filter(None, (order, space, case, mark)))
        yield said, partial(change, written.replace("~", tilde))


def _small(text: str) -> str:
    pieces = text.split("%")
    return "%".join([pieces[0], *(piece[:2].lower() + piece[2:] for piece in pieces[1:])])
