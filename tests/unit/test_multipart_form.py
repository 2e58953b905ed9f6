"""Multipart forms are read within limits, and nothing ambiguous is a form."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.language.document import MalformedDocumentError
from gatehouse.language.multipart_form import MAX_PARTS, read_parts
from gatehouse.language.request import Request
from gatehouse.language.scope import Scope, is_form
from gatehouse.language.template import Template

TYPE = "multipart/form-data; boundary=edge"
MIB = 1024 * 1024


def part(content: bytes, *headers: str, name: str = "a") -> bytes:
    lines = headers or (f'Content-Disposition: form-data; name="{name}"',)
    return "\r\n".join(["--edge", *lines, "", ""]).encode() + content + b"\r\n"


def file(name: str, content: bytes) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="x.bin"'
    return part(content, disposition, "Content-Type: application/octet-stream")


def scope(*parts: bytes, content_type: str = TYPE) -> Scope:
    body = b"".join(parts) + b"--edge--\r\n"
    return Scope(Request("POST", "/", "", CIMultiDict({"Content-Type": content_type}), body))


def rendered(template: str, of: Scope) -> bytes | None:
    return Template(template).render(of)


def test_fields_and_files_are_read_by_name() -> None:
    form = scope(
        part(b"\xff\r\n--edg", name="a"), part('{"é": 1}'.encode(), name="j"), file("f", b"\0--edge\n")
    )

    assert is_form(form.request)
    assert rendered("{form:a}", form) == b"\xff\r\n--edg"
    assert rendered("{form:j}", form) == '{"é": 1}'.encode()
    assert rendered("{file:f}", form) == b"\0--edge\n"
    assert rendered("{form:f}", form) is None
    assert rendered("{file:a}", form) is None
    assert rendered("{form_sorted}", form) is None
    assert rendered("{form_sorted}", scope(part(b"1", name="b"), part(b"2", name="a"))) == b"a2b1"
    assert rendered("{form}", scope(part(b"1"), part(b"2"))) == b'{"a":["1","2"]}'


def test_what_occurs_twice_has_no_value() -> None:
    form = scope(part(b"1"), part(b"2"), file("f", b"1"), file("f", b"2"))

    assert rendered("{form:a}", form) is None
    assert rendered("{file:f}", form) is None


NAMED = 'Content-Disposition: form-data; name="a"'


@pytest.mark.case("S-26")
@pytest.mark.parametrize(
    "body",
    [
        b"text before\r\n" + part(b"1") + b"--edge--\r\n",
        part(b"1"),
        part(b"1", NAMED, 'Content-Disposition: form-data; name="b"') + b"--edge--",
        part(b"1", NAMED + '; name="b"') + b"--edge--",
        part(b"1", NAMED + "; name*=utf-8''b") + b"--edge--",
        part(b"1", "Content-Disposition: form-data") + b"--edge--",
        part(b"1", 'Content-Disposition: attachment; name="a"') + b"--edge--",
        part(b"1", "Content-Type: text/plain") + b"--edge--",
        part(b"MQ==", NAMED, "Content-Transfer-Encoding: base64") + b"--edge--",
        part(b"1", NAMED, "X: " + "y" * 5000) + b"--edge--",
        part(b"1", NAMED, *(f"X-{n}: 1" for n in range(8))) + b"--edge--",
        part(b"") * (MAX_PARTS + 1) + b"--edge--",
    ],
)
def test_an_ambiguous_or_excessive_body_is_not_a_form(body: bytes) -> None:
    with pytest.raises(MalformedDocumentError):
        read_parts(body, TYPE)


@pytest.mark.parametrize(
    "boundary",
    ["", "; boundary=", "; boundary=edg", "; boundary=other", "; boundary=é", "; boundary=" + "x" * 71],
)
def test_the_boundary_must_be_that_of_the_first_line(boundary: str) -> None:
    """The Content-Type is not signed: another boundary could make a field of the text in another field."""
    hidden = b'\r\n--other\r\nContent-Disposition: form-data; name="type"\r\n\r\npaid\r\n--other--\r\n'
    with pytest.raises(MalformedDocumentError):
        read_parts(part(hidden) + b"--edge--\r\n", "multipart/form-data" + boundary)


@given(
    st.lists(
        st.sampled_from([b"--edge", b"--", b"\r\n", b"\n", b"\r", b"edge", b": ", b";", b'"', NAMED.encode()])
        | st.binary(max_size=5),
        max_size=20,
    ),
    st.text(max_size=20),
)
@example([b"--edge\r\n"], "; boundary=edge")
def test_nothing_else_is_raised_whatever_the_body_is(pieces: list[bytes], more: str) -> None:
    for content_type in (TYPE, "multipart/form-data; boundary=" + more):
        with suppress(MalformedDocumentError):
            read_parts(b"--edge\r\n" + b"".join(pieces), content_type)


@pytest.mark.alone
@pytest.mark.parametrize("filler", [b"\r", b"\r\n--", b"\r\n--edg", b"-", b'";', part(b"")])
def test_a_hostile_megabyte_is_read_or_refused_quickly(filler: bytes) -> None:
    content = filler * (MIB // len(filler))
    started = time.thread_time()
    for body in (part(content) + b"--edge--", b"--edge\r\n" + content):
        with suppress(MalformedDocumentError):
            read_parts(body, TYPE)

    assert time.thread_time() - started < 0.5
