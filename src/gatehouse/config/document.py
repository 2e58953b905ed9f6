"""Reads YAML as data with line numbers, and explains syntax errors.

Plain scalars are null, true/false, a number, or text. The surprises of YAML 1.1 (`on`, `yes`, `10:30`, `010`,
dates) are text. Tags and merge keys are refused, and the amount of data is limited. A message never repeats a
value from the file, because it may be a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from gatehouse.config.hints import dollar_hint, shown
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

KeyPath = tuple[str | int, ...]

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
    unreadable: set[KeyPath] = field(default_factory=set)
    incomplete: set[KeyPath] = field(default_factory=set)
    _lines: dict[KeyPath, int] = field(default_factory=dict)

    def place(self, path: KeyPath, line: int) -> None:
        """Say on which line `path` stands; the first to say so is right."""
        self._lines.setdefault(path, line)

    def locate(self, path: KeyPath) -> tuple[int, KeyPath]:
        """Find the line of the value at `path`, or of the nearest one around it, and that one's path."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0), path

    def problem(self, path: KeyPath, message: str, hint: str, *, line: int | None = None) -> Problem:
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

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
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

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
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

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
            self._report(node, path, "a key has to be text", "a plain word, or text in quotes")
            return None
        if node.value == "<<" and node.style is None:
            hint = "write the keys out; an alias can stand for a whole value: retry: *slow"
            self._report(node, path, "merge keys (<<) are not supported", hint)
            return None
        key = self._scalar(node, path)
        return key if isinstance(key, str) else None

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> tuple[Any, ...]:
        start = node.start_mark.line + 1
        for index, item in enumerate(node.value):
            # An alias's node stands where its anchor does, which may be lines above the list.
            self._document.place((*path, index), max(start, item.start_mark.line + 1))
        return tuple(self.value(item, (*path, index)) for index, item in enumerate(node.value))

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        read = _READ.get(node.tag.removeprefix(_TAG))
        if read is None:
            return self._refuse(node, path, "a tag is not allowed", NO_TAGS)
        try:
            return read(node.value)
        except (ValueError, KeyError):
            return self._refuse(
                node, path, "not a value that can be read", "text in quotes, or a shorter number"
            )

    def _refuse(self, node: yaml.Node, path: KeyPath, message: str, hint: str) -> None:
        self._document.unreadable.add(path)
        self._report(node, path, message, hint)

    def _report(self, node: yaml.Node, path: KeyPath, message: str, hint: str) -> None:
        line = node.start_mark.line + 1
        self._document.problems.append(self._document.problem(path, message, hint, line=line))


NO_TAGS = 'plain YAML without tags; quote text that begins with "!"'
_CHECK = "check the indentation, brackets and quotes here"

#: What the parser's problem says → what to try.
_TRY = {
    "anchor": 'quote text that begins with "&"',
    "tag": NO_TAGS,
    "another document": "one document in a file, without a second ---",
    "\\t": "indent with spaces, not with tabs",
    "mapping values": 'quote text that holds ": ", and check the indentation',
}
_OPENED = ("flow mapping", "flow sequence", "quoted scalar")
_CLOSING = {"{": "}", "[": "]"}
#: `key: value` or `- key: value`, with nothing else that looks like a key.
_KEY = re.compile(r"\s*(?:- +)*([A-Za-z_][\w-]*):(\s|$)")
_KEY_WITHOUT_SPACE = re.compile(r"\s*(?:- +)*[A-Za-z_][\w-]*:[^\s:/].*")
_TEXT_BEHIND_BRACES = re.compile(r""".*:\s+\{[^{}"']*\}\s*[^\s,#}\]].*""")
_CANNOT_START = re.compile(r"found character '(.)' that cannot start any token")


class Mistake(NamedTuple):
    """Where a file is no YAML, and why."""

    line: int
    message: str
    hint: str


class _Refused(NamedTuple):
    """Where and why the parser gave up."""

    problem: str
    #: What it was about, and where that began.
    context: str
    began: yaml.Mark | None
    #: Counted from 1, as lines are for people.
    line: int
    lines: list[str]

    def text(self, number: int | None = None) -> str:
        """Return a line; by default the one where the parser stopped."""
        number = self.line if number is None else number
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


def mistake(error: yaml.MarkedYAMLError, text: str) -> Mistake:
    """Say what is wrong with a text that the parser refused."""
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or "").removeprefix("but ")
    line = mark.line + 1 if mark else 0
    refused = _Refused(problem, error.context or "", error.context_mark, line, text.splitlines())
    looks = (_alias, _unclosed, _dollar, _braces, _missing_space, _indentation)
    return next(filter(None, (look(refused) for look in looks)), None) or _in_parsers_words(problem, line)


def _in_parsers_words(problem: str, line: int) -> Mistake:
    # Behind these words the parser quotes the file, as in: undefined alias 'S3cret'.
    message = re.sub(r"\b(alias|anchor|handle) .*", r"\1", problem, flags=re.DOTALL)
    hint = next((hint for word, hint in _TRY.items() if word in message), _CHECK)
    if match := _CANNOT_START.match(problem):
        hint = f'quote text that begins with "{match[1]}"'
    return Mistake(line, f"not YAML: {shown(message)}", hint)


def _alias(refused: _Refused) -> Mistake | None:
    """`from: *` means every source, and to YAML that a value with a name stands here."""
    in_alias = "alias" in refused.context
    if "alias" not in refused.problem and not in_alias:
        return None
    line = refused.began.line + 1 if in_alias and refused.began else refused.line
    lone = re.search(r"([a-z_]+):\s*\[?\s*\*\s*([,\]}#].*)?$", refused.text(line))
    hint = f'quote it: {lone[1]}: "*"' if lone else 'quote text that begins with "*", as in "*" or "*.paid"'
    return Mistake(line, "not YAML: found undefined alias", hint)


def _unclosed(refused: _Refused) -> Mistake | None:
    """Point at the bracket or quote that was opened, not at the line where the parser gave up."""
    began = refused.began
    if began is None or began.line + 1 >= refused.line or not refused.context.endswith(_OPENED):
        return None
    opened = refused.text(began.line + 1)[began.column : began.column + 1]
    hint = f"{_CLOSING.get(opened, opened)} behind it; the parser went on to line {refused.line}"
    return Mistake(began.line + 1, f"not YAML: {opened} is not closed", hint)


def _dollar(refused: _Refused) -> Mistake | None:
    line = refused.text()
    if "${" not in line:
        return None
    return Mistake(refused.line, "not YAML: text with ${…} that is not quoted", dollar_hint(line))


def _braces(refused: _Refused) -> Mistake | None:
    """`signed: {timestamp}.{body}`: to YAML the braces are a mapping, and then comes more."""
    if not _TEXT_BEHIND_BRACES.fullmatch(refused.text()):
        return None
    hint = 'quote templates, as in "{timestamp}.{body}"'
    return Mistake(refused.line, "not YAML: text that begins with { and is not quoted", hint)


def _missing_space(refused: _Refused) -> Mistake | None:
    """`provider:mando` is text to YAML, and goes on in the next line: that is where the parser stops."""
    if not refused.problem.startswith(("mapping values", "could not find expected ':'")):
        return None
    for number in (refused.line, refused.line - 1):
        line = refused.text(number)
        if _KEY_WITHOUT_SPACE.fullmatch(line) and not _KEY.match(line):
            return Mistake(number, "not YAML: no space behind the colon", "key: value")
    return None


def _indentation(refused: _Refused) -> Mistake | None:
    """A key that stands further in or out than the keys that it belongs to."""
    here, above = refused.text(), _above(refused)
    if not above or not (_KEY.match(here) or here.lstrip().startswith("- ")):
        return None
    indent, column = len(here) - len(here.lstrip(" ")), _column(above)
    if refused.problem.startswith("mapping values") and here.count(": ") <= 1:
        hint = f"{column} spaces, as the key above, and not {indent}"
        return Mistake(refused.line, "not YAML: indented further than the line above allows", hint)
    in_block = refused.problem.startswith(("expected <block end>", "unindent"))
    if in_block and refused.began and refused.began.column != indent:
        hint = f"entries of one block begin in one column: the one above has {column} spaces, this {indent}"
        return Mistake(refused.line, "not YAML: indented otherwise than its neighbours", hint)
    return None


def _above(refused: _Refused) -> str:
    before = reversed(refused.lines[: refused.line - 1])
    return next((line for line in before if line.strip() and line.strip()[0] != "#"), "")


def _column(line: str) -> int:
    """Return where the key of a line begins: behind the dashes of a list."""
    return len(line) - len(re.sub(r"^\s*(- +)*", "", line))
