"""Batches: the elements of a request's lists, each with what encloses it. None is ever left out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gatehouse.language.document import (
    Document,
    MalformedDocumentError,
    Path,
    check_structure,
    is_json,
    without_mark,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

#: No provider sends nearly as many events in one request.
MAX_ITEMS = 10_000


class Item(NamedTuple):
    """One element of a batch."""

    #: Its exact bytes.
    raw: bytes
    #: The elements that enclose it, the nearest first; the last is the whole document.
    outer: tuple[Document, ...]


class Split:
    """A way to the elements: `events`, `entry.*.changes`, `value.messages|statuses`; empty for a list itself.

    `*` stands for every element of a list, `a|b` for both members. An element that has no list where the way
    leads is an item itself, so that what a provider adds is not lost.
    """

    def __init__(self, path: Path) -> None:
        self._steps = tuple(_alternatives(step) for step in _steps(path))
        #: Whether the document itself is the list.
        self.is_root = not path

    def leads_anywhere(self, document: Document) -> bool:
        """Tell whether the document has anything where the way begins."""
        return self.is_root or any(document.found(path) is not None for path in self._steps[0])

    def items(self, raw: bytes) -> list[Item]:
        """Return every item. Raises `MalformedDocumentError` for what is not JSON, or has too many."""
        if self.is_root:
            raw = without_mark(raw)
            elements = _counted(_elements(raw))
            if elements == [raw]:
                return [Item(raw, ())]  # an object alone is no item of anything
            return [Item(element, (Document(raw),)) for element in elements]
        return _counted(list(itertools.islice(_expanded(raw, (), self._steps), MAX_ITEMS + 1)))


def _counted(found: list[T]) -> list[T]:
    if len(found) > MAX_ITEMS:
        raise MalformedDocumentError("too many items")
    return found


def _steps(path: Path) -> Iterator[Path]:
    """Cut a path where it has a `*`."""
    step: list[str] = []
    for segment in path:
        if segment == "*":
            yield tuple(step)
            step = []
        else:
            step.append(segment)
    yield tuple(step)


def _alternatives(step: Path) -> tuple[Path, ...]:
    return tuple(itertools.product(*(segment.split("|") for segment in step)))


def _expanded(raw: bytes, outer: tuple[Document, ...], steps: tuple[tuple[Path, ...], ...]) -> Iterator[Item]:
    """Follow the first step into its lists, and the others into their elements."""
    document = Document(raw)
    lists = [document.items(path) for path in steps[0] if _is_list(document.found(path))] if steps else []
    if not lists:
        yield Item(raw, outer)
        return
    for element in itertools.chain.from_iterable(lists):
        yield from _expanded(element, (document, *outer), steps[1:])


def _is_list(raw: bytes | None) -> bool:
    return raw is not None and raw.startswith(b"[")


def _elements(raw: bytes) -> list[bytes]:
    """Read a list, one object alone, or an object per line (JSON Lines)."""
    if raw.lstrip().startswith(b"["):
        return Document(raw).items(())
    if is_json(raw):
        return [raw]
    lines = _counted([line for line in raw.splitlines() if line.strip()])
    # A line that begins as an event and can't be read does not take the others with it.
    read = [is_json(line) for line in lines]
    begun = (is_read or line.lstrip().startswith(b"{") for is_read, line in zip(read, lines, strict=True))
    if len(lines) > 1 and any(read) and all(begun):
        return lines
    check_structure(raw)  # one object after all, with something in it that can't be read
    return [raw]
