"""Templates resolve to the exact bytes of their placeholders, or to None."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.language.document import Document, MalformedDocumentError
from gatehouse.language.request import Request, as_sent
from gatehouse.language.scope import MAX_FORM_FIELDS, Scope
from gatehouse.language.template import Template, TemplateError


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
    facts = {name: fact for name, fact in (("timestamp", timestamp), ("signed", signed)) if fact is not None}
    return Scope(request, facts=facts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{body}", b'{"a": {"b": [1.50]}}'),
        ("{body:a.b.0}", b"1.50"),
        ("{body:a.b}", b"[1.50]"),
        ("{header:x-id}", b"d1"),
        ("{query:q}", b"v 1"),
        ("{query_lower:Q}", "über-9k".encode()),
        ("{method} {path}", b"POST /webhooks/a"),
        ("{url}", b"https://hooks.example.com/webhooks/a?q=v%201&Q=%C3%BCber-9K"),
        ("{timestamp}.{signed}", b"12.s"),
        ("v0:{timestamp}:{{x}}", b"v0:12:{x}"),
        ("{body_sorted}", b'{"a": {"b": [1.5]}}'),
        ("constant", b"constant"),
    ],
)
def test_each_placeholder_resolves(text: str, expected: bytes) -> None:
    query = "q=v%201&Q=%C3%BCber-9K"
    seen = scope(b'{"a": {"b": [1.50]}}', query=query, timestamp=b"12", signed=b"s", X_Id="d1")

    assert Template(text).render(seen) == expected


def test_form_fields_resolve() -> None:
    seen = scope(b"b=2&a=1%2B&c=3&c=4", Content_Type="application/x-www-form-urlencoded; charset=utf-8")

    assert Template("{form:a}").render(seen) == b"1+"
    assert Template("{form_sorted}").render(seen) == b"a1+b2c3c4"
    assert Template("{form}").render(seen) == b'{"b":"2","a":"1+","c":["3","4"]}'


FORM_PIECE = st.sampled_from(
    [
        b"&",
        b"=",
        b"+",
        b"%",
        b"%2",
        b"%41",
        b"%zz",
        b"%2B",
        b"%26",
        b"%3d",
        b"%00",
        b"\\",
        b"\\x41",
        b"a",
        b"\n",
    ]
)


@pytest.mark.case("S-26")
@given(st.lists(FORM_PIECE | st.binary(max_size=2), max_size=12).map(b"".join))
def test_a_form_is_read_as_python_reads_it(body: bytes) -> None:
    text = "b=" + body.decode("utf-8", "surrogateescape")
    expected = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    fields = scope(b"b=" + body, Content_Type="application/x-www-form-urlencoded").form_fields

    assert [(as_sent(name), as_sent(value)) for name, value in fields] == [
        (as_sent(name), as_sent(value)) for name, value in expected
    ]


@pytest.mark.case("S-26")
@pytest.mark.parametrize("body", [b"&".join([b"a=b"] * (MAX_FORM_FIELDS + 1)), b"a=" + b"%" * 10_000])
def test_a_body_with_invalid_escapes_or_too_many_fields_is_not_a_form(body: bytes) -> None:
    with pytest.raises(MalformedDocumentError):
        Template("{form:a}").render(scope(body, Content_Type="application/x-www-form-urlencoded"))


@pytest.mark.case("S-25")
@pytest.mark.parametrize("content_type", ["application/json", "", "text/plain"])
def test_no_form_field_is_read_without_the_content_type_of_a_form(content_type: str) -> None:
    """Text that anyone can write could contain `&payload=…`."""
    seen = scope(b'{"title": "a&payload=forged&b"}', Content_Type=content_type)

    for text in ("{form:payload}", "{form}", "{form_sorted}"):
        assert Template(text).render(seen) is None


@pytest.mark.case("S-25")
@pytest.mark.parametrize("body", [b'{"title": "a&payload=forged&b"}', b' [1, "&payload=forged&"]'])
def test_no_form_field_is_read_from_json_with_the_content_type_of_a_form(body: bytes) -> None:
    """Providers do not sign the Content-Type, so anyone with a captured request can change it."""
    seen = scope(body, Content_Type="application/x-www-form-urlencoded")

    for text in ("{form:payload}", "{form}", "{form_sorted}"):
        assert Template(text).render(seen) is None


@pytest.mark.parametrize(
    ("text", "body", "expected"),
    [
        ("{body:Subject?}|{body:id}", b'{"id": 1}', b"|1"),
        ("{header:X-None?}.", b"", b"."),
        ("{body_name:a|b|c}", b'{"c": 1, "b": null}', b"b"),
        ("{body_name:a}", b'{"c": 1}', None),
        (r"{body:a.@odata\.etag}", b'{"a": {"@odata.etag": "W"}}', b"W"),
        ("{body:anything}", b"", None),
        ("{body_sha256}", b"x", hashlib.sha256(b"x").hexdigest().encode()),
        ("{item_sha256}", b"x", hashlib.sha256(b"x").hexdigest().encode()),
        ("{query}", b"", b""),
        (("{body:id}", "{signed?}"), b"not JSON", b""),
    ],
)
def test_placeholders_for_single_providers_resolve(
    text: str | tuple[str, ...], body: bytes, expected: bytes | None
) -> None:
    assert Template(text).render(scope(body)) == expected


@pytest.mark.parametrize(
    ("sent", "decoded"),
    [
        ("a=%3A%2f%3F%40%21%24%27%28%29%2A%2C%3B", "a=:/?@!$'()*,;"),
        ("a=%20%25%3D%26%2B", "a=%20%25%3D%26%2B"),
        ("a=%253A", "a=%253A"),
    ],
)
def test_url_decoded_decodes_only_the_escapes_that_hubspot_lists(sent: str, decoded: str) -> None:
    request = Request("POST", "/in", sent, CIMultiDict(), b"", "https://h.example")

    assert Template("{url_decoded}").render(Scope(request)) == f"https://h.example/in?{decoded}".encode()


def test_outer_is_the_nearest_value_around_an_item() -> None:
    request = Request("POST", "/", "", CIMultiDict(), b"")
    outer = (Document(b'{"id": 2}'), Document(b'{"id": 1, "object": "page"}'))
    seen = Scope(request, body=b'{"id": 3}', outer=outer)

    assert Template("{body:id} {outer:id} {outer:object}").render(seen) == b"3 2 page"
    assert Template("{outer:none}").render(seen) is None


@pytest.mark.parametrize(
    "text", ["{form:c}", "{form:none}", "{header:none}", "{query:none}", "{timestamp}", "{signed}"]
)
def test_a_missing_or_repeated_value_does_not_resolve(text: str) -> None:
    assert Template(text).render(scope(b"c=3&c=4")) is None


def test_a_repeated_header_does_not_resolve() -> None:
    headers = CIMultiDict([("X-Id", "a"), ("x-id", "b")])

    assert Template("{header:X-Id}").render(Scope(Request("POST", "/", "", headers, b""))) is None


def test_the_first_template_of_a_list_that_resolves_is_used() -> None:
    template = Template(("{header:none}", "{body:a}-{header:none}", "{body:b}"))

    assert template.render(scope(b'{"a":"x","b":"y"}')) == b"y"


@pytest.mark.case("S-24")
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
        ("{body", "unmatched"),
        ("body}", "unmatched"),
        ("{header}", "needs a name"),
        ("{header:}", "name after the colon"),
        ("{timestamp:x}", "write {timestamp}"),
        ("{}", "unknown placeholder"),
    ],
)
def test_an_invalid_template_is_refused_with_a_reason(text: str, fragment: str) -> None:
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
def test_literals_and_the_body_are_never_changed(literal: str, body: bytes) -> None:
    escaped = literal.replace("{", "{{").replace("}", "}}")

    assert Template(escaped + "{body}").render(scope(body)) == literal.encode("utf-8", "strict") + body
