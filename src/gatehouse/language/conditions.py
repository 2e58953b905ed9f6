"""Compiles the conditions of routes, such as `"true"` and `">= 1000"`.

A condition is one entry or a list of entries:

    eur, invoice.*      a pattern that the whole value matches; `*` stands for any text
    !test*              the value does not match the pattern, or is missing
    < <= > >= NUMBER    the value is a number as in JSON, compared exactly as a decimal

The value must fit at least one entry without `!`, if there are any, and every entry with `!`.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.language.patterns import matcher, matches

if TYPE_CHECKING:
    from collections.abc import Callable

#: A number as in JSON (RFC 8259, section 6). The bounds keep every comparison short.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,4})?")
#: The maximum length of a number. A longer text is not a number.
MAX_NUMBER = 100
_COMPARISON = re.compile(r"(<=|>=|<|>)\s*(.*)")
_COMPARE: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class ConditionError(ValueError):
    """The text is not a valid condition."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _Entries(NamedTuple):
    """The entries of a condition, by their kind."""

    comparisons: tuple[tuple[str, Decimal], ...]
    #: Patterns of which one must match, and patterns of which none may match.
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """A condition for a value. Compiled once, from the entries as the config has them."""

    entries: tuple[str, ...]
    _parsed: _Entries = field(init=False, repr=False, compare=False)
    _accepts: tuple[Callable[[str], object], ...] = field(init=False, repr=False, compare=False)
    _refuses: tuple[Callable[[str], object], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the entries. Raises `ConditionError`."""
        parsed = _parse(self.entries)
        comparing = (_comparing(symbol, bound) for symbol, bound in parsed.comparisons)
        object.__setattr__(self, "_parsed", parsed)
        object.__setattr__(self, "_accepts", (*comparing, *map(matcher, parsed.wanted)))
        object.__setattr__(self, "_refuses", tuple(map(matcher, parsed.unwanted)))

    def holds(self, value: str | None) -> bool:
        """Return whether a value meets the condition. `None` stands for a missing value. Never raises."""
        if value is None:
            return not self._accepts
        for refuses in self._refuses:
            if refuses(value):
                return False
        for accepts in self._accepts:
            if accepts(value):
                return True
        return not self._accepts

    @property
    def only_compares(self) -> bool:
        """Whether only numbers meet the condition."""
        return bool(self._parsed.comparisons) and not self._parsed.wanted

    @property
    def is_contradiction(self) -> bool:
        """Whether the condition refuses every value that it accepts."""
        comparisons, wanted, unwanted = self._parsed
        if not wanted and not comparisons:
            return False
        if any(not pattern.strip("*") for pattern in unwanted):
            return True
        return not comparisons and all(any(matches(no, yes) for no in unwanted) for yes in wanted)

    def __str__(self) -> str:
        """The condition in words: `eur or chf`, `in_* and not in_test`, `>= 1000`."""
        accepted = " or ".join(entry for entry in self.entries if not entry.startswith("!"))
        refused = [f"not {pattern}" for pattern in self._parsed.unwanted]
        return " and ".join([accepted, *refused] if accepted else refused)


def _comparing(symbol: str, bound: Decimal) -> Callable[[str], bool]:
    compare = _COMPARE[symbol]

    def holds(value: str) -> bool:
        number = read_number(value)
        return number is not None and compare(number, bound)

    return holds


def read_number(text: str) -> Decimal | None:
    """Return the exact value of a number as in JSON, or None for any other text.

    A number with more than 100 characters, or with an exponent of more than four digits, is not a number.
    """
    return Decimal(text) if len(text) <= MAX_NUMBER and _NUMBER.fullmatch(text) else None


def _parse(entries: tuple[str, ...]) -> _Entries:
    comparisons: list[tuple[str, Decimal]] = []
    wanted: list[str] = []
    unwanted: list[str] = []
    for entry in entries:
        rest = entry.removeprefix("!").lstrip()
        negated, compared = entry.startswith("!"), _COMPARISON.fullmatch(rest)
        if rest.startswith("="):
            raise ConditionError("a condition has no `=`", 'write the value alone, as in "eur" or "!eur"')
        if compared and negated:
            opposite = f'"{_OPPOSITE[compared[1]]} NUMBER"'
            raise ConditionError(f"`!` and `{compared[1]}` cannot be combined", f"write {opposite} instead")
        if compared:
            comparisons.append((compared[1], _bound(compared[2].strip())))
        elif not rest:
            raise ConditionError("a pattern is missing after `!`", 'add one, as in "!test*"')
        else:
            (unwanted if negated else wanted).append(rest if negated else entry)
    return _Entries(tuple(comparisons), tuple(wanted), tuple(unwanted))


def _bound(text: str) -> Decimal:
    number = read_number(text)
    if number is None:
        hint = f'write a number as in JSON, with at most {MAX_NUMBER} characters, as in ">= 1000"'
        raise ConditionError("not a number to compare with", hint)
    return number
