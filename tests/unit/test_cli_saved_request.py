"""Saved requests are parsed, and their bodies keep every byte."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.cli.saved_request import parse_request
from gatehouse.errors import GatewayError
from gatehouse.language.request import Request

HEAD = b"POST /webhooks/acme?a=b&c HTTP/1.1\nHost: h.example\nX-Sig:  ab cd \nX-Twice: 1\nx-twice: 2\n\n"
BODY = b'{"id":\r\n"\xff"}\n\n'


def fields(request: Request) -> tuple[str, str, str, list[tuple[str, str]], bytes]:
    return request.method, request.path, request.query, list(request.headers.items()), request.body


EXPECTED = (
    *("POST", "/webhooks/acme", "a=b&c"),
    [("Host", "h.example"), ("X-Sig", "ab cd"), ("X-Twice", "1"), ("x-twice", "2")],
    BODY,
)


def test_a_head_with_lf_is_read_and_the_body_stays_as_it_is() -> None:
    assert fields(parse_request(HEAD + BODY)) == EXPECTED


def test_a_head_with_crlf_is_read_and_the_body_stays_as_it_is() -> None:
    assert fields(parse_request(HEAD.replace(b"\n", b"\r\n") + BODY)) == EXPECTED


def test_blank_lines_before_the_request_are_skipped() -> None:
    assert fields(parse_request(b"\r\n\n" + HEAD + BODY)) == EXPECTED


@pytest.mark.parametrize("line", ["POST /p", "POST /p HTTP/2", "POST https://h.example/p HTTP/1.1"])
def test_the_usual_forms_of_a_request_line_are_read(line: str) -> None:
    request = parse_request(line.encode() + b"\n\n")

    assert (request.method, request.path, request.query, request.body) == ("POST", "/p", "", b"")


def test_an_absolute_url_gives_its_path_and_query() -> None:
    request = parse_request(b"POST http://h.example?x=1 HTTP/1.1\n\n")

    assert (request.path, request.query) == ("/", "x=1")


def test_a_value_that_is_not_utf8_is_kept_as_sent() -> None:
    request = parse_request(b"POST / HTTP/1.1\nX-A: \xff\n\n")

    assert request.headers["X-A"].encode("utf-8", "surrogateescape") == b"\xff"


def test_the_public_url_and_the_client_are_in_the_request() -> None:
    request = parse_request(HEAD, public_url="https://h.example", client="203.0.113.7")

    assert (request.public_url, request.client) == ("https://h.example", "203.0.113.7")


CHUNKED = b"POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n"


@pytest.mark.parametrize(
    "chunks",
    [b"4\r\nabcd\r\n3;x=y\r\nefg\r\n0\r\n\r\n", b"4\nabcd\n3\nefg\n0\n", b"0007\r\nabcdefg\r\n0\r\nX: y\r\n"],
)
def test_a_chunked_body_is_decoded(chunks: bytes) -> None:
    assert parse_request(CHUNKED + chunks).body == b"abcdefg"


def test_a_body_that_a_tool_has_decoded_is_unchanged() -> None:
    assert parse_request(CHUNKED + b'{"id": 1}').body == b'{"id": 1}'


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "the file is empty"),
        (b"\r\n\r\n", "the file is empty"),
        (b'{"id": 1}', "no blank line ends the headers"),
        (b"POST / HTTP/1.1\nX-A: b", "no blank line ends the headers"),
        (b'{"id": 1}\n\n', "line 1: not the first line of an HTTP request"),
        (b"HTTP/1.1 200 OK\n\n", "line 1: not the first line of an HTTP request"),
        (b"POST webhooks/acme HTTP/1.1\n\n", "line 1: neither a path nor a URL"),
        (b"POST http:///x HTTP/1.1\n\n", "line 1: neither a path nor a URL"),
        (b"POST / HTTP/1.1\nX-A: b\n folded\n\n", "line 3: not a header"),
        (b"POST / HTTP/1.1\n:path: /\n\n", "line 2: not a header"),
        (b"POST / HTTP/1.1\n" + b"A: b\n" * 1001 + b"\n", "more than 1000 headers"),
        (CHUNKED + b"4\r\nabcd\r\n", "the chunked body is invalid at byte 9"),
        (CHUNKED + b"4\r\nabcdefgh", "the chunked body is invalid at byte 7"),
        (CHUNKED + b"9\r\nabcd", "the chunked body ends before its last chunk"),
    ],
)
def test_a_file_that_is_not_a_request_is_an_error_with_a_hint(raw: bytes, told: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_request(raw)

    assert caught.value.message == told
    assert caught.value.hint


def test_an_error_repeats_nothing_of_the_file() -> None:
    with pytest.raises(GatewayError) as caught:
        parse_request(b"POST / HTTP/1.1\nAuthorization Bearer hush\n\n")

    assert "hush" not in f"{caught.value.message}{caught.value.hint}"


@given(st.binary(max_size=200) | st.builds(lambda tail: CHUNKED + tail, st.binary(max_size=60)))
def test_any_file_is_a_request_or_an_error(raw: bytes) -> None:
    with contextlib.suppress(GatewayError):
        assert isinstance(parse_request(raw), Request)
