"""Loads a config file: reads it, merges presets, validates it, and reports every problem at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from gatehouse import providers
from gatehouse.config.document import YamlDocument, read_yaml
from gatehouse.config.hints import escaped, key_hint, suggest_name, type_hint, value_hint
from gatehouse.config.location import read_text
from gatehouse.config.model import Config
from gatehouse.config.presets import Merged, with_presets
from gatehouse.config.route_conditions import condition_problems
from gatehouse.config.rules import rule_problems
from gatehouse.config.source_rules import source_problems
from gatehouse.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails

    from gatehouse.config.document import KeyPath


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid config, and the directory of its file. Relative paths start there."""

    config: Config
    document: YamlDocument
    directory: Path
    #: The content of the file.
    text: bytes = b""


def load(file: Path) -> LoadedConfig:
    """Load a config file. Raises `ConfigError` with all its problems."""
    return parse(read_text(file), str(file), file.absolute().parent)


def parse(text: str | bytes, file: str = "gateway.yaml", directory: Path = Path()) -> LoadedConfig:
    """Load a config from text. Raises `ConfigError` with all its problems, in the order of the file."""
    document = read_yaml(text, file)
    if not isinstance(document.data, dict):
        hint = "add sources: {…}, destinations: {…} and routes: […]"
        raise ConfigError([*document.problems, Problem(file, 1, "", "the file contains no keys", hint)])
    merged = with_presets(document)
    config, refused = _validate(merged, document)
    problems = [
        *document.problems,
        *merged.problems,
        *refused,
        *rule_problems(merged.data, document),
        *condition_problems(merged.data, document),
        *source_problems(merged, document),
    ]
    if config is None or problems:
        raise ConfigError(_in_order(problems))
    return LoadedConfig(config, document, directory, text if isinstance(text, bytes) else text.encode())


def _validate(merged: Merged, document: YamlDocument) -> tuple[Config | None, list[Problem]]:
    try:
        return Config.model_validate(merged.data), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return None, list(model_problems(details, merged, document))


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort problems by line and path, and remove those that two checks reported."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.path))


def model_problems(
    details: Iterable[ErrorDetails], merged: Merged, document: YamlDocument
) -> Iterator[Problem]:
    """Convert pydantic's errors to problems. Skip those that only follow from another one."""
    for detail in details:
        path = merged.in_file(_path(detail["loc"], merged.data))
        if detail["type"] == "union_tag_invalid":
            path = (*path, "type")
        follows = detail["type"] == "missing" and path[:-1] in document.incomplete
        if path not in document.unreadable and not follows:
            message, hint = _explain(detail, _value(merged.data, _path(detail["loc"], merged.data)))
            yield document.problem(path, message, hint)


def _path(location: KeyPath, data: Any) -> KeyPath:
    """Convert pydantic's location to a path in the data.

    It has no index for a value that stands for a list.
    """
    path: KeyPath = ()
    for step in _without_tags(location):
        if isinstance(step, int) and not isinstance(data, tuple):
            continue
        path = (*path, step)
        data = _member(data, step)
    return path


def _without_tags(location: KeyPath) -> KeyPath:
    """Remove what is not part of the file: the type in `sources.NAME.verify.0.TYPE`, and a final `[key]`."""
    if location[-1:] == ("[key]",):
        location = location[:-1]
    if location[:1] == ("sources",) and location[2:3] == ("verify",):
        location = location[:4] + location[5:]
    if location[:1] == ("sources",) and location[2:5:2] == ("handshakes", "proof"):
        location = location[:5] + location[6:]
    if location[:1] == ("destinations",) and location[2:3] == ("auth",):
        location = location[:3] + location[4:]
    return location


def _member(data: Any, step: int | str) -> Any:
    if isinstance(data, dict):
        return data.get(step)
    if isinstance(data, tuple) and isinstance(step, int) and step < len(data):
        return data[step]
    return None


def _value(data: Any, path: KeyPath) -> Any:
    for step in path:
        data = _member(data, step)
    return data


#: pydantic's type of error → message and hint. None of them repeats the value.
_MESSAGES = {
    "string_type": ("must be text", "put the value in quotes"),
    "string_unicode": ("must be text", "remove lone surrogates"),
    "tuple_type": ("must be a list", "write it in brackets: […]"),
    "bool_type": ("must be true or false", "write it without quotes"),
    "union_tag_not_found": ("`type` is required", "add one, as in type: hmac, type: token or type: basic"),
    "auth_tag_not_found": ("`type` is required", "add one, as in type: bearer, type: basic or type: oauth2"),
    "model_type": ("must be keys and values", "write it as in {key: value}"),
}
_SAME_AS = {
    "model_attributes_type": "model_type",
    "dict_type": "model_type",
    "mapping_type": "model_type",
}


#: Required key → hint. Other keys have a hint made from their description.
_REQUIRED = {
    "sources": "add sources: {shop: {provider: NAME, secrets: [env:SHOP_SECRET]}}",
    "url": "add the URL of the destination, as in url: http://host:port/path",
    "from": "name one or more sources, as in from: shop",
    "to": "name one or more destinations, as in to: app",
    "verify": "name a preset with provider: NAME, or add verify: {type: hmac, …}",
    "event": 'name a preset with provider: NAME, or add event: {type: "{body:type}"}',
    "type": 'add type: "{body:type}"',
    "signature": "name the place of the signature, as in signature: {header: NAME}",
    "insecure": "add insecure: true to confirm that nothing is verified",
}
#: An example entry of each section.
_ENTRIES = {
    "sources": "shop: {provider: NAME, secrets: [env:SHOP_SECRET]}",
    "destinations": "app: {url: http://host:port/path}",
}
_ROUTES = "- {from: SOURCE, to: DESTINATION}"


def _explain(detail: ErrorDetails, value: Any) -> tuple[str, str]:
    location, context = detail["loc"], detail.get("ctx", {})
    match detail["type"]:
        case "gatehouse":
            return context["problem"], context["hint"]
        case "extra_forbidden":
            models = _models(location[:-1])
            return "unknown key", key_hint(str(location[-1]), _fields(models), _nested_fields(models))
        case "missing":
            return _missing(str(location[-1]), _fields(_models(location[:-1])))
        case "union_tag_invalid":
            return _unknown_type(location, context["tag"], _listed(context["expected_tags"]))
        case "literal_error":
            return "not a possible value", value_hint(value, _listed(context["expected"]))
    kind = _SAME_AS.get(detail["type"], detail["type"])
    if kind == "union_tag_not_found" and location[:1] == ("destinations",):
        kind = "auth_tag_not_found"
    message, hint = _MESSAGES.get(kind, ("not a possible value", "see the key in docs/configuration.md"))
    return message, _example_hint(kind, location, value) or hint


def _unknown_type(location: KeyPath, given: str, known: list[str]) -> tuple[str, str]:
    is_verifier = location[:1] == ("sources",)
    hint = type_hint(given, known, providers.names()) if is_verifier else suggest_name(given, known)
    return f'unknown type "{escaped(given)}"', hint


def _missing(key: str, fields: dict[str, str]) -> tuple[str, str]:
    described = f"add {key}: …; {fields.get(key, '').removesuffix('.')}"
    return f"`{key}` is required", _REQUIRED.get(key, described)


def _example_hint(kind: str, location: KeyPath, value: Any) -> str | None:
    """Return a hint with an example of a section or of an entry, or None."""
    section, depth = location[0] if location else "", len(location)
    if kind == "tuple_type" and location == ("routes",):
        return f"write entries as in {_ROUTES}"
    if kind == "model_type" and section == "routes":
        return f"write it as in {_ROUTES}"
    if kind == "model_type" and section in _ENTRIES and depth == 1:
        return f"write names as keys, not a list, as in {_ENTRIES[section]}"
    if kind == "model_type" and section in _ENTRIES and depth == 2:  # noqa: PLR2004 - an entry of a section
        is_key = location[1] in _fields(_models((section, "")))
        example = _ENTRIES[section]
        return f"indent it if it is a key of an entry: {example}" if is_key else f"write it as in {example}"
    if kind == "model_type" and location[-1:] == ("signature",) and isinstance(value, str):
        return "write it as in {header: X-Signature}"
    return None


def _listed(names: str) -> list[str]:
    listed = names.replace(" or ", ", ").replace("'", "").split(", ")
    return [{"True": "true", "False": "false"}.get(name, name) for name in listed]


def _models(location: KeyPath) -> list[type[BaseModel]]:
    """Return the models that are possible at a location."""
    models: list[type[BaseModel]] = [Config]
    for depth, step in enumerate(location):
        is_name = depth == 1 and location[0] in ("sources", "destinations")
        if isinstance(step, str) and not is_name:
            models = [found for model in models for found in _models_at(model, step)] or models
    return models


def _fields(models: Iterable[type[BaseModel]]) -> dict[str, str]:
    """Return the keys of models with their descriptions."""
    return {
        field.alias or name: field.description or ""
        for model in models
        for name, field in model.model_fields.items()
    }


def _nested_fields(models: Iterable[type[BaseModel]]) -> dict[str, str]:
    """Return the keys of nested sections with the way they are written there."""
    return {
        key: f"{outer}: {{{key}: …}}"
        for model in models
        for outer, field in reversed(model.model_fields.items())
        if Config not in models or outer in ("server", "operator", "store")
        for inner in _models_in(field.annotation)
        for key in _fields([inner])
    }


def _models_at(model: type[BaseModel], step: str) -> list[type[BaseModel]]:
    """Return the models after one step: a key of the model, or the type of a verifier."""
    tag = model.model_fields.get("type")
    if tag is not None and step in getattr(tag.annotation, "__args__", ()):
        return [model]
    return _models_in(model.model_fields[step].annotation) if step in model.model_fields else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
