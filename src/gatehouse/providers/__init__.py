"""Presets: what Gatehouse knows about each provider, as YAML in the language of a user's own source.

`samples/` has made-up requests of the most used providers, one per event type.
"""

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


@cache
def samples(name: str) -> bytes | None:
    """Return the JSON with a sample request for each event type, or None if the preset has no such file."""
    file = resources.files(__name__).joinpath("samples", f"{name}.json")
    return file.read_bytes() if name in names() and file.is_file() else None
