"""Parses one level of a JSON text with unreadable parts, in bounded time.

A lone surrogate escape is valid JSON (RFC 8259, 8.2), but strict parsers refuse it. Other texts contain NaN,
bytes that are not UTF-8, or a thousand brackets. This parser checks only the structure of one level. Callers
check each value when they need it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: The maximum number of members or elements. Parsing blocks all other requests.
MAX_VALUES: Final = 10_000
#: The maximum number of runs of brackets inside one value.
_MAX_RUNS: Final = 100_000
#: The depth that the pattern of a nested value covers. Deeper values are followed bracket by bracket.
_DEPTH = 8

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
#: The text between two brackets.
_FILL = rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+"
_SPACE = rb"[ \t\n\r]*+"


def _nested(depth: int) -> bytes:
    inner = rb"(?:" + _nested(depth - 1) + _FILL + rb")*+" if depth else b""
    return rb"[\[{]" + _FILL + inner + rb"[\]}]"


_VALUE = rb"(" + _STRING + rb"|[^\x00-\x20\"\[\]{},:]++|" + _nested(_DEPTH) + rb")"
_NAME = rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE
_NEXT = _SPACE + rb"([,\]}])" + _SPACE
_member = re.compile(_NAME + _VALUE + _NEXT, re.DOTALL).match
_element = re.compile(rb"()" + _VALUE + _NEXT, re.DOTALL).match
#: The name before a value that is nested too deeply for the pattern.
_named = re.compile(_NAME, re.DOTALL).match
_next = re.compile(_NEXT).match
_run = re.compile(_FILL + rb"([\[{]++|[\]}]++)", re.DOTALL).match
_begin = re.compile(_SPACE + rb"([\[{])" + _SPACE + rb"([\]}]" + _SPACE + rb")?").match

_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Unchecked(bytes):
    """A value that has not been parsed. Only its start and end are known."""

    __slots__ = ()


def without_lone_surrogates(raw: bytes) -> bytes:
    """Replace lone surrogate escapes by other characters. The structure of the JSON stays the same."""
    # After escaped backslashes are gone, every other backslash begins an escape.
    return _LONE_SURROGATE.sub(rb"\\u00", raw.replace(rb"\\", b"xx"))


def members(raw: bytes) -> list[tuple[str, Unchecked]]:
    """Return the members of an object in order. Raises `ValueError`."""
    return [(_decoded(name), value) for name, value in _values(raw, b"{", b"}", _member)]


def elements(raw: bytes) -> list[Unchecked]:
    """Return the elements of an array. Raises `ValueError`."""
    return [value for _, value in _values(raw, b"[", b"]", _element)]


def _values(
    raw: bytes, opening: bytes, closing: bytes, match: Callable[[bytes, int], re.Match[bytes] | None]
) -> list[tuple[bytes, Unchecked]]:
    begun = _begin(raw)
    if begun is None or begun[1] != opening:
        raise ValueError("not an object or array")
    found: list[tuple[bytes, Unchecked]] = []
    at, last = begun.end(), begun[2]
    while last is None:
        whole = match(raw, at)
        if whole is not None:
            name, value, after = whole[1], whole[2], whole
        else:
            name, value, after = _deep(raw, at, is_named=match is _member)
        found.append((name, Unchecked(value)))
        end = after[after.lastindex or 0]
        if len(found) > MAX_VALUES or end not in (b",", closing):
            raise ValueError("too many values, or no end of one")
        at, last = after.end(), None if end == b"," else end
    if at != len(raw) or (begun[2] or closing).strip() != closing:
        raise ValueError("text after the end")
    return found


def _deep(raw: bytes, at: int, *, is_named: bool) -> tuple[bytes, bytes, re.Match[bytes]]:
    """Return name and bytes of a value that is too deep for the pattern, and the match after it."""
    name = _named(raw, at) if is_named else None
    start = name.end() if name else at
    if (is_named and name is None) or raw[start : start + 1] not in (b"[", b"{"):
        raise ValueError("no value")
    end = _closed(raw, start)
    after = _next(raw, end)
    if after is None:
        raise ValueError("no end of a value")
    return name[1] if name else b"", raw[start:end], after


def _closed(raw: bytes, start: int) -> int:
    """Return the end of the object or array that begins at `start`."""
    depth, at = 0, start
    for _ in range(_MAX_RUNS):
        run = _run(raw, at)
        if run is None:
            break
        brackets, at = run[1], run.end()
        if brackets[0] in b"[{":
            depth += len(brackets)
        elif len(brackets) < depth:
            depth -= len(brackets)
        else:
            return at - len(brackets) + depth
    raise ValueError("no end of an object or array, or too many brackets")


def _decoded(name: bytes) -> str:
    """Decode a name.

    With bytes that are not UTF-8 or lone surrogates, it becomes a name that no path contains.
    """
    if b"\\" not in name:
        return name[1:-1].decode("utf-8", "surrogateescape")
    return str(json.loads(name.decode("utf-8", "surrogateescape"), strict=False))
