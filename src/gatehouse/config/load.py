"""From a file to a `Config`: read, merge presets, validate, and report every problem at once with its line."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from gatehouse import providers
from gatehouse.config.document import Path as YamlPath
from gatehouse.config.document import YamlDocument, read_yaml
from gatehouse.config.model import Config
from gatehouse.config.references import reference_problems
from gatehouse.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config that loads, and the file it came from: relative paths start there."""

    config: Config
    document: YamlDocument
    directory: Path


def config_file(given: str | None) -> Path:
    """Choose the config file: `-c`, else GATEHOUSE_CONFIG, else ./gateway.yaml."""
    return Path(given or os.environ.get("GATEHOUSE_CONFIG") or "gateway.yaml")


def load(file: Path) -> LoadedConfig:
    """Load a config file. Raises `ConfigError` with all its problems."""
    try:
        text = file.read_bytes()
    except OSError as error:
        hint = "name one with -c FILE, or set GATEHOUSE_CONFIG"
        problem = Problem(str(file), 0, "", f"can't be read: {error.strerror}", hint)
        raise ConfigError([problem]) from error
    return parse(text, str(file), file.absolute().parent)


def parse(text: str | bytes, file: str = "gateway.yaml", directory: Path = Path()) -> LoadedConfig:
    """Load a config from text."""
    document = read_yaml(text, file)
    problems = list(document.problems)
    config: Config | None = None
    if not isinstance(document.data, dict):
        hint = "sources: {…}, destinations: {…}, routes: […]"
        problems.append(Problem(file, 1, "", "the file has no keys", hint))
    else:
        config = _validate(_with_presets(document, problems), document, problems)
    if config is not None:
        problems += reference_problems(config, document)
    if problems or config is None:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line))
    return LoadedConfig(config, document, directory)


def _validate(data: dict[str, Any], document: YamlDocument, problems: list[Problem]) -> Config | None:
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_problem(detail, document) for detail in details if not _is_followup(detail, problems)]
        return None


def _is_followup(detail: ErrorDetails, problems: list[Problem]) -> bool:
    """A source whose preset is unknown also lacks all that the preset would have said: one problem, not four."""
    owner = ".".join(map(str, detail["loc"][:2]))
    return detail["type"] == "missing" and any(problem.path == f"{owner}.provider" for problem in problems)


# --- presets ---------------------------------------------------------------------------------------------------


def _with_presets(document: YamlDocument, problems: list[Problem]) -> dict[str, Any]:
    data = dict(document.data)
    sources = data.get("sources")
    if isinstance(sources, dict):
        data["sources"] = {
            name: _with_preset(name, source, document, problems) for name, source in sources.items()
        }
    return data


def _with_preset(name: str, source: Any, document: YamlDocument, problems: list[Problem]) -> Any:
    if not isinstance(source, dict) or not isinstance(source.get("provider"), str):
        return source
    provider = source["provider"]
    if provider not in providers.names():
        hint = _expected(provider, providers.names())
        problems.append(
            document.problem(("sources", name, "provider"), f'unknown provider "{provider}"', hint)
        )
        return source
    preset = providers.raw(provider)
    merged: dict[str, Any] = _merge(preset, source)
    if isinstance(source.get("verify"), tuple):
        merged["verify"] = _splice(source["verify"], preset["verify"])
    return merged


def _merge(preset: Any, own: Any) -> Any:
    """Let a source override any part of a preset: mappings key by key, everything else whole.

    A verifier of another `type` replaces the preset's: their keys have nothing in common.
    """
    if not isinstance(preset, dict) or not isinstance(own, dict):
        return own
    if own.get("type", preset.get("type")) != preset.get("type") and "signature" in preset:
        return own
    return preset | {
        key: _merge(preset[key], value) if key in preset else value for key, value in own.items()
    }


def _splice(own: tuple[Any, ...], preset: Any) -> tuple[Any, ...]:
    """Put the preset's verifiers where a list of verifiers says `preset`."""
    shipped = preset if isinstance(preset, tuple) else (preset,)
    return tuple(entry for item in own for entry in (shipped if item == "preset" else (item,)))


# --- pydantic's errors as problems -----------------------------------------------------------------------------


def _problem(detail: ErrorDetails, document: YamlDocument) -> Problem:
    path = _path(detail["loc"], document)
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(detail["loc"][:-1])
        return document.problem(path, "unknown key", _expected(str(path[-1]), known) if known else None)
    if kind == "gatehouse":
        return document.problem(path, context["problem"], context["hint"])
    message, hint = _plain(detail)
    return document.problem(path, message, hint)


def _plain(detail: ErrorDetails) -> tuple[str, str | None]:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "is needed", None
        case "union_tag_not_found":
            return "needs a type", f"one of: {context['discriminator']}: hmac, token, basic, none"
        case "union_tag_invalid":
            return (
                f'unknown type "{context["tag"]}"',
                f"expected one of: {_unquoted(context['expected_tags'])}",
            )
        case "literal_error":
            return "not one of the possible values", f"expected: {_unquoted(context['expected'])}"
        case "string_pattern_mismatch":
            return "not in the right form", f"has to match {context['pattern']}"
        case "string_type":
            return "has to be text", "put it in quotes"
        case "tuple_type":
            return "has to be a list", "[…]"
        case "model_type" | "model_attributes_type" | "dict_type" | "mapping_type":
            return "has to be a mapping of keys to values", None
    return detail["msg"][0].lower() + detail["msg"][1:], None


def _unquoted(expected: str) -> str:
    return expected.replace("'", "").replace(" or ", ", ")


def _path(location: tuple[int | str, ...], document: YamlDocument) -> YamlPath:
    """Turn pydantic's location into the file's: without union tags, and without the 0 of a list left out."""
    path: YamlPath = ()
    for depth, step in enumerate(location):
        candidate = (*path, step)
        known = document.locate(candidate)[1] == candidate
        if known or (depth == len(location) - 1 and isinstance(step, str)):
            path = candidate
        elif isinstance(step, str) and step not in _VERIFIER_TYPES and depth < len(location) - 1:
            path = candidate
    return path


_VERIFIER_TYPES = ("hmac", "token", "basic", "none", "[key]")


def _known_keys(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """Name the keys that are possible at a location, by walking the models along it."""
    models: list[type[BaseModel]] = [Config]
    for step in location:
        if isinstance(step, int):
            continue
        models = [found for model in models for found in _models_at(model, step)] or models
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    return tuple(sorted(keys))


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


def _expected(given: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    prefix = f'did you mean "{close[0]}"? ' if close else ""
    return f"{prefix}expected one of: {', '.join(known)}"
