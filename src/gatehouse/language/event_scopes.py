"""From a verified request to what the templates of each of its events see: documents, batches, items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.language.document import MalformedDocumentError, check_structure, check_values
from gatehouse.language.scope import Scope, is_form
from gatehouse.language.split import Split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.language.document import Path
    from gatehouse.language.request import Request
    from gatehouse.language.template import Template


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
