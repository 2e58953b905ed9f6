"""Splits a verified request into events: finds the document in the body and the items of a batch."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gatehouse.language.document import (
    Document,
    MalformedDocumentError,
    Path,
    check_structure,
    check_values,
    is_json,
    without_bom,
)
from gatehouse.language.scope import Scope, is_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.language.request import Request
    from gatehouse.language.template import Template

T = TypeVar("T")

#: The maximum number of items of one request. No provider sends nearly as many.
MAX_ITEMS = 10_000


class Item(NamedTuple):
    """One item of a batch."""

    #: Its exact bytes.
    raw: bytes
    #: The elements around the item, the nearest first. The last one is the whole document.
    outer: tuple[Document, ...]


class Split:
    """A path to items, such as `events`, `entry.*.changes` or `value.messages|statuses`.

    The empty path means that the document is the list. `*` stands for every element of a list, and `a|b` for
    both members. An element without a list at the rest of the path is an item itself, so that no new element
    of a provider is lost.
    """

    def __init__(self, path: Path) -> None:
        self._steps = tuple(_alternatives(step) for step in _steps(path))
        #: Whether the document itself is the list.
        self.is_root = not path

    def applies_to(self, document: Document) -> bool:
        """Return whether the document has a value at the start of the path."""
        return self.is_root or any(document.raw_unchecked(path) is not None for path in self._steps[0])

    def items(self, raw: bytes) -> list[Item]:
        """Return all items.

        Raises `MalformedDocumentError` if the bytes are not JSON or have too many items.
        """
        if self.is_root:
            raw = without_bom(raw)
            elements = _limited(_elements(raw))
            if elements == [raw]:
                return [Item(raw, ())]  # a single object is not an item
            return [Item(element, (Document(raw),)) for element in elements]
        return _limited(list(itertools.islice(_expanded(raw, (), self._steps), MAX_ITEMS + 1)))


def _limited(found: list[T]) -> list[T]:
    if len(found) > MAX_ITEMS:
        raise MalformedDocumentError("too many items")
    return found


def _steps(path: Path) -> Iterator[Path]:
    """Split a path at each `*`."""
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
    """Follow the first step into its lists, and the remaining steps into their elements."""
    document = Document(raw)
    lists = (
        [document.items(path) for path in steps[0] if _is_list(document.raw_unchecked(path))] if steps else []
    )
    if not lists:
        yield Item(raw, outer)
        return
    for element in itertools.chain.from_iterable(lists):
        yield from _expanded(element, (document, *outer), steps[1:])


def _is_list(raw: bytes | None) -> bool:
    return raw is not None and raw.startswith(b"[")


def _elements(raw: bytes) -> list[bytes]:
    """Return the elements of a list, a single object, or one object per line (JSON Lines)."""
    if raw.lstrip().startswith(b"["):
        return Document(raw).items(())
    if is_json(raw):
        return [raw]
    lines = _limited([line for line in raw.splitlines() if line.strip()])
    # A line that begins like an event but is unreadable must not affect the other lines.
    read = [is_json(line) for line in lines]
    begun = (is_read or line.lstrip().startswith(b"{") for is_read, line in zip(read, lines, strict=True))
    if len(lines) > 1 and any(read) and all(begun):
        return lines
    check_structure(raw)  # one object with unreadable parts
    return [raw]


class EventScopes:
    """Finds the events in the requests of a source."""

    def __init__(self, *, document: Template | None, split: Template | None) -> None:
        """`document` and `split` are the keys of the source's `event`."""
        self._document = document
        self._splits = tuple(map(Split, body_paths(split))) if split else ()
        #: Whether each request is one event whose body is the document.
        self.is_plain = not self._splits and document is None

    def of(self, request: Request, facts: Mapping[str, bytes]) -> tuple[Scope, ...]:
        """Return the scope of each event. Raises `MalformedDocumentError`."""
        whole = Scope(request, facts=facts)
        if self.is_plain:
            return (whole,)
        if self._document is not None:
            whole = self._inside(whole)
        for split in self._splits:
            if split.applies_to(whole.document):
                return tuple(
                    Scope(request, facts=facts, body=raw, outer=outer + whole.outer, is_item=bool(outer))
                    for raw, outer in split.items(whole.body)
                )
        # The event type may come from a header. Without this check, a form that is replayed with another
        # Content-Type would be an event.
        if self._document is not None:
            check_structure(whole.body)
        return (whole,)

    def _inside(self, whole: Scope) -> Scope:
        """Return the scope of the first alternative that resolves to JSON."""
        resolves = self._document.resolves if self._document else ()
        for number, resolve in enumerate(resolves, 1):
            try:
                document = resolve(whole)
                if document is None:
                    continue
                if number < len(resolves):
                    check_values(document)
            except MalformedDocumentError:
                continue
            if document is whole.body:
                return whole
            around = () if is_form(whole.request) else (whole.document,)
            return Scope(whole.request, facts=whole.facts, body=document, outer=around)
        raise MalformedDocumentError("no document")


def body_paths(template: Template) -> tuple[Path, ...]:
    """Return the path of each alternative of a `{body:path}` template. The empty path is the whole body."""
    return tuple(part.path for (part,) in template.alternatives if not isinstance(part, bytes))
