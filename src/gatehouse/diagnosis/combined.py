"""Bodies that were rewritten in more than one way: every pair of what proxies and tools do, and some triples.

A fixed number of them is tried, and a fixed number of bytes written: what it takes is bounded, whatever came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus

import msgspec

from gatehouse.diagnosis.json_forms import Json, Write, escapes, numbers

if TYPE_CHECKING:
    from gatehouse.language.request import Request

_MOST_TRIES = 2500
_MOST_BYTES = 4_000_000
_LONGEST = 64 * 1024
_MOST_FIELDS = 1000
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
        yield from () if orders else _as_form(text)
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


def _as_form(text: str) -> Iterator[Form]:
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
