"""What the models refuse, as problems: the path as the file has it, its line, and what would be right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from gatehouse.config.model import Config
from gatehouse.config.words import expected, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails

    from gatehouse.config.document import Path, YamlDocument
    from gatehouse.config.presets import Merged
    from gatehouse.errors import Problem


def model_problems(
    details: Iterable[ErrorDetails], merged: Merged, document: YamlDocument
) -> Iterator[Problem]:
    """Turn pydantic's errors into problems, without those that only follow from another one."""
    for detail in details:
        path = merged.in_file(_path(detail["loc"], merged.data))
        if detail["type"] == "union_tag_invalid":
            path = (*path, "type")
        follows = detail["type"] == "missing" and path[:-1] in document.incomplete
        if path not in document.unreadable and not follows:
            message, hint = _words(detail)
            yield document.problem(path, message, hint)


def _path(location: Path, data: Any) -> Path:
    """Follow pydantic's location through the data; the 0 of a value that stands for a list is not in it."""
    path: Path = ()
    for step in _without_tags(location):
        if isinstance(step, int) and not isinstance(data, tuple):
            continue
        path = (*path, step)
        data = _member(data, step)
    return path


def _without_tags(location: Path) -> Path:
    """Leave out what is no part of the file: the type in `sources.NAME.verify.0.TYPE`, and a last `[key]`."""
    if location[-1:] == ("[key]",):
        location = location[:-1]
    if location[:1] == ("sources",) and location[2:3] == ("verify",):
        location = location[:4] + location[5:]
    if location[:1] == ("sources",) and location[2:5:2] == ("handshakes", "proof"):
        location = location[:5] + location[6:]
    return location


def _member(data: Any, step: int | str) -> Any:
    if isinstance(data, dict):
        return data.get(step)
    if isinstance(data, tuple) and isinstance(step, int) and step < len(data):
        return data[step]
    return None


#: pydantic's kind of error → message and hint. Nothing here repeats the value.
_WORDS = {
    "string_type": ("has to be text", "put it in quotes"),
    "string_unicode": ("has to be text", "without lone surrogates"),
    "tuple_type": ("has to be a list", "in brackets: […]"),
    "bool_type": ("has to be true or false", "without quotes"),
    "union_tag_not_found": ("needs a type", "type: hmac, token, basic or none"),
    "model_type": ("has to be keys and values", "as in {key: value}"),
}
_SAME = {
    "model_attributes_type": "model_type",
    "dict_type": "model_type",
    "mapping_type": "model_type",
}


def _words(detail: ErrorDetails) -> tuple[str, str]:
    location, context = detail["loc"], detail.get("ctx", {})
    match detail["type"]:
        case "gatehouse":
            return context["problem"], context["hint"]
        case "extra_forbidden":
            return "unknown key", expected(str(location[-1]), _fields(location[:-1]))
        case "missing":
            return "is needed", _fields(location[:-1]).get(str(location[-1]), "")
        case "union_tag_invalid":
            return f'unknown type "{shown(context["tag"])}"', expected(
                context["tag"], _listed(context["expected_tags"])
            )
        case "literal_error":
            return (
                "not one of the possible values",
                f"expected one of: {', '.join(_listed(context['expected']))}",
            )
    kind = _SAME.get(detail["type"], detail["type"])
    return _WORDS.get(kind, ("not a possible value", "see docs/configuration.md"))


def _listed(names: str) -> list[str]:
    return names.replace(" or ", ", ").replace("'", "").split(", ")


def _fields(location: Path) -> dict[str, str]:
    """Name the keys that are possible at a location, each with its meaning."""
    models: list[type[BaseModel]] = [Config]
    for depth, step in enumerate(location):
        is_name = depth == 1 and location[0] in ("sources", "destinations")
        if isinstance(step, str) and not is_name:
            models = [found for model in models for found in _models_at(model, step)] or models
    return {
        field.alias or name: field.description or ""
        for model in models
        for name, field in model.model_fields.items()
    }


def _models_at(model: type[BaseModel], step: str) -> list[type[BaseModel]]:
    """Follow one step: a key of the model, or the tag that tells a verifier's type."""
    tag = model.model_fields.get("type")
    if tag is not None and step in getattr(tag.annotation, "__args__", ()):
        return [model]
    return _models_in(model.model_fields[step].annotation) if step in model.model_fields else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
