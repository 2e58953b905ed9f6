"""Sets, removes and renames values in the document of a sample: JSON, a form, or JSON in a field of a form.

Values that are not on the path keep their bytes, so `45.50` stays `45.50`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import msgspec

from gatehouse.errors import GatewayError
from gatehouse.language.document import Document, MalformedDocumentError, Path, with_value
from gatehouse.language.placeholders import steps
from gatehouse.language.split import body_paths
from gatehouse.language.template import Placeholder
from gatehouse.samples.sample import Sample, is_form

if TYPE_CHECKING:
    from gatehouse.config.model import ProviderConfig

#: Makes new JSON of a value's JSON.
Edit = Callable[[bytes], bytes]


def with_setting(sample: Sample, settings: ProviderConfig, path: str, value: str) -> Sample:
    """Set the value at a dotted path of the body: `data.object.amount`, or `0.objectId` in a list.

    A value that is JSON is set as JSON, and any other value as text. A missing member is added. Raises
    `GatewayError` if the path leads through a value that is neither an object nor a list.
    """
    try:
        raw = msgspec.json.encode(msgspec.json.decode(value, type=msgspec.Raw))
    except (msgspec.MsgspecError, ValueError):
        raw = msgspec.json.encode(value)
    try:
        return edited_document(sample, settings, lambda document: with_value(document, steps(path), raw))
    except MalformedDocumentError as error:
        hint = "name members of objects, and elements of lists by numbers from 0: --set data.items.0.amount=5"
        raise GatewayError(f'the body has no place for "{path}"', hint=hint) from error


def edited_document(sample: Sample, settings: ProviderConfig, edit: Edit) -> Sample:
    """Edit the document that `{body:…}` reads. Raises `MalformedDocumentError`."""
    template = settings.event.document
    alternatives = template.alternatives if template else ((Placeholder("form"),), (Placeholder("body"),))
    for part in (parts[0] for parts in alternatives if isinstance(parts[0], Placeholder)):
        if part.name != "form":
            return replace(sample, body=_laid_out(edit(sample.body), sample.body))
        if not is_form(sample):
            continue
        fields = dict(parse_qsl(sample.body.decode(), keep_blank_values=True))
        if not part.argument:
            changed = msgspec.json.decode(edit(msgspec.json.encode(fields)), type=dict[str, msgspec.Raw])
            return _with_fields(sample, {name: _as_text(bytes(raw)) for name, raw in changed.items()})
        if part.argument in fields:
            inside = edit(fields[part.argument].encode()).decode()
            return _with_fields(sample, fields | {part.argument: inside})
    raise MalformedDocumentError("it is neither JSON nor a form")


def edited_items(sample: Sample, settings: ProviderConfig, edit: Edit) -> Sample:
    """Edit the JSON of each event: each item of a batch, or the document. Raises `MalformedDocumentError`."""
    splits = body_paths(settings.event.split) if settings.event.split else ()

    def each(document: bytes) -> bytes:
        for path in splits:
            start = path[0].split("|") if path else [""]
            is_list = document.lstrip().startswith(b"[")
            if is_list if not path else any(Document(document).raw((name,)) is not None for name in start):
                return _edited(document, (*path, "*"), edit)
        return edit(document)

    return edited_document(sample, settings, each)


def without(raw: bytes, path: Path) -> bytes:
    """Remove the member at a path, if it is there. Raises `MalformedDocumentError`."""

    def remove(parent: bytes) -> bytes:
        return _object({name: value for name, value in _members(parent).items() if name != path[-1]})

    return raw if Document(raw).raw(path) is None else _edited(raw, path[:-1], remove)


def renamed(raw: bytes, old: str, new: str) -> bytes:
    """Rename a member of an object."""
    return _object({new if name == old else name: value for name, value in _members(raw).items()})


def with_field(sample: Sample, name: str, value: str | None) -> Sample:
    """Set a field of a form, or remove it."""
    fields: dict[str, str] = dict(parse_qsl(sample.body.decode(), keep_blank_values=True))
    fields.pop(name, None) if value is None else fields.update({name: value})
    return _with_fields(sample, fields)


def _laid_out(changed: bytes, like: bytes) -> bytes:
    """Write JSON in lines if the other one is."""
    try:
        return msgspec.json.format(changed, indent=2) if b"\n" in like.strip() else changed
    except (msgspec.MsgspecError, ValueError):
        return changed  # several documents, one per line


def _edited(raw: bytes, path: Path, edit: Edit) -> bytes:
    """Edit what is at a path, in which `*` is each element of a list and `a|b` each of two members."""
    if not path:
        return edit(raw)
    if raw.lstrip().startswith(b"["):
        elements = Document(raw).items(())
        chosen = [path[0] in ("*", str(number)) for number in range(len(elements))]
        edited = [
            _edited(one, path[1:], edit) if is_chosen else one
            for one, is_chosen in zip(elements, chosen, strict=True)
        ]
        return b"[" + b", ".join(edited) + b"]"
    if path[0] == "*":  # an element without a list is an item itself
        return edit(raw)
    names = path[0].split("|")
    members = _members(raw)
    if not any(name in members for name in names):
        return edit(raw)
    return _object(
        {name: _edited(value, path[1:], edit) if name in names else value for name, value in members.items()}
    )


def _members(raw: bytes) -> dict[str, bytes]:
    try:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedDocumentError("it is not a JSON object") from error
    return {name: bytes(value) for name, value in members.items()}


def _object(members: dict[str, bytes]) -> bytes:
    return b"{" + b", ".join(msgspec.json.encode(name) + b": " + raw for name, raw in members.items()) + b"}"


def _as_text(raw: bytes) -> str:
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()


def _with_fields(sample: Sample, fields: dict[str, str]) -> Sample:
    return replace(sample, body=urlencode(fields).encode())
