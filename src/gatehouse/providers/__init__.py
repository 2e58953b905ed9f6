"""Presets: what Gatehouse knows about each provider, as YAML in the language of a user's own source."""

from __future__ import annotations

from functools import cache
from importlib import resources


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
