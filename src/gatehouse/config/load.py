"""From a file to a `Config`: read, merge presets, validate, and report every problem at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gatehouse.config.document import YamlDocument, read_yaml
from gatehouse.config.model import Config
from gatehouse.config.presets import Merged, with_presets
from gatehouse.config.problems import model_problems
from gatehouse.config.references import reference_problems
from gatehouse.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config that loads, and the file it came from: relative paths start there."""

    config: Config
    document: YamlDocument
    directory: Path
    #: What was loaded, as it was written.
    text: bytes = b""


def config_file(given: str | None) -> Path:
    """Choose the config file: `-c`, else GATEHOUSE_CONFIG, else ./gateway.yaml."""
    return Path(given or os.environ.get("GATEHOUSE_CONFIG") or "gateway.yaml")


def load(file: Path) -> LoadedConfig:
    """Load a config file. Raises `ConfigError` with all its problems."""
    try:
        text = file.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not the name of a file"
        hint = "name one with -c FILE, or set GATEHOUSE_CONFIG"
        raise ConfigError([Problem(str(file), 0, "", f"can't be read: {why}", hint)]) from error
    return parse(text, str(file), file.absolute().parent)


def parse(text: str | bytes, file: str = "gateway.yaml", directory: Path = Path()) -> LoadedConfig:
    """Load a config from text. Raises `ConfigError` with all its problems, in the order of the file."""
    document = read_yaml(text, file)
    if not isinstance(document.data, dict):
        hint = "sources: {…}, destinations: {…}, routes: […]"
        raise ConfigError([*document.problems, Problem(file, 1, "", "the file has no keys", hint)])
    merged = with_presets(document)
    config, refused = _validate(merged, document)
    problems = [*document.problems, *merged.problems, *refused, *reference_problems(merged, document)]
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
    """Sort by place, and drop what two checks found alike."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.path))
