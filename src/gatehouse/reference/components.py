"""The JSON Schemas of what the operator's API reads and answers, made from its types."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/"


def components(types: Iterable[type]) -> dict[str, Schema]:
    """Make the schema of each type, and of each type in it, by name."""
    _, found = msgspec.json.schema_components(types, ref_template=REFERENCE + "{name}")
    known = {one.__name__: one for top in types for one in _with_members(top)}
    return {name: _in_order(schema, known[name]) for name, schema in sorted(found.items())}


def members(asked: type) -> Schema:
    """Make the schema of a typed dict that stands for itself, as that of a query."""
    return components([asked])[asked.__name__]


def reference(shapes: tuple[type, ...]) -> Schema:
    """Refer to one type, or to any of several."""
    refs = [{"$ref": REFERENCE + shape.__name__} for shape in shapes]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def example(schema: Schema, known: Mapping[str, Schema]) -> Any:  # noqa: PLR0911 - JSON of any kind
    """Compose an example of the examples of the parts."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example(known[schema["$ref"].removeprefix(REFERENCE)], known)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], known)
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        needed = [name for name in schema["properties"] if name in schema.get("required", ())]
        shown = needed + [name for name in schema["properties"] if _is_likely(name, schema, needed)]
        order = [name for name in schema["properties"] if name in shown]
        return {name: example(schema["properties"][name], known) for name in order}
    if schema["type"] == "array":
        return [example(schema["items"], known)]
    return {"string": "…", "integer": 1, "boolean": True}[schema["type"]]


def _is_likely(name: str, schema: Schema, needed: list[str]) -> bool:
    """Tell whether an optional member belongs in an example: it has one of its own."""
    return name not in needed and "examples" in schema["properties"][name]


def _with_members(shape: type, seen: tuple[type, ...] = ()) -> Iterable[type]:
    """Yield a typed dict, and each one that its members hold."""
    if shape in seen:
        return
    yield shape
    for member in _types_in(msgspec.inspect.type_info(shape)):
        yield from _with_members(member, (*seen, shape))


def _types_in(info: Any) -> Iterable[type]:
    for field in getattr(info, "fields", ()):
        yield from _dicts(field.type)


def _dicts(info: Any) -> Iterable[type]:
    if isinstance(info, msgspec.inspect.TypedDictType):
        yield info.cls
    inner = [getattr(info, name, None) for name in ("type", "item_type", "value_type")]
    for one in (*inner, *getattr(info, "types", ())):
        if isinstance(one, msgspec.inspect.Type):
            yield from _dicts(one)


def _in_order(schema: Schema, shape: type) -> Schema:
    """Put the members in the order of the type, as they are in the JSON; tidy the docstring."""
    places = {name: place for place, name in enumerate(shape.__annotations__)}
    properties = dict(sorted(schema["properties"].items(), key=lambda item: places.get(item[0], math.inf)))
    required = sorted(schema.get("required", ()), key=lambda name: places.get(name, math.inf))
    return schema | {
        "description": inspect.cleandoc(schema["description"]),
        "properties": properties,
        "required": required,
    }
