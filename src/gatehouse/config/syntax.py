"""What is no YAML, in words: the line where the mistake is, and how it would be written right.

The parser names the place where it could not go on. That may be lines behind the mistake, and its words may
quote the file, which may hold a secret: no message repeats a value.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import yaml

from gatehouse.config.mistakes import dollar_hint
from gatehouse.config.words import shown

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
