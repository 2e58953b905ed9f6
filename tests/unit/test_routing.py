"""Routes send an event to every matching destination once."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.config.model import RouteConfig
from gatehouse.events.routing import compile_routes, selecting_routes
from gatehouse.language.patterns import matches


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("invoice.*", "invoice.paid", True),
        ("invoice.*", "invoice.payment.failed", True),
        ("invoice.*", "invoiceitem.paid", False),
        ("invoice.*", "invoice", False),
        ("*", "", True),
        ("*", "a\nb", True),
        ("*.paid", "invoice.paid", True),
        ("a*b*c", "a--b--c", True),
        ("a*b*c", "a--c--b", False),
        ("*a*a*", "xaxax", True),
        ("*ab", "aab", True),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a.c", "abc", False),
        ("[a]", "a", False),
        ("Invoice.*", "invoice.paid", False),
    ],
)
def test_a_star_matches_any_text_and_other_characters_are_literal(
    pattern: str, text: str, fits: bool
) -> None:
    assert matches(pattern, text) is fits


def test_many_stars_match_a_long_type_quickly() -> None:
    """With backtracking, this would exceed the time limit of the test suite."""
    assert not matches("*a" * 40 + "*b", "a" * 1024)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_match_like_fnmatch(pattern: str, text: str) -> None:
    assert matches(pattern, text) is fnmatch.fnmatchcase(text, pattern)


def route(**values: object) -> RouteConfig:
    return RouteConfig.model_validate(values)


def test_all_matching_routes_apply_and_a_destination_is_named_once() -> None:
    routes = [
        route(**{"from": "mandato", "types": ("invoice.*",), "to": ("billing", "ledger")}),
        route(**{"from": "other", "to": ("nobody",)}),
        route(**{"from": "*", "to": ("archive", "billing")}),
    ]
    destinations = compile_routes(routes, "mandato")

    assert destinations("invoice.paid") == ("billing", "ledger", "archive")
    assert destinations("connection.active") == ("archive", "billing")


def test_an_event_without_a_matching_route_has_no_destination() -> None:
    routes = [route(**{"from": ("a", "b"), "types": "x", "to": "d"})]

    assert compile_routes(routes, "a")("y") == ()
    assert compile_routes(routes, "c")("x") == ()


def test_each_destination_is_named_with_the_routes_that_select_it() -> None:
    routes = [
        route(**{"from": "shop", "types": ("invoice.*",), "to": ("billing", "ledger")}),
        route(**{"from": "other", "to": ("nobody",)}),
        route(**{"from": "*", "to": ("archive", "billing")}),
    ]

    assert selecting_routes(routes, "shop", "invoice.paid") == {
        "billing": [0, 2],
        "ledger": [0],
        "archive": [2],
    }
    assert selecting_routes(routes, "shop", "sale.created") == {"archive": [2], "billing": [2]}
    assert selecting_routes(routes[:2], "shop", "sale.created") == {}
