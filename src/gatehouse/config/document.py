"""YAML as data with line numbers: strict about what may stand in it, and bounded in how much it reads.

A plain scalar is null, true/false, a number, or text: none of YAML 1.1's surprises (`on`, `yes`, `10:30`,
`010`, dates). Tags and merge keys are refused. A message never repeats a value: it may be a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from gatehouse.config.syntax import NO_TAGS, mistake
from gatehouse.config.words import shown
from gatehouse.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

#: Far above any real config; a larger file is a mistake.
MAX_BYTES = 1_000_000
#: How many keys and values a file may have, also once its aliases are followed: an alias bomb stops here.
MAX_VALUES = 50_000
#: How deep they may nest. No config key is deeper than eight.
MAX_DEPTH = 40
_MAX_MESSAGE = 400

Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """A safe loader with the scalar rules above, which stops when there is too much."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._count = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._count += 1
        self._depth += 1
        if self._count > MAX_VALUES or self._depth > MAX_DEPTH:
            too_deep = self._depth > MAX_DEPTH
            what = "nested too deep" if too_deep else "too many values"
            hint = (
                f"no more than {MAX_DEPTH} levels"
                if too_deep
                else f"no more than {MAX_VALUES} keys and values"
            )
            raise _RefusedError(self.peek_event().start_mark.line + 1, f"not YAML: {what}", hint)  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _first)

_READ: dict[str, Callable[[str], Any]] = {
    "str": lambda text: text.encode().decode(),  # refuses lone surrogates, which "\ud800" makes
    "null": {"": None, "~": None, "null": None}.__getitem__,
    "bool": {"true": True, "false": False}.__getitem__,
    "int": int,
    "float": float,
}


@dataclass
class YamlDocument:
    """A YAML file as dicts and tuples, and where each of its values stands."""

    file: str
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    #: Values that could not be read, and mappings that lack keys for that reason: that the models refuse the
    #: one and miss keys in the other only repeats a problem that is reported already.
    unreadable: set[Path] = field(default_factory=set)
    incomplete: set[Path] = field(default_factory=set)
    _lines: dict[Path, int] = field(default_factory=dict)

    def place(self, path: Path, line: int) -> None:
        """Say on which line `path` stands; the first to say so is right."""
        self._lines.setdefault(path, line)

    def locate(self, path: Path) -> tuple[int, Path]:
        """Find the line of the value at `path`, or of the nearest one around it, and that one's path."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0), path

    def problem(self, path: Path, message: str, hint: str, *, line: int | None = None) -> Problem:
        """Make a problem that points at `path`."""
        where = self.locate(path)[0] if line is None else line
        dotted = ".".join(shown(str(step)) for step in path)
        return Problem(self.file, where, dotted, shown(message, _MAX_MESSAGE), hint)


def read_yaml(text: str | bytes, file: str) -> YamlDocument:
    """Read a YAML document.

    Raises `ConfigError` for what is not YAML; what can be read past (repeated keys) is in its `problems`.
    """
    document = YamlDocument(file)
    try:
        _read_into(document, _decoded(text))
    except _RefusedError as refused:
        problem = Problem(file, refused.line, "", refused.message, refused.hint)
    else:
        return document
    # Raised here, not in the handler: the parser's own error quotes the file, and with it perhaps a secret.
    raise ConfigError([problem])


class _RefusedError(Exception):
    def __init__(self, line: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.line, self.message, self.hint = line, message, hint


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_BYTES:
        raise _RefusedError(
            0, f"longer than {MAX_BYTES} bytes", "a config is far shorter; is it the right file?"
        )
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise _RefusedError(line, "not UTF-8", "save the file as UTF-8") from None
    if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, unprintable.start()) + 1
        raise _RefusedError(line, "a character that YAML does not allow", 'in quotes, write it as in "\\x07"')
    return text


def _read_into(document: YamlDocument, text: str) -> None:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            document.data = _Construction(document).value(node, ())
    except yaml.MarkedYAMLError as error:
        raise _RefusedError(*mistake(error, text)) from None
    except (ValueError, RecursionError):  # "%YAML 1.99…9" and the like, deep in the parser
        raise _RefusedError(0, "not readable as YAML", "check its first lines") from None
    finally:
        loader.dispose()


class _Construction:
    """Turns the parser's nodes into data, and notes lines and problems in the document."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._count = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _RefusedError(line, "too many values behind aliases", "write out what the alias stands for")
        self._document.place(path, line)
        match node:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return self._mapping(node, path)
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                return self._sequence(node, path)
            case yaml.ScalarNode():
                return self._scalar(node, path)
        return self._refuse(node, path, "a tag is not allowed", NO_TAGS)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                self._document.incomplete.add(path)
                continue
            here = (*path, key)
            if key in members:
                first, _ = self._document.locate(here)
                self._report(key_node, here, "the key is there twice", f"it is on line {first} already")
                continue
            self._document.place(here, key_node.start_mark.line + 1)
            members[key] = self.value(value_node, here)
        return members

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
            self._report(node, path, "a key has to be text", "a plain word, or text in quotes")
            return None
        if node.value == "<<" and node.style is None:
            hint = "write the keys out; an alias can stand for a whole value: retry: *slow"
            self._report(node, path, "merge keys (<<) are not supported", hint)
            return None
        key = self._scalar(node, path)
        return key if isinstance(key, str) else None

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> tuple[Any, ...]:
        start = node.start_mark.line + 1
        for index, item in enumerate(node.value):
            # An alias's node stands where its anchor does, which may be lines above the list.
            self._document.place((*path, index), max(start, item.start_mark.line + 1))
        return tuple(self.value(item, (*path, index)) for index, item in enumerate(node.value))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        read = _READ.get(node.tag.removeprefix(_TAG))
        if read is None:
            return self._refuse(node, path, "a tag is not allowed", NO_TAGS)
        try:
            return read(node.value)
        except (ValueError, KeyError):
            return self._refuse(
                node, path, "not a value that can be read", "text in quotes, or a shorter number"
            )

    def _refuse(self, node: yaml.Node, path: Path, message: str, hint: str) -> None:
        self._document.unreadable.add(path)
        self._report(node, path, message, hint)

    def _report(self, node: yaml.Node, path: Path, message: str, hint: str) -> None:
        line = node.start_mark.line + 1
        self._document.problems.append(self._document.problem(path, message, hint, line=line))
