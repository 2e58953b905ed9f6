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

from gatehouse.config.hints import dollar_hint, escaped
from gatehouse.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable


#: No real config is this large.
MAX_BYTES = 1_000_000
#: The maximum number of keys and values, counted after aliases are resolved. It stops alias bombs.
MAX_VALUES = 50_000
#: The maximum depth. No config key is deeper than eight.
MAX_DEPTH = 40
_MAX_MESSAGE = 400

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """A safe loader with the scalar rules of this module, which stops at the limits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._count = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._count += 1
        self._depth += 1
        if self._count > MAX_VALUES or self._depth > MAX_DEPTH:
            too_deep = self._depth > MAX_DEPTH
            what = "nested too deeply" if too_deep else "too many values"
            hint = (
                f"use at most {MAX_DEPTH} levels" if too_deep else f"use at most {MAX_VALUES} keys and values"
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
    "str": lambda text: text.encode().decode(),  # refuses lone surrogates, such as "\ud800"
    "null": {"": None, "~": None, "null": None}.__getitem__,
    "bool": {"true": True, "false": False}.__getitem__,
    "int": int,
    "float": float,
}


@dataclass
class YamlDocument:
    """The content of a YAML file as dicts and tuples, and the line of each value."""

    file: str
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    #: Values that could not be read, and mappings that lack keys for that reason. Further problems with them
    #: only repeat one that is already reported.
    unreadable: set[KeyPath] = field(default_factory=set)
    incomplete: set[KeyPath] = field(default_factory=set)
    _lines: dict[KeyPath, int] = field(default_factory=dict)

    def place(self, path: KeyPath, line: int) -> None:
        """Record the line of `path`. Only the first call for a path counts."""
        self._lines.setdefault(path, line)

    def locate(self, path: KeyPath) -> tuple[int, KeyPath]:
        """Return the line of the value at `path` and that path, or those of the nearest value around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0), path

    def problem(self, path: KeyPath, message: str, hint: str, *, line: int | None = None) -> Problem:
        """Return a problem that points at `path`."""
        where = self.locate(path)[0] if line is None else line
        dotted = ".".join(escaped(str(step)) for step in path)
        return Problem(self.file, where, dotted, escaped(message, _MAX_MESSAGE), hint)


def read_yaml(text: str | bytes, file: str) -> YamlDocument:
    """Read a YAML document.

    Raises `ConfigError` for text that is not YAML. The attribute `problems` lists problems that do not stop
    the reader, such as repeated keys.
    """
    document = YamlDocument(file)
    try:
        _read_into(document, _decoded(text))
    except _RefusedError as refused:
        problem = Problem(file, refused.line, "", refused.message, refused.hint)
    else:
        return document
    # Raised here, not in the handler, because the parser's own error quotes the file, which may contain a
    # secret.
    raise ConfigError([problem])


class _RefusedError(Exception):
    def __init__(self, line: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.line, self.message, self.hint = line, message, hint


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_BYTES:
        raise _RefusedError(0, f"longer than {MAX_BYTES} bytes", "check that -c names a config file")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise _RefusedError(line, "not UTF-8", "save the file as UTF-8") from None
    if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, unprintable.start()) + 1
        raise _RefusedError(line, "a character that YAML does not allow", 'write it in quotes, as in "\\x07"')
    return text


def _read_into(document: YamlDocument, text: str) -> None:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            document.data = _Construction(document).value(node, ())
    except yaml.MarkedYAMLError as error:
        raise _RefusedError(*_explain(error, text)) from None
    except (ValueError, RecursionError):  # such as "%YAML 1.99…9", from inside the parser
        raise _RefusedError(0, "not readable as YAML", "check the first lines of the file") from None
    finally:
        loader.dispose()


class _Construction:
    """Converts the nodes of the parser to data, and records lines and problems in the document."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._count = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _RefusedError(
                line, "too many values through aliases", "write out the values instead of the alias"
            )
        self._document.place(path, line)
        match node:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return self._mapping(node, path)
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                return self._sequence(node, path)
            case yaml.ScalarNode():
                return self._scalar(node, path)
        return self._refuse(node, path, "tags are not allowed", NO_TAGS)

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
                self._report(
                    key_node, here, "the key is repeated", f"remove one of them; the first is on line {first}"
                )
                continue
            self._document.place(here, key_node.start_mark.line + 1)
            members[key] = self.value(value_node, here)
        return members

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
            self._report(node, path, "a key must be text", "write a plain word, or text in quotes")
            return None
        if node.value == "<<" and node.style is None:
            hint = "write out the keys, or use an alias for a whole value, as in retry: *slow"
            self._report(node, path, "merge keys (<<) are not supported", hint)
            return None
        key = self._scalar(node, path)
        return key if isinstance(key, str) else None

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> tuple[Any, ...]:
        start = node.start_mark.line + 1
        for index, item in enumerate(node.value):
            # The node of an alias has the line of its anchor, which may be above the list.
            self._document.place((*path, index), max(start, item.start_mark.line + 1))
        return tuple(self.value(item, (*path, index)) for index, item in enumerate(node.value))

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        read = _READ.get(node.tag.removeprefix(_TAG))
        if read is None:
            return self._refuse(node, path, "tags are not allowed", NO_TAGS)
        try:
            return read(node.value)
        except (ValueError, KeyError):
            return self._refuse(node, path, "unreadable value", "write text in quotes, or a shorter number")

    def _refuse(self, node: yaml.Node, path: KeyPath, message: str, hint: str) -> None:
        self._document.unreadable.add(path)
        self._report(node, path, message, hint)

    def _report(self, node: yaml.Node, path: KeyPath, message: str, hint: str) -> None:
        line = node.start_mark.line + 1
        self._document.problems.append(self._document.problem(path, message, hint, line=line))


NO_TAGS = 'remove the tag, or put text that begins with "!" in quotes'
_DEFAULT_HINT = "check the indentation, brackets and quotes on this line"

#: A word in the message of the parser → the hint.
_HINTS = {
    "anchor": 'put text that begins with "&" in quotes',
    "tag": NO_TAGS,
    "indentation indicators": 'put text that begins with ">" in quotes, as in ">= 1000"',
    "a comment or a line break": 'put text that begins with ">" in quotes, as in ">= 1000"',
    "another document": "write one document per file, without a second ---",
    "\\t": "indent with spaces, not with tabs",
    "mapping values": 'put text that contains ": " in quotes, and check the indentation',
}
_OPENED = ("flow mapping", "flow sequence", "quoted scalar")
_CLOSING = {"{": "}", "[": "]"}
#: `key: value` or `- key: value`.
_KEY = re.compile(r"\s*(?:- +)*([A-Za-z_][\w-]*):(\s|$)")
_KEY_WITHOUT_SPACE = re.compile(r"\s*(?:- +)*[A-Za-z_][\w-]*:[^\s:/].*")
_TEXT_AFTER_BRACES = re.compile(r""".*:\s+\{[^{}"']*\}\s*[^\s,#}\]].*""")
_FORBIDDEN_START = re.compile(r"found character '(.)' that cannot start any token")


class SyntaxProblem(NamedTuple):
    """A syntax error: its line, a message, and a hint."""

    line: int
    message: str
    hint: str


class _ParserError(NamedTuple):
    """What the parser reports about a syntax error."""

    problem: str
    #: What the parser was reading, and where that began.
    context: str
    began: yaml.Mark | None
    #: The line at which the parser stopped, counted from 1.
    line: int
    lines: list[str]

    def text(self, number: int | None = None) -> str:
        """Return a line, by default the one at which the parser stopped."""
        number = self.line if number is None else number
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


def _explain(error: yaml.MarkedYAMLError, text: str) -> SyntaxProblem:
    """Explain why the parser refused a text.

    The line of the parser may be behind the mistake. Its words may quote the file, which may contain a
    secret.
    """
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or "").removeprefix("but ")
    line = mark.line + 1 if mark else 0
    refused = _ParserError(problem, error.context or "", error.context_mark, line, text.splitlines())
    explanations = (_alias, _unclosed, _dollar, _braces, _missing_space, _indentation)
    return next(filter(None, (explain(refused) for explain in explanations)), None) or _from_parser(
        problem, line
    )


def _from_parser(problem: str, line: int) -> SyntaxProblem:
    # After these words the parser quotes the file, as in: undefined alias 'S3cret'.
    message = re.sub(r"\b(alias|anchor|handle) .*", r"\1", problem, flags=re.DOTALL)
    hint = next((hint for word, hint in _HINTS.items() if word in message), _DEFAULT_HINT)
    if match := _FORBIDDEN_START.match(problem):
        hint = f'put text that begins with "{match[1]}" in quotes'
    return SyntaxProblem(line, f"not YAML: {escaped(message)}", hint)


def _alias(refused: _ParserError) -> SyntaxProblem | None:
    """Explain `from: *`, which stands for every source, but is an alias in YAML."""
    in_alias = "alias" in refused.context
    if "alias" not in refused.problem and not in_alias:
        return None
    line = refused.began.line + 1 if in_alias and refused.began else refused.line
    lone = re.search(r"([a-z_]+):\s*\[?\s*\*\s*([,\]}#].*)?$", refused.text(line))
    hint = (
        f'put it in quotes: {lone[1]}: "*"'
        if lone
        else 'put text that begins with "*" in quotes, as in "*" or "*.paid"'
    )
    return SyntaxProblem(line, "not YAML: found undefined alias", hint)


def _unclosed(refused: _ParserError) -> SyntaxProblem | None:
    """Point at the bracket or quote that is not closed, not at the line at which the parser stopped."""
    began = refused.began
    if began is None or began.line + 1 >= refused.line or not refused.context.endswith(_OPENED):
        return None
    opened = refused.text(began.line + 1)[began.column : began.column + 1]
    hint = f"add the closing {_CLOSING.get(opened, opened)}; the parser stopped at line {refused.line}"
    return SyntaxProblem(began.line + 1, f"not YAML: {opened} is not closed", hint)


def _dollar(refused: _ParserError) -> SyntaxProblem | None:
    line = refused.text()
    if "${" not in line:
        return None
    return SyntaxProblem(refused.line, "not YAML: ${…} without quotes", dollar_hint(line))


def _braces(refused: _ParserError) -> SyntaxProblem | None:
    """Explain `signed: {timestamp}.{body}`, in which YAML reads the braces as a mapping."""
    if not _TEXT_AFTER_BRACES.fullmatch(refused.text()):
        return None
    hint = 'put templates in quotes, as in "{timestamp}.{body}"'
    return SyntaxProblem(refused.line, "not YAML: text that begins with { without quotes", hint)


def _missing_space(refused: _ParserError) -> SyntaxProblem | None:
    """Explain `provider:mando`, which is text in YAML. The parser stops at the next line."""
    if not refused.problem.startswith(("mapping values", "could not find expected ':'")):
        return None
    for number in (refused.line, refused.line - 1):
        line = refused.text(number)
        if _KEY_WITHOUT_SPACE.fullmatch(line) and not _KEY.match(line):
            return SyntaxProblem(number, "not YAML: no space after the colon", "write key: value")
    return None


def _indentation(refused: _ParserError) -> SyntaxProblem | None:
    """Explain a key with another indentation than the keys around it."""
    here, above = refused.text(), _above(refused)
    if not above or not (_KEY.match(here) or here.lstrip().startswith("- ")):
        return None
    indent, column = len(here) - len(here.lstrip(" ")), _column(above)
    if refused.problem.startswith("mapping values") and here.count(": ") <= 1:
        hint = f"indent it by {column} spaces like the key above, not by {indent}"
        return SyntaxProblem(refused.line, "not YAML: indented too far", hint)
    in_block = refused.problem.startswith(("expected <block end>", "unindent"))
    if in_block and refused.began and refused.began.column != indent:
        hint = f"indent it by {column} spaces like the entry above, not by {indent}"
        return SyntaxProblem(
            refused.line, "not YAML: the indentation differs from the entries around it", hint
        )
    return None


def _above(refused: _ParserError) -> str:
    before = reversed(refused.lines[: refused.line - 1])
    return next((line for line in before if line.strip() and line.strip()[0] != "#"), "")


def _column(line: str) -> int:
    """Return the column of the key of a line, after the dashes of a list."""
    return len(line) - len(re.sub(r"^\s*(- +)*", "", line))
