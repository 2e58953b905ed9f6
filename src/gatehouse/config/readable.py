"""Reading parts of a config that as a whole may be wrong: what can't be read is None, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatehouse.config.document import Path


def at(data: Any, *path: str) -> Any:
    """Return the value at `path`; None when there is none."""
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def mappings(data: Any) -> dict[str, dict[str, Any]]:
    """Return the members that are mappings themselves."""
    members = data.items() if isinstance(data, dict) else ()
    return {name: value for name, value in members if isinstance(value, dict)}


def entries(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Walk a list, or a lone value that stands for a list of one, each entry with its path."""
    if isinstance(value, tuple):
        for index, entry in enumerate(value):
            yield (*path, index), entry
    elif value is not None:
        yield path, value


def texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Walk the entries that are text."""
    return ((where, entry) for where, entry in entries(value, path) if isinstance(entry, str))


def read(parse: Callable[[Any], Any], value: Any, default: Any = None) -> Any:
    """Parse a value, or take the default when it is absent. None when it is wrong."""
    if value is None:
        return default
    try:
        return parse(value)
    except PydanticCustomError:
        return None
