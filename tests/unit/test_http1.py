"""Requests are parsed independently of each other, and answers are valid HTTP."""

from __future__ import annotations

import asyncio
import http.client
import io
import time
from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from aiohttp import HttpVersion10
from aiohttp.base_protocol import BaseProtocol

from gatehouse.ingest.answer import Answer
from gatehouse.ingest.http1 import (
    MAX_FIELD,
    MAX_HEAD,
    MAX_HEADERS,
    EvictedError,
    RequestParser,
    encode_answer,
)

CHUNKED = b"POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
PROBE = b"POST /second HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nContent-Length: 2\r\n\r\n{}"
#: Requests before the probe. The first ones are chunked, so nothing may follow them.
CLOSING = {
    "no trailer": CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    "no chunk": CHUNKED + b"0\r\n\r\n",
    "a trailer": CHUNKED + b"2\r\n{}\r\n0\r\nX-Signature: forged\r\n\r\n",
    "two trailers": CHUNKED + b"0\r\nX-Signature: forged\r\nX-Subject: forged\r\n\r\n",
    "a coding": CHUNKED + b"0\r\nContent-Encoding: gzip\r\nX-Signature: forged\r\n\r\n",
    "a host": CHUNKED + b"0\r\nHost: other\r\n\r\n",
    "an empty trailer": CHUNKED + b"0\r\nX-Signature:\r\n\r\n",
    "an upgrade in the trailers": CHUNKED + b"0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a chunk extension": CHUNKED + b"2;name=value\r\n{}\r\n0;last\r\n\r\n",
    "many chunks": CHUNKED + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n",
    "an upgrade": b"POST /first HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: tcp\r\n"
    b"Content-Length: 2\r\n\r\n{}",
    "a WebSocket": b"GET /first HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
}
KEEPING = {
    "no body": b"GET /first HTTP/1.1\r\nHost: h\r\n\r\n",
    "a body": b"POST /first HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
    "many fields": b"POST /first HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 100 + b"Content-Length: 1\r\n\r\nx",
    "an empty field at the end": b"POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nX:\r\n\r\nx",
    "an old version": b"POST /first HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
    "an absolute target": b"POST http://h/first?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
}


def reader() -> RequestParser:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    made = RequestParser(protocol, loop)
    assert made.parser is not None
    protocol._parser = made.parser
    return made


def read(pieces: Iterable[bytes]) -> list[Any]:
    """Parse the pieces, and read each body at once, as the gateway does."""
    one = reader()
    messages = []
    for piece in pieces:
        for message, content in one.read(piece):
            messages.append(message)
            content.read_nowait()
    return messages


def paths(messages: Iterable[Any]) -> tuple[str | None, ...]:
    return tuple(message and message.path for message in messages)


def seen(message: Any) -> Sequence[Any]:
    return (
        message.method,
        message.path,
        message.version,
        message.raw_headers,
        dict(message.headers),
        message.should_close,
        message.compression,
        message.upgrade,
        message.chunked,
    )


@pytest.mark.case("F-01")
@pytest.mark.parametrize("before", CLOSING.values(), ids=CLOSING)
async def test_nothing_is_read_after_a_chunked_body_or_an_upgrade_wherever_the_bytes_are_split(
    before: bytes,
) -> None:
    sent = before + PROBE
    splits = range(max(0, len(before) - 300), len(sent))

    # Bytes that are malformed in one piece are also refused in two: None.
    assert {paths(read([sent[:at], sent[at:]])) for at in splits} <= {("/first",), (None,)}
    assert paths(read(bytes([byte]) for byte in sent)) == ("/first",)


@pytest.mark.case("F-01")
@pytest.mark.parametrize("before", KEEPING.values(), ids=KEEPING)
async def test_a_request_is_parsed_the_same_after_any_other_request(before: bytes) -> None:
    (alone,) = read([PROBE])
    sent = before + PROBE

    for at in range(len(sent)):
        first, second = read([sent[:at], sent[at:]])
        assert first.path.endswith(("/first", "/first?a=b"))
        assert seen(second) == seen(alone)


@pytest.mark.case("F-01")
async def test_trailers_do_not_become_headers_of_the_same_request() -> None:
    (message,) = read([CHUNKED, b"2\r\n{}\r\n0\r\nX-Signature: late\r\nX-Other: late\r\n\r\n"])

    assert "X-Signature" not in message.headers
    assert [name for name, _ in message.raw_headers] == [b"Host", b"Transfer-Encoding"]


@pytest.mark.case("F-01")
async def test_malformed_bytes_after_the_last_request_are_ignored() -> None:
    assert paths(read([CHUNKED + b"0\r\n\r\n", b"garbage\r\n\r\n"])) == ("/first",)


def with_fields(*fields: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: h", *fields, "Content-Length: 0", "", ""]).encode()


@pytest.mark.case("F-28")
@pytest.mark.parametrize("size", [1, 1000, 16_384, 1_000_000], ids=lambda size: f"{size} at once")
async def test_a_head_is_read_up_to_its_limits_and_refused_beyond_them(size: int) -> None:
    def outcome(sent: bytes) -> str:
        one = reader()
        for at in range(0, len(sent), size):
            for message, _ in one.read(sent[at : at + size]):
                return "read" if message is not None else "too long" if one.is_head_too_long else "refused"
        return "waiting"

    name = "X-Client-Certificate: "
    certificate = name + "A" * (MAX_FIELD - len(name))
    rest = MAX_HEAD - 4 * 14_000 - 100
    assert outcome(with_fields(*[f"X-{n}: y" for n in range(MAX_HEADERS - 2)])) == "read"
    assert outcome(with_fields(*[f"X-{n}: y" for n in range(MAX_HEADERS - 1)])) == "refused"
    assert outcome(with_fields(certificate)) == "read"
    assert outcome(with_fields(certificate + "A" * (len(name) + 1))) == "refused"
    fields = [f"X-{n}: " + "y" * 14_000 for n in range(4)]
    assert outcome(with_fields(*fields, "X-Rest: " + "y" * (rest - 100))) == "read"
    assert outcome(with_fields(*fields, "X-Rest: " + "y" * (rest + 100))) == "too long"


@pytest.mark.case("F-28")
@pytest.mark.parametrize(
    "endless",
    [b"2;" + b"x" * 10_000_000, b"1;name=valuevalue\r\nx\r\n" * 100_000, b"0\r\n" + b"X: y\r\n" * 100_000],
    ids=["one extension", "many extensions", "trailers"],
)
async def test_the_framing_of_a_chunked_body_is_bounded(endless: bytes) -> None:
    one = reader()
    ((_, content),) = one.read(CHUNKED)
    taken = 0
    for at in range(0, len(endless), 10_000):
        assert one.read(endless[at : at + 10_000]) == ()
        if content.exception():
            break
        content.read_nowait()
        taken = at

    assert content.exception() is not None
    assert taken < 512 * 1024
    assert one.read(PROBE) == ()


async def test_the_reader_of_a_truncated_body_gets_the_error() -> None:
    one = reader()
    ((_, content),) = one.read(CHUNKED + b"2\r\n{}\r\n")
    one.end(EvictedError())

    with pytest.raises(EvictedError):
        await content.readany()
    assert one.read(b"0\r\n\r\n" + PROBE) == ()


class Received(io.BytesIO):
    """Replaces the socket for http.client."""

    def makefile(self, _mode: str) -> io.BytesIO:
        return self


def parsed_answer(data: bytes, method: str = "POST") -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(Received(data), method=method)  # type: ignore[arg-type]
    response.begin()
    return response


def test_an_answer_is_json_with_a_length_and_a_date() -> None:
    response = parsed_answer(
        encode_answer(Answer(200, b'{"status":"accepted"}', "accepted"), keep_alive=True)
    )

    assert (response.version, response.status, response.reason) == (11, 200, "OK")
    assert response.read() == b'{"status":"accepted"}'
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Server"] == "gatehouse"
    assert response.headers["Connection"] is None
    assert abs(parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()) < 60


def test_headers_of_an_answer_replace_the_defaults_in_any_case() -> None:
    answer = Answer(503, b"x", "unavailable", {"content-type": "text/plain", "Retry-After": "7"})

    response = parsed_answer(encode_answer(answer, keep_alive=True))

    assert response.headers.get_all("Content-Type") == ["text/plain"]
    assert response.headers["Retry-After"] == "7"


def test_the_last_answer_has_connection_close() -> None:
    assert (
        parsed_answer(encode_answer(Answer(413, b"x", "too_large"), keep_alive=False)).headers["Connection"]
        == "close"
    )


def test_an_http_1_0_answer_has_its_version_and_keep_alive() -> None:
    response = parsed_answer(
        encode_answer(Answer(200, b"x", "accepted"), keep_alive=True, version=HttpVersion10)
    )

    assert (response.version, response.headers["Connection"]) == (10, "keep-alive")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_neither_body_nor_length(status: int) -> None:
    data = encode_answer(Answer(status, b"x", "accepted"), keep_alive=True)

    assert data.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in data


def test_the_answer_to_head_has_the_length_of_the_omitted_body() -> None:
    data = encode_answer(Answer(405, b"four", "method_not_allowed"), keep_alive=True, with_body=False)

    assert data.endswith(b"\r\n\r\n")
    assert parsed_answer(data, "HEAD").headers["Content-Length"] == "4"


def test_an_unknown_status_has_no_reason_phrase() -> None:
    assert parsed_answer(encode_answer(Answer(299, b"x", "accepted"), keep_alive=True)).reason == ""


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0b"])
def test_a_line_break_in_a_header_does_not_start_another_header(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        encode_answer(Answer(200, b"x", "accepted", {"Content-Type": value}), keep_alive=True)
