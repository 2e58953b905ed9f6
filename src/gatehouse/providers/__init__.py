"""Presets: what Gatehouse knows about each provider, as YAML in the language of a user's own source."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from gatehouse.config.document import read_yaml
from gatehouse.config.model import ProviderConfig


@cache
def names() -> tuple[str, ...]:
    """List the presets, in alphabetical order."""
    files = (item.name for item in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def text(name: str) -> str:
    """Return a preset's YAML as shipped. Raises `KeyError` for a name that is not in `names()`."""
    if name not in names():
        raise KeyError(name)
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


@cache
def raw(name: str) -> dict[str, Any]:
    """Return a preset as plain data, to be merged with what a source says."""
    document = read_yaml(text(name), f"{name}.yaml")
    return dict(document.data)


def preset(name: str) -> ProviderConfig:
    """Return a preset as a model."""
    return ProviderConfig.model_validate(raw(name))
