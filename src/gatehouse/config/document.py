"""YAML as data with line numbers: strict about repeated keys, and about what a plain word may mean.

A plain scalar is null, true/false, a number, or text: none of YAML 1.1's surprises (`on`, `yes`, `10:30`, dates).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from gatehouse.errors import ConfigError, Problem

#: Far above any real config; a larger file is a mistake.
MAX_BYTES = 1_000_000
#: How many values a file may have once its aliases are followed: an alias bomb stops here.
MAX_VALUES = 50_000

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """A safe loader with the scalar rules above."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


@dataclass
class YamlDocument:
    """A YAML file as dicts and tuples, and where each of its values stands."""

    file: str
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    _lines: dict[Path, int] = field(default_factory=dict)

    def locate(self, path: Path) -> tuple[int, Path]:
        """Find the line of the value at `path`, or of the nearest one around it, and that one's path."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0), path

    def problem(self, path: Path, message: str, hint: str | None = None) -> Problem:
        """Make a problem that points at `path`."""
        line, _ = self.locate(path)
        return Problem(self.file, line, ".".join(map(str, path)), message, hint)


def read_yaml(text: str | bytes, file: str) -> YamlDocument:
    """Read a YAML document.

    Raises `ConfigError` for what is not YAML; what can be read past (repeated keys) is in its `problems`.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError([Problem(file, 0, "", f"longer than {MAX_BYTES} bytes")])
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            document = YamlDocument(file)
            if node is not None:
                document.data = _Construction(loader, document).value(node, ())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_problem(error, file)]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError([Problem(file, 0, "", "not readable as YAML")]) from error
    return document


def _syntax_problem(error: yaml.YAMLError, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "not readable as YAML"
    return Problem(file, mark.line + 1 if mark else 0, "", f"not YAML: {what}")


class _Construction:
    def __init__(self, loader: _Loader, document: YamlDocument) -> None:
        self._loader = loader
        self._document = document
        self._count = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise ConfigError([Problem(self._document.file, 0, "", "too many values; is an alias repeated?")])
        self._document._lines.setdefault(path, node.start_mark.line + 1)  # noqa: SLF001 - builds it
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.value(item, (*path, index)) for index, item in enumerate(node.value))
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in members:
                first, _ = self._document.locate((*path, key))
                self._report(key_node, (*path, key), "the key is there twice", f"first on line {first}")
                continue
            self._document._lines[(*path, key)] = key_node.start_mark.line + 1  # noqa: SLF001
            members[key] = self.value(value_node, (*path, key))
        return members

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if not node.tag.startswith("tag:yaml.org,2002:"):
            self._report(node, path, f'the tag "{node.tag}" is not allowed', "plain YAML without tags")
            return None
        kind = node.tag.rpartition(":")[2]
        if kind not in ("null", "bool", "int", "float", "str"):
            self._report(node, path, f'the tag "!!{kind}" is not allowed', "plain YAML without tags")
            return None
        return self._loader.construct_object(node)

    def _report(self, node: yaml.Node, path: Path, message: str, hint: str) -> None:
        line = node.start_mark.line + 1
        dotted = ".".join(map(str, path))
        self._document.problems.append(Problem(self._document.file, line, dotted, message, hint))
