"""The body before a proxy or a tool changed it in several ways.

Bodies are tried with one change, with every pair of changes, and with some combinations of three. The number
of bodies and the bytes in them are limited, whatever the request contains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus

import msgspec

from gatehouse.diagnosis.json_forms import Json, Write, escapes, numbers
from gatehouse.diagnosis.request_variants import RequestVariant
from gatehouse.diagnosis.wording import BODY_CHANGED

if TYPE_CHECKING:
    from gatehouse.language.request import Request

_MAX_BODIES = 2500
#: The limit for all bodies together.
_MAX_BYTES = 4_000_000
#: The length of the longest body that is tried.
_MAX_LENGTH = 64 * 1024
_MAX_FIELDS = 1000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Phrases for the changes, and the body.
_Variant = tuple[tuple[str, ...], bytes]
#: Phrases for the way in which a text is written, and the function that writes it.
_Form = tuple[tuple[str, ...], Callable[[], str]]
_Change = Callable[[str], str]
#: Phrases for the way in which strings and numbers are written, and all of them.
_Leaves = tuple[tuple[str, ...], tuple[str, ...]]


def combined_bodies(request: Request) -> Iterator[RequestVariant]:
    """Iterate over the request with bodies that differ in several ways. Those with the fewest come first."""
    if len(request.body) > _MAX_LENGTH:
        return
    seen, written = {request.body}, 0
    for phrases, body in _variants(request):
        if body in seen:
            continue
        seen.add(body)
        written += len(body)
        if len(seen) > _MAX_BODIES or written > _MAX_BYTES:
            return
        condition = f"the body is written {', '.join(phrases)}"
        yield RequestVariant(condition, BODY_CHANGED, msgspec.structs.replace(request, body=body))


def _variants(request: Request) -> Iterator[_Variant]:
    """Iterate over the bodies: few changes first, and other orders of keys late, because there are many."""
    for least, most, orders in ((1, 2, False), (1, 2, True), (3, 3, False)):
        for charset, text in _texts(request.body):
            for form, write in _forms(text, request, orders=orders):
                if len(form) + bool(charset) <= most:
                    for phrases, body in _encoded(write(), charset):
                        if least <= len(form) + len(phrases) <= most:
                            yield (*form, *phrases), body


def _encoded(text: str, charset: str) -> Iterator[_Variant]:
    """Encode a text in each character set, with each kind of white space around it.

    `charset` is the phrase for the character set that `_texts` has already changed.
    """
    for encoding, data in _charsets(text, is_changed=bool(charset)):
        for frame, framed in _frames(data):
            yield tuple(filter(None, (charset or encoding, frame))), framed


def _texts(body: bytes) -> Iterator[tuple[str, str]]:
    """Decode the body. If it is not UTF-8, a proxy may have written it in another character set."""
    bare = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        text = bare.decode()
    except UnicodeDecodeError:
        for name, charset in (("Latin-1", "latin-1"), ("Windows-1252", "cp1252")):
            try:
                yield f"in UTF-8 instead of {name}", bare.decode(charset)
            except UnicodeDecodeError:
                continue
        return
    yield "", text
    try:
        once = text.encode("cp1252").decode()
    except UnicodeError:
        return
    if once != text:
        yield "in UTF-8 that is encoded only once", once


def _charsets(text: str, *, is_changed: bool) -> Iterator[tuple[str, bytes]]:
    yield "", text.encode("utf-8", "surrogatepass")
    if not is_changed and not text.isascii():
        try:
            yield "in Latin-1", text.encode("latin-1")
        except UnicodeEncodeError:
            return


def _frames(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Change the white space around the text, and the ends of its lines."""
    bare = data.strip(b" \t\r\n")
    yield "", data
    if bare != data:
        yield "without white space around it", bare
    yield "with a newline at its end", bare + b"\n"
    yield "with a byte order mark", _BYTE_ORDER_MARK + data
    yield "with CRLF at its end", bare + b"\r\n"
    if b"\n" in bare:
        unix = bare.replace(b"\r\n", b"\n")
        yield "with LF between its lines", unix
        yield "with CRLF between its lines", unix.replace(b"\n", b"\r\n")


def _forms(text: str, request: Request, *, orders: bool) -> Iterator[_Form]:
    """Iterate over the ways to write a text. With `orders`: JSON with its keys in every order."""
    if not orders:
        yield (), lambda: text
    if "form" in request.headers.get("Content-Type", "").lower():
        yield from () if orders else _encoded_forms(text)
        return
    try:
        document = Json(text)
    except (ValueError, IndexError, RecursionError):
        return
    own: _Leaves = ((), tuple(document.leaves))
    leaves = (own,) if orders else _leaves(tuple(document.leaves))
    for layout, order, written in document.orders() if orders else document.skeletons():
        for phrases, changed in leaves:
            all_phrases = tuple(filter(None, (layout, order, *phrases)))
            if all_phrases:
                yield all_phrases, partial(_write, written, changed)


def _write(written: Callable[[], Write], leaves: tuple[str, ...]) -> str:
    return written()(leaves)


def _leaves(leaves: tuple[str, ...]) -> tuple[_Leaves, ...]:
    """Write strings and numbers in every way. The received ones come first."""
    strings = {"": leaves} | {
        phrase: tuple(_or_same(change, leaf) if leaf[0] == '"' else leaf for leaf in leaves)
        for phrase, change in escapes().items()
    }
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    changes: dict[str, _Change] = {"": str, **numbers()}
    for (escape, texts), (number, change) in product(strings.items(), changes.items()):
        changed = tuple(_or_same(change, leaf) if _is_number(leaf) else leaf for leaf in texts)
        found.setdefault(changed, tuple(filter(None, (escape, number))))
    return tuple((phrases, changed) for changed, phrases in found.items())


def _is_number(leaf: str) -> bool:
    return leaf[0] in "-0123456789"


def _or_same(change: _Change, leaf: str) -> str:
    try:
        return change(leaf)
    except (ValueError, OverflowError):
        return leaf


def _encoded_forms(text: str) -> Iterator[_Form]:
    try:
        fields = parse_qsl(text.strip(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return
    orders = {"": fields, "with sorted fields": sorted(fields)}
    spaces = {"with + for a space": quote_plus, "with %20 for a space": quote}
    cases: dict[str, _Change] = {"": str, "with lowercase letters after %": _lowercase_escapes}
    tildes = {"": "~", "with %7E for ~": "%7E"}
    for (order, pairs), (space, encode), (case, change), (mark, tilde) in product(
        orders.items(), spaces.items(), cases.items(), tildes.items()
    ):
        written = "&".join(f"{encode(name, safe='')}={encode(value, safe='')}" for name, value in pairs)
        phrases = tuple(filter(None, (order, space, case, mark)))
        yield phrases, partial(change, written.replace("~", tilde))


def _lowercase_escapes(text: str) -> str:
    pieces = text.split("%")
    return "%".join([pieces[0], *(piece[:2].lower() + piece[2:] for piece in pieces[1:])])
