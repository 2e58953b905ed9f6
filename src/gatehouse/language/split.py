"""Splits a verified request into events: batches, documents inside a body, and their items."""

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
    without_mark,
)
from gatehouse.language.scope import Scope, is_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.language.request import Request
    from gatehouse.language.template import Template

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


class EventScopes:
    """Finds the events of a source's requests."""

    def __init__(self, *, document: Template | None, split: Template | None) -> None:
        """`document` and `split` are those of the source's `event`."""
        self._document = document
        self._splits = tuple(map(Split, body_paths(split))) if split else ()
        #: Whether a request is one event, and its body the document.
        self.is_plain = not self._splits and document is None

    def of(self, request: Request, facts: Mapping[str, bytes]) -> tuple[Scope, ...]:
        """Return what the templates see of each event. Raises `MalformedDocumentError`."""
        whole = Scope(request, facts=facts)
        if self.is_plain:
            return (whole,)
        if self._document is not None:
            whole = self._inside(whole)
        for split in self._splits:
            if split.leads_anywhere(whole.document):
                return tuple(
                    Scope(request, facts=facts, body=raw, outer=outer + whole.outer, is_item=bool(outer))
                    for raw, outer in split.items(whole.body)
                )
        # A type from a header needs no body: a form sent again under another Content-Type would have one.
        if self._document is not None:
            check_structure(whole.body)
        return (whole,)

    def _inside(self, whole: Scope) -> Scope:
        """Return the document inside the body: of the first alternative that is there and has values to read.

        What is no JSON, as a plain text is, leaves the next alternative its turn.
        """
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
    """Return the paths of a template of lone `{body:path}`s; the empty path is the whole body."""
    return tuple(part.path for (part,) in template.alternatives if not isinstance(part, bytes))
