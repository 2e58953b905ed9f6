"""Templates resolve to exactly the bytes they name, or to nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.document import MalformedDocumentError
from gatehouse.template import Scope, Template, TemplateError
from gatehouse.verify.base import Request


def scope(
    body: bytes = b"",
    *,
    query: str = "",
    timestamp: bytes | None = None,
    signed: bytes | None = None,
    **headers: str,
) -> Scope:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    request = Request("POST", "/webhooks/a", query, named, body, "https://hooks.example.com")
    return Scope(request, timestamp=timestamp, signed=signed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{body}", b'{"a": {"b": [1.50]}}'),
        ("{body:a.b.0}", b"1.50"),
        ("{body:a.b}", b"[1.50]"),
        ("{header:x-id}", b"d1"),
        ("{query:q}", b"v 1"),
        ("{method} {path}", b"POST /webhooks/a"),
        ("{url}", b"https://hooks.example.com/webhooks/a?q=v%201"),
        ("{timestamp}.{signed}", b"12.s"),
        ("v0:{timestamp}:{{x}}", b"v0:12:{x}"),
        ("{body_sorted}", b'{"a": {"b": [1.5]}}'),
        ("constant", b"constant"),
    ],
)
def test_each_placeholder_resolves(text: str, expected: bytes) -> None:
    seen = scope(b'{"a": {"b": [1.50]}}', query="q=v%201", timestamp=b"12", signed=b"s", X_Id="d1")

    assert Template(text).render(seen) == expected


def test_form_fields_resolve() -> None:
    seen = scope(b"b=2&a=1%2B&c=3&c=4")

    assert Template("{form:a}").render(seen) == b"1+"
    assert Template("{form_sorted}").render(seen) == b"a1+b2c3c4"


@pytest.mark.parametrize(
    "text", ["{form:c}", "{form:none}", "{header:none}", "{query:none}", "{timestamp}", "{signed}"]
)
def test_what_is_missing_or_there_twice_does_not_resolve(text: str) -> None:
    assert Template(text).render(scope(b"c=3&c=4")) is None


def test_a_header_that_is_there_twice_does_not_resolve() -> None:
    headers = CIMultiDict([("X-Id", "a"), ("x-id", "b")])

    assert Template("{header:X-Id}").render(Scope(Request("POST", "/", "", headers, b""))) is None


def test_a_list_means_the_first_that_resolves_fully() -> None:
    template = Template(("{header:none}", "{body:a}-{header:none}", "{body:b}"))

    assert template.render(scope(b'{"a":"x","b":"y"}')) == b"y"


def test_header_bytes_that_are_not_utf8_are_the_bytes_sent() -> None:
    assert (
        Template("{header:X}").render(scope(X=b"\xe9\xff".decode("utf-8", "surrogateescape"))) == b"\xe9\xff"
    )


def test_text_is_none_for_bytes_that_are_not_text() -> None:
    assert Template("{body}").text(scope(b"\xff")) is None


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "empty"),
        ("{bdy}", "unknown placeholder"),
        ("{body", "lone"),
        ("body}", "lone"),
        ("{header}", "needs a name"),
        ("{header:}", "name behind the colon"),
        ("{timestamp:x}", "write {timestamp}"),
        ("{}", "unknown placeholder"),
    ],
)
def test_what_is_no_template_is_refused_with_a_reason(text: str, fragment: str) -> None:
    with pytest.raises(TemplateError, match=fragment):
        Template(text)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(TemplateError):
        Template(())


@given(st.text())
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = Template(text)
    except TemplateError:
        return
    try:
        template.render(scope(b'{"a": 1}'))
    except MalformedDocumentError:
        return


@given(st.text(), st.binary())
def test_literals_and_body_pass_through_whatever_they_are(literal: str, body: bytes) -> None:
    escaped = literal.replace("{", "{{").replace("}", "}}")

    assert Template(escaped + "{body}").render(scope(body)) == literal.encode("utf-8", "strict") + body
