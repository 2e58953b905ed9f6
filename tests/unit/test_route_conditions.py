"""Routes select events by their content, exactly and without ever failing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.config.lint import lint
from gatehouse.config.load import parse
from gatehouse.config.model import RouteConfig
from gatehouse.events.routing import compile_conditions
from gatehouse.language.conditions import Condition, read_number
from gatehouse.language.request import Request
from gatehouse.language.scope import Scope


def holds(condition: str | tuple[str, ...], value: str | None) -> bool:
    return Condition((condition,) if isinstance(condition, str) else condition).holds(value)


def scope(body: bytes, *headers: tuple[str, str]) -> Scope:
    return Scope(Request("POST", "/webhooks/shop", "", CIMultiDict(headers), body))


def passes(when: Mapping[str, object], body: bytes, *headers: tuple[str, str]) -> bool:
    route = RouteConfig.model_validate({"from": "shop", "when": when, "to": "billing"})
    select = compile_conditions([route], "shop")
    assert select is not None
    return select("sale.created", scope(body, *headers)) == ("billing",)


@pytest.mark.parametrize(
    ("condition", "fitting", "other"),
    [
        ("eur", ["eur"], ["EUR", "euro", "", None]),
        ("in_*", ["in_", "in_1\n2"], ["xin_", None]),
        ("*", ["", "a"], [None]),
        ("!true", ["false", "", None], ["true"]),
        ("! test_*", ["live_1", None], ["test_", "test_1"]),
        ("!*", [None], ["", "a"]),
        (("eur", "chf"), ["eur", "chf"], ["usd", None]),
        (("!eur", "!chf"), ["usd", None], ["eur", "chf"]),
        (("in_*", "!in_test"), ["in_1"], ["in_test", "usd", None]),
        (("< 0", ">= 1000", "free"), ["-1", "1000", "free"], ["0", "999.99", None]),
        (("> 5", "!7"), ["6", "7.0"], ["7", "5", None]),
        ("<= 0", ["0", "-0", "-0.0", "-1e9999", "0e5"], ["0.000000000000000000001", "1e-9999"]),
        ("> 9007199254740992", ["9007199254740993"], ["9007199254740992", "9007199254740992.0"]),
        (">= 0.1", ["0.1", "0.10", "1e-1", "0.10000000000000000001"], ["0.09999999999999999999"]),
        (">=1E3", ["1000", "1000.0"], ["999"]),
    ],
)
def test_a_condition_holds_for_the_values_that_fit(
    condition: str | tuple[str, ...], fitting: list[str | None], other: list[str | None]
) -> None:
    assert [value for value in [*fitting, *other] if holds(condition, value)] == fitting


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "+5",
            " 5",
            "5 ",
            "5\n",
            "05",
            ".5",
            "5.",
            "0x10",
            "1_000",
            "1,000",
            "NaN",
            "-Infinity",
            "Infinity",
        ),
        *("1e999999999", "1e-999999999", "9" * 101, "9" * 1_000_000, "\uff15", "true", "null", "1e", "--1"),
    ],
)
def test_no_comparison_holds_for_what_is_no_number(text: str) -> None:
    assert read_number(text) is None
    assert not any(holds(f"{symbol} 5", text) for symbol in ("<", "<=", ">", ">="))


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_compare_as_decimals(value: Decimal, bound: Decimal) -> None:
    sent, written = str(value), str(bound)
    if read_number(sent) is None or read_number(written) is None:
        return
    expected = {"<": value < bound, "<=": value <= bound, ">": value > bound, ">=": value >= bound}

    assert {symbol: holds(f"{symbol} {written}", sent) for symbol in expected} == expected


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**90), 10**90))
def test_every_usual_number_of_json_is_a_number(number: float) -> None:
    assert read_number(json.dumps(number)) == Decimal(json.dumps(number))


WHEN = {
    "{body:livemode}": "true",
    "{body:data.amount}": (">= 1000", "< 0"),
    "{body:data.currency}": "!jpy",
    "{header:X-Topic}": "*",
}
FIT = b'{"livemode": true, "data": {"amount": 12345678901234567890.5}}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (FIT, True),
        (b'{"livemode": "true", "data": {"amount": "1000.00", "currency": null}}', True),
        (b'{"livemode": true, "data": {"amount": 999.999}}', False),
        (b'{"livemode": true, "data": {"amount": 1000, "currency": "jpy"}}', False),
        (b'{"livemode": false, "data": {"amount": 1000}}', False),
        (b'{"livemode": true, "data": {"amount": 1e999999999}}', False),
        (b'{"livemode": true, "data": {"amount": 1000, "amount": 1000}}', False),
        (b'{"livemode": true, "data": [1000]}', False),
        (b'{"livemode": true, "data": {"amount": 1000, "currency": "\\ud800"}}', False),
        (b"", False),
        (b"no json", False),
        (b"\xff\xfe", False),
    ],
)
def test_an_event_passes_if_all_conditions_hold(body: bytes, expected: bool) -> None:
    assert passes(WHEN, body, ("X-Topic", "sales")) is expected


def test_no_condition_holds_for_a_value_that_cannot_be_read() -> None:
    """A negated condition for a missing value holds, so it must be clear that the value is missing."""
    negated: dict[str, object] = {"{body:test}": "!true"}

    assert passes(negated, b"{}")
    assert not passes(negated, b"no json")
    assert not passes(negated, b'{"test": true, "test": false}')
    assert passes({"{header:X-Topic}": "!a"}, b"")
    assert not passes({"{header:X-Topic}": "!a"}, b"", ("X-Topic", "\udcff"))


TEMPLATES = (
    "{body:a}",
    "{body:a.b}",
    "{body}",
    "{body_name:a|b}",
    "{form:a}",
    "{form}",
    "{header:X-A}",
    "{query:a}",
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode())
ENTRIES = st.sampled_from(["*", "!*", "a*", "!a", "> 1", "<= -1.5e3", "true"]) | st.text(
    min_size=1, max_size=6
)


@given(
    st.dictionaries(
        st.sampled_from(TEMPLATES), st.lists(ENTRIES, min_size=1, max_size=3), min_size=1, max_size=3
    ),
    BODIES,
    st.sampled_from(["application/json", "application/x-www-form-urlencoded"]),
    st.text(max_size=8),
)
@settings(deadline=None)  # other work on the machine is no failure
def test_any_event_passes_or_does_not(
    when: dict[str, list[str]], body: bytes, content_type: str, header: str
) -> None:
    try:
        conditions = {template: tuple(entries) for template, entries in when.items()}
        route = RouteConfig.model_validate({"from": "shop", "when": conditions, "to": "billing"})
    except ValueError:
        return
    select = compile_conditions([route], "shop")
    assert select is not None
    selected = select("a", scope(body, ("Content-Type", content_type), ("X-A", header)))

    assert selected in ((), ("billing",))


def test_a_hostile_value_takes_no_time() -> None:
    """Long digits and many stars are both linear."""
    body = b'{"a": "' + b"9" * 900_000 + b'"}'
    began = time.process_time()
    assert not passes({"{body:a}": (">= 1", "*9*9*9*9*9*9*a", "1*")}, body)
    assert time.process_time() - began < 0.5


def test_only_the_routes_of_the_type_are_evaluated() -> None:
    """A source without conditions has no such function: it keeps the one by type."""
    routes = [
        RouteConfig.model_validate(
            {"from": "shop", "types": "a.*", "when": {"{body:n}": "> 5"}, "to": ("x", "y")}
        ),
        RouteConfig.model_validate(
            {"from": "shop", "types": "a.b", "when": {"{body:n}": "< 9"}, "to": ("y", "z")}
        ),
        RouteConfig.model_validate({"from": "other", "to": "w"}),
    ]
    select = compile_conditions(routes, "shop")
    assert select is not None

    assert select("a.b", scope(b'{"n": 7}')) == ("x", "y", "z")
    assert select("a.c", scope(b'{"n": 7}')) == ("x", "y")
    assert select("a.b", scope(b'{"n": 3}')) == ("y", "z")
    unused = scope(b'{"n": 7}')
    assert select("b", unused) == ()
    assert not unused.document._levels
    assert compile_conditions(routes, "other") is None


CONFIG = """
sources:
  shop: {{provider: mandato, secrets: env:A}}
destinations:
  billing: {{url: "http://billing.internal/"}}
routes:
  - from: {source}
    when: {{{when}}}
    to: billing
"""


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ('"{body:a}": [eur, "!e*"]', "its entries refuse all that they accept"),
        ('"{body:a}": ["> 5", "!**"]', "its entries refuse all that they accept"),
        ('"{body:a} EUR": "> 5"', "the value is never a number"),
        ('"{path}": "> 5"', "the value is never a number"),
        ('"constant": other', "the template is the same text for every event"),
        ('"{outer:id}": "*"', "these sources have no such value"),
        ('"{path}": "/hooks/*"', "no source of this route has such a path"),
        ('"{body:a}": ["!a", "!b"]', None),
        ('"{body:a}": ["a*", "!ab"]', None),
        ('"{body:a}{body:b}": "> 5"', None),
        ('"{outer:id}": "!*"', None),
        ('"{path}": "*/shop"', None),
        ('"constant": "const*"', None),
    ],
)
def test_a_condition_that_can_never_hold_is_a_warning(when: str, why: str | None) -> None:
    loaded = parse(CONFIG.format(source="shop", when=when))
    found = [one.message for one in lint(loaded.config, loaded.document) if one.code == "GH21"]

    assert found == ([] if why is None else [f"never holds: {why}"])


def test_a_route_with_conditions_adds_nothing_only_to_a_wider_one() -> None:
    text = CONFIG.format(source="shop", when='"{body:a}": x')
    narrower = '  - {from: shop, when: {"{body:a}": x, "{body:b}": y}, to: billing}\n'
    other = '  - {from: shop, when: {"{body:a}": y}, to: billing}\n'
    for route, expected in ((narrower, ["GH09"]), (other, [])):
        loaded = parse(text + route)
        codes = [one.code for one in lint(loaded.config, loaded.document)]
        assert [code for code in codes if code == "GH09"] == expected
