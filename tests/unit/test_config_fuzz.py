"""Loading any text returns a config or raises `ConfigError` within a short time."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gatehouse.config.load import LoadedConfig, parse
from gatehouse.config.model import Config
from gatehouse.errors import ConfigError
from gatehouse.reference.configuration import TABLES
from gatehouse.reference.schema import model_schema
from growth import growing

#: The models by their names. Making the schema takes a tenth of a second.
DEFINITIONS = model_schema()["$defs"]
KEYS = sorted({key for name in TABLES.values() for key in DEFINITIONS[name]["properties"]})
WORDS = [
    *("mandato", "hisab", "hmac", "token", "basic", "none", "preset", "pairs", "plain", "raw", "*", "a", "b"),
    *(
        "env:A",
        "file:/a",
        "{body}",
        "{signed}",
        "{timestamp}.{body}",
        "{url}",
        "X-A",
        "30s",
        "1MiB",
        "1/s",
        "/a",
    ),
    *("http://a", "https://a", "sqlite:///a", "127.0.0.1:1", "", "10", "invoice.*"),
]
SCALARS = st.one_of(
    st.sampled_from(WORDS), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)
)
NAMES = st.one_of(st.sampled_from([*KEYS, "a", "b", "provider", "verify", "sources"]), st.text(max_size=4))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=30,
)


def members(model: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(list(DEFINITIONS[model]["properties"])), VALUES, max_size=6)


CONFIGS = st.fixed_dictionaries(
    {"sources": st.dictionaries(st.sampled_from(["a", "b", "verify"]), members("SourceConfig"), max_size=3)},
    optional={
        "server": members("ServerConfig"),
        "operator": members("OperatorConfig"),
        "store": members("StoreConfig"),
        "destinations": st.dictionaries(
            st.sampled_from(["a", "b"]), members("DestinationConfig"), max_size=2
        ),
        "routes": st.lists(members("RouteConfig"), max_size=3),
    },
)
SYNTAX = st.sampled_from(
    [*"{}[]:,-?&*!|>'\"%#@`~\\ \n\t", "<<: ", "---\n", "&a ", "*a", "!!set ", ": ", "- ", "\n  "]
)


def loads(text: str | bytes) -> LoadedConfig | None:
    """Load a text, and check that every problem has a message and a line that exists."""
    try:
        loaded = parse(text)
    except ConfigError as error:
        refused = error
    else:
        assert isinstance(loaded.config, Config)
        return loaded
    assert refused.problems
    assert all(problem.hint and problem.message for problem in refused.problems)
    assert all(str(problem).isprintable() for problem in refused.problems)
    assert len(set(refused.problems)) == len(refused.problems)
    assert refused.__context__ is None
    return None


@given(st.one_of(st.text(), st.binary()))
@settings(deadline=None)  # other work on the machine is no failure
def test_any_text_loads_or_is_refused(text: str | bytes) -> None:
    loads(text)


@given(st.lists(st.one_of(SYNTAX, st.sampled_from([*KEYS, *WORDS]))))
@settings(deadline=None)  # other work on the machine is no failure
def test_any_yaml_syntax_loads_or_is_refused(pieces: list[str]) -> None:
    loads("".join(pieces))


@given(VALUES)
@settings(deadline=None)  # other work on the machine is no failure
def test_any_structure_loads_or_is_refused(value: Any) -> None:
    loads(yaml.safe_dump(value, allow_unicode=True))


@given(CONFIGS, st.booleans())
@settings(deadline=None, max_examples=300)
def test_any_config_like_structure_loads_or_is_refused(value: dict[str, Any], flow: bool) -> None:
    loads(yaml.safe_dump(value, allow_unicode=True, default_flow_style=flow))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HUGE: dict[str, str | bytes] = {
    "alias bomb": BOMB,
    "alias of itself": "a: &a {b: *a}",
    "brackets": "[" * 900_000,
    "braces": "{a: " * 200_000,
    "dashes": "- " * 400_000,
    "question marks": "? " * 400_000,
    "indentation": "\n".join(" " * depth + "a:" for depth in range(1300)),
    "list": "- a\n" * 240_000,
    "flow list": "[" + "a," * 400_000 + "]",
    "keys": "".join(f"k{index}: 1\n" for index in range(20_000)),
    "word": "a" * 999_999,
    "digits": "a: " + "9" * 900_000,
    "quotes": "a: '" + "''" * 400_000 + "'",
    "escapes": 'a: "' + "\\n" * 400_000 + '"',
    "comment": "#" * 999_999,
    "spaces": " " * 999_999,
    "newlines": "\n" * 999_999,
    "documents": "---\n" * 200_000,
    "directives": "%a\n" * 200_000,
    "tag": "!" + "a" * 900_000,
    "block": "a: |\n" + "  x\n" * 240_000,
    "megabyte": "a" * 1_000_001,
    "ten megabytes": "a: b\n" * 2_000_000,
    "binary": b"\xff" * 500_000,
    "nul": "\0" * 500_000,
    "stars": f"sources: {{{'a' * 64}: }}\nroutes: [{{from: '{'*a' * 30}*b', to: x}}]",
    "names": "destinations:\n"
    + "".join(f" d{index}:\n" for index in range(12_000))
    + "sources: {a: }\nroutes:\n"
    + "".join(f"- {{from: b, to: e{index}}}\n" for index in range(4000)),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", HUGE)
@pytest.mark.case("S-56")
def test_huge_files_are_refused(name: str) -> None:
    assert loads(HUGE[name]) is None


def test_a_source_costs_the_same_however_many_there_are() -> None:
    for number in growing(1000):
        sources = (f"  s{index}: {{provider: mandato, secrets: env:A{index}}}\n" for index in range(number))

        assert loads("sources:\n" + "".join(sources))
