"""The YAML reader: types of plain scalars, lines of values, and syntax errors."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.config.document import MAX_BYTES, KeyPath, read_yaml
from gatehouse.errors import ConfigError


def problem_of(text: str | bytes) -> tuple[int, str]:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, "a.yaml")
    (problem,) = caught.value.problems
    assert problem.hint
    return problem.line, problem.message


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *[(word, word) for word in ("on", "yes", "No", "10:30", "010", "0x1F", "1_000", "2026-01-01", "1e3")],
        *[(word, word) for word in (".inf", ".nan", "NaN", "True", "Null", "=")],
        *[("null", None), ("~", None), ("", None), ("true", True), ("false", False)],
        *[("10", 10), ("-10", -10), ("+1", 1), ("0", 0), ("1.5", 1.5), ("1.0e3", 1000.0)],
        *[('"10"', "10"), ("'true'", "true"), ('""', ""), ("!!str 5", "5")],
        *[("[a, [b], 1]", ("a", ("b",), 1)), ("{}", {}), ("[]", ())],
    ],
)
def test_plain_scalars_have_the_documented_types(written: str, value: Any) -> None:
    document = read_yaml(f"key: {written}", "a.yaml")

    assert document.data == {"key": value}
    assert not document.problems


def test_an_empty_document_is_none() -> None:
    assert read_yaml("# nothing", "a.yaml").data is None


LINES = """\
a: &a
  b: 1
  c: [1,
    2]
d: [x, {
    e: 1}]
f: *a
g: [*a]
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 1),
        (("a", "b"), 2),
        (("a", "c"), 3),
        (("a", "c", 0), 3),
        (("a", "c", 1), 4),
        (("d", 0), 5),
        (("d", 1, "e"), 6),
        (("f",), 7),
        (("f", "b"), 2),
        (("g", 0), 8),
        (("g", 0, "b"), 2),
        (("a", "nothing"), 1),
        (("nothing",), 1),
    ],
)
def test_returns_the_line_of_a_value(path: KeyPath, line: int) -> None:
    """In block and flow style. A value of an alias has the line of its text."""
    assert read_yaml(LINES, "a.yaml").locate(path)[0] == line


def test_a_value_on_its_own_line_is_found_by_its_key() -> None:
    assert read_yaml("a:\n\n  text\n", "a.yaml").locate(("a",)) == (1, ("a",))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\na: 2", 2, "the key is repeated"),
        ("a: {b: 1,\n b: 2}", 2, "the key is repeated"),
        ("a:\n  1: x", 2, "a key must be text"),
        ("a: {? [b] : c}", 1, "a key must be text"),
        ("null: a", 1, "a key must be text"),
        ("!x a: b", 1, "a key must be text"),
        ("b: {a: 1}\na:\n  <<: b", 3, "merge keys (<<) are not supported"),
        ("a: !!python/object:os.system {}", 1, "tags are not allowed"),
        ("a: !!set {b}", 1, "tags are not allowed"),
        ("a: [!x b]", 1, "tags are not allowed"),
        ("a: !!binary aGk=", 1, "tags are not allowed"),
        ("a: !!int b", 1, "unreadable value"),
        ("a: !!bool yes", 1, "unreadable value"),
        ('a: "\\ud800"', 1, "unreadable value"),
        ("a: " + "9" * 5000, 1, "unreadable value"),
    ],
)
@pytest.mark.case("S-56")
def test_continues_after_one_invalid_value(text: str, line: int, message: str) -> None:
    (problem,) = read_yaml(text, "a.yaml").problems

    assert (problem.line, problem.message) == (line, message)
    assert problem.hint


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"a: b\nc: \xff", 2, "not UTF-8"),
        ("a: b\n\0", 2, "a character that YAML does not allow"),
        ("a: \x1b[31m", 1, "a character that YAML does not allow"),
        ("a" * (MAX_BYTES + 1), 0, f"longer than {MAX_BYTES} bytes"),
        ("a: [" * 50, 1, "not YAML: nested too deeply"),
        ("a: b\n---\nc: d", 2, "not YAML: found another document"),
        ("%YAML 1." + "9" * 5000 + "\n---\na: b", 0, "not readable as YAML"),
        ("a:\n\tb: c", 2, "not YAML: found character '\\t' that cannot start any token"),
        ("a: &a [*a]", 1, "too many values through aliases"),
    ],
)
@pytest.mark.case("S-56")
def test_refuses_text_that_is_not_yaml(text: str | bytes, line: int, message: str) -> None:
    assert problem_of(text) == (line, message)


@pytest.mark.parametrize(
    "text", ["a: *S3cret", "a: &S3cret b\nc: &S3cret d", "a: !S3cret!x b", "a: !<S3cret\n"]
)
def test_no_message_repeats_a_value(text: str) -> None:
    """The error has no cause either, because the error of the parser quotes the file."""
    shown, behind = "", None
    try:
        shown = str(read_yaml(text, "a.yaml").problems)
    except ConfigError as error:
        shown, behind = str(error), error.__context__

    assert shown
    assert "S3cret" not in shown
    assert behind is None


def test_a_byte_order_mark_is_not_part_of_the_first_key() -> None:
    assert read_yaml("\ufeffa: b".encode(), "a.yaml").data == {"a": "b"}


def test_a_long_path_is_shortened_to_one_line() -> None:
    document = read_yaml(f'"a\\n{"b" * 500}": 1\n', "a.yaml")
    (path,) = document.data

    shown = document.problem((path,), "unknown key", "none").path

    assert shown.isprintable()
    assert len(shown) < 100
