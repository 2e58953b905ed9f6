"""Answers are written as HTTP has them."""

from __future__ import annotations

import http.client
import io
import time
from email.utils import parsedate_to_datetime

import pytest
from aiohttp import HttpVersion10

from gatehouse.ingest.answer import Answer
from gatehouse.ingest.writing import written


class Received(io.BytesIO):
    """What http.client reads in place of a socket."""

    def makefile(self, _mode: str) -> io.BytesIO:
        return self


def read(data: bytes, method: str = "POST") -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(Received(data), method=method)  # type: ignore[arg-type]
    response.begin()
    return response


def test_an_answer_is_json_of_a_length_with_a_date() -> None:
    response = read(written(Answer(200, b'{"status":"accepted"}', "accepted"), keep_alive=True))

    assert (response.version, response.status, response.reason) == (11, 200, "OK")
    assert response.read() == b'{"status":"accepted"}'
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Server"] == "gatehouse"
    assert response.headers["Connection"] is None
    assert abs(parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()) < 60


def test_headers_of_an_answer_come_on_top_whatever_their_case() -> None:
    answer = Answer(503, b"x", "unavailable", {"content-type": "text/plain", "Retry-After": "7"})

    response = read(written(answer, keep_alive=True))

    assert response.headers.get_all("Content-Type") == ["text/plain"]
    assert response.headers["Retry-After"] == "7"


def test_an_answer_that_ends_its_connection_says_so() -> None:
    assert read(written(Answer(413, b"x", "too_large"), keep_alive=False)).headers["Connection"] == "close"


def test_http_1_0_is_answered_in_kind_and_told_that_the_connection_stays() -> None:
    response = read(written(Answer(200, b"x", "accepted"), keep_alive=True, version=HttpVersion10))

    assert (response.version, response.headers["Connection"]) == (10, "keep-alive")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_neither_body_nor_length(status: int) -> None:
    data = written(Answer(status, b"x", "accepted"), keep_alive=True)

    assert data.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in data


def test_head_is_told_the_length_of_what_it_does_not_get() -> None:
    data = written(Answer(405, b"four", "method_not_allowed"), keep_alive=True, with_body=False)

    assert data.endswith(b"\r\n\r\n")
    assert read(data, "HEAD").headers["Content-Length"] == "4"


def test_a_status_that_is_nobodys_has_no_words() -> None:
    assert read(written(Answer(299, b"x", "accepted"), keep_alive=True)).reason == ""


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0b"])
def test_a_header_never_becomes_two(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        written(Answer(200, b"x", "accepted", {"Content-Type": value}), keep_alive=True)
