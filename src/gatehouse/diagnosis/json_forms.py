"""Writes one JSON text in other forms, which differ in layout, escapes, numbers and the order of keys.

The text is parsed once. A form changes only what it names: everything else stays as it was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import islice, permutations
from typing import NamedTuple

_TOKEN = re.compile(
    r'\s*(?:("(?:[^"\\]|\\.)*")|(-?[0-9][0-9.eE+-]*)|(true|false|null)|([\[\]{}:,]))', re.DOTALL
)
#: The group of punctuation in `_TOKEN`.
_PUNCTUATION = 4
_MAX_DEPTH = 100
#: Every order is tried if the outermost object has at most this many keys.
_MAX_ORDERED = 5
#: All orders of a text with more leaves would be too many bytes.
_MAX_LEAVES = 200
#: Longer numbers are not amounts of money, so they are not written with two decimals.
_MAX_DIGITS = 20
#: JavaScript writes larger numbers with an exponent.
_MAX_WHOLE = 1e15
_HTML = "<>&\u2028\u2029"

#: Writes the text with these leaves.
Write = Callable[[tuple[str, ...]], str]
#: Phrases for the layout and for the order of keys, and a function that makes their `Write`.
Skeleton = tuple[str, str, Callable[[], Write]]


class Layout(NamedTuple):
    """The text between the tokens."""

    colon: str
    comma: str
    #: The indentation of each level. None puts everything on one line.
    indent: str | None = None


LAYOUTS: dict[str, Layout] = {
    "in compact form": Layout(":", ","),
    "with a space after : and ,": Layout(": ", ", "),
    "with a space after :": Layout(": ", ","),
    "with 2 spaces of indentation": Layout(": ", ",", "  "),
    "with 4 spaces of indentation": Layout(": ", ",", "    "),
    "with tabs as indentation": Layout(": ", ",", "\t"),
}


class Json:
    """A parsed JSON text. Raises `ValueError` if the text is not JSON, or nested too deeply."""

    def __init__(self, text: str) -> None:
        json.loads(text, parse_constant=_no_constant)  # stricter than the pattern
        #: Strings, numbers, `true`, `false` and `null`, as they are written.
        self.leaves: list[str] = []
        tokens = list(_TOKEN.finditer(text))
        self._root, end = self._node(
            [(match.lastindex or 0, match[match.lastindex or 0]) for match in tokens], 0, 0
        )
        if end != len(tokens):
            raise ValueError("not one JSON value")
        self._gaps = _gaps(text, tokens)

    def _node(self, tokens: list[tuple[int, str]], at: int, depth: int) -> tuple[object, int]:
        kind, token = tokens[at]
        if depth > _MAX_DEPTH:
            raise ValueError("too deep")
        if kind != _PUNCTUATION:
            self.leaves.append(token)
            return len(self.leaves) - 1, at + 1
        pairs: list[tuple[object, object]] = []
        at += 1
        while tokens[at][1] not in ("]", "}") or tokens[at][0] != _PUNCTUATION:
            if tokens[at] == (_PUNCTUATION, ","):
                at += 1
            key: object = None
            if token == "{":  # noqa: S105 - punctuation
                key, at = self._node(tokens, at, depth + 1)
                at += 1
            value, at = self._node(tokens, at, depth + 1)
            pairs.append((key, value))
        return _Members(token, pairs), at + 1

    def skeletons(self) -> Iterator[Skeleton]:
        """Iterate over the layouts, with the keys as received and sorted. The first one changes nothing."""
        yield "", "", lambda: self._as_received
        for layout, separators in LAYOUTS.items():
            yield layout, "", cache(partial(_writer, self._root, separators))
        by_key = self._sorted(self._root)
        for layout, separators in LAYOUTS.items():
            yield layout, "with sorted keys", cache(partial(_writer, by_key, separators))

    def orders(self) -> Iterator[Skeleton]:
        """Iterate over the layouts with the outermost keys in every order, if there are few keys."""
        root = self._root
        if not isinstance(root, _Members) or root.opening != "{" or len(self.leaves) > _MAX_LEAVES:
            return
        if len(root.pairs) <= _MAX_ORDERED:
            for pairs in islice(permutations(root.pairs), 1, None):
                for layout, separators in LAYOUTS.items():
                    members = _Members("{", list(pairs))
                    yield layout, "with its keys in another order", partial(_writer, members, separators)

    def _as_received(self, leaves: tuple[str, ...]) -> str:
        return "".join(leaf for pair in zip(self._gaps, [*leaves, ""], strict=True) for leaf in pair)

    def _key(self, pair: tuple[object, object]) -> str:
        index = pair[0]
        return str(json.loads(self.leaves[index])) if isinstance(index, int) else ""

    def _sorted(self, node: object) -> object:
        if not isinstance(node, _Members):
            return node
        pairs = [(key, self._sorted(value)) for key, value in node.pairs]
        if node.opening == "{":
            pairs.sort(key=self._key)
        return _Members(node.opening, pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class _Members(NamedTuple):
    """An object or a list."""

    opening: str
    pairs: list[tuple[object, object]]


def _gaps(text: str, tokens: list[re.Match[str]]) -> list[str]:
    """Return the text before, between and after the leaves."""
    gaps, end = [], 0
    for match in tokens:
        if match.lastindex != _PUNCTUATION:
            start = match.start(match.lastindex or 0)
            gaps.append(text[end:start])
            end = match.end()
    return [*gaps, text[end:]]


def _writer(root: object, layout: Layout) -> Write:
    """Compute the texts between the leaves and the order of the leaves once, for many writes."""
    gaps, order = [""], []

    def walk(node: object, level: int) -> None:
        if not isinstance(node, _Members):
            order.append(node)
            gaps.append("")
            return
        closing = "}" if node.opening == "{" else "]"
        gaps[-1] += node.opening
        for index, (key, value) in enumerate(node.pairs):
            gaps[-1] += ("" if index == 0 else layout.comma) + _line(layout, level + 1)
            if key is not None:
                walk(key, level + 1)
                gaps[-1] += layout.colon
            walk(value, level + 1)
        gaps[-1] += (_line(layout, level) if node.pairs else "") + closing

    walk(root, 0)

    def write(leaves: tuple[str, ...]) -> str:
        pieces = [piece for gap, leaf in zip(gaps, order, strict=False) for piece in (gap, leaves[leaf])]  # type: ignore[call-overload]
        return "".join(pieces) + gaps[-1]

    return write


def _line(layout: Layout, level: int) -> str:
    return "" if layout.indent is None else "\n" + layout.indent * level


def escapes() -> dict[str, Callable[[str], str]]:
    """Return the ways to write a string. Each function takes the string as it is written now."""
    return {
        "without escapes": _plain,
        "escaped to ASCII": lambda text: json.dumps(json.loads(text)),
        "escaped to ASCII with uppercase letters": lambda text: _uppercase(json.dumps(json.loads(text))),
        "with \\/ as PHP writes it": lambda text: json.dumps(json.loads(text)).replace("/", "\\/"),
        "with \\/ and without other escapes": lambda text: _plain(text).replace("/", "\\/"),
        "with \\u003c as Go writes it": lambda text: _escaped(_plain(text), _HTML),
        "escaped as .NET does": lambda text: _uppercase(_dot_net(text)),
    }


def _plain(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False)


def _escaped(text: str, characters: str) -> str:
    return text.translate({ord(character): f"\\u{ord(character):04x}" for character in characters})


def _dot_net(text: str) -> str:
    inner = json.dumps(json.loads(text))[1:-1].replace('\\"', "\\u0022")
    return '"' + _escaped(inner, "<>&'+`\x7f") + '"'


def _uppercase(text: str) -> str:
    return re.sub(r"(?<!\\)((?:\\\\)*\\u)([0-9a-f]{4})", lambda match: match[1] + match[2].upper(), text)


def numbers() -> dict[str, Callable[[str], str]]:
    """Return the ways to write a number. Each function takes the number as it is written now."""
    return {
        "with numbers as short as possible": _shortest,
        "with two decimals in fractions": lambda text: _decimals(text, whole=False),
        "with two decimals in all numbers": lambda text: _decimals(text, whole=True),
        "with .0 after whole numbers": lambda text: text if _is_fraction(text) else f"{text}.0",
    }


def _is_fraction(text: str) -> bool:
    return any(character in text for character in ".eE")


def _shortest(text: str) -> str:
    if not _is_fraction(text):
        return text
    value = float(text)
    return str(int(value)) if value.is_integer() and abs(value) < _MAX_WHOLE else repr(value)


def _decimals(text: str, *, whole: bool) -> str:
    return f"{float(text):.2f}" if (whole or _is_fraction(text)) and len(text) < _MAX_DIGITS else text
