"""A raw HTTP request saved in a file: request line, headers, a blank line, and the body as it was sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from gatehouse.errors import GatewayError
from gatehouse.language.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The blank line, in files whose lines end in CRLF, in LF, or in either as an editor left them.
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+)( HTTP/[0-9](\.[0-9])?)?", re.ASCII)
_URL = re.compile(r"https?://[^/?#]+(.*)", re.ASCII)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.ASCII)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[^\r\n]*)?\r?\n")
_MOST_HEADERS = 1000
_CHUNKED = "the body as received; or without its chunks and without the Transfer-Encoding header"
_FORM = "POST /path HTTP/1.1, headers, a blank line, and the body byte for byte"


def parse_request(raw: bytes, *, public_url: str = "", client: str = "") -> Request:
    """Read a saved request. Raises `GatewayError` that says which part is not HTTP.

    The body stays the bytes that are there, but for a chunked one, which is put together.
    """
    head, body = _cut(raw)
    first, *lines = head.decode("utf-8", "surrogateescape").split("\n")
    method, path, query = _request_line(first.removesuffix("\r"))
    headers: CIMultiDict[str] = CIMultiDict(_headers(lines))
    if headers.get("Transfer-Encoding", "").lower().endswith("chunked"):
        body = _unchunked(body)
    return Request(method, path, query, headers, body, public_url, client)


def _cut(raw: bytes) -> tuple[bytes, bytes]:
    raw = raw.lstrip(b"\r\n")
    if not raw:
        raise GatewayError("the file is empty", hint=_FORM)
    blank = _BLANK_LINE.search(raw)
    if blank is None:
        raise GatewayError("no blank line ends the headers", hint=_FORM)
    return raw[: blank.start()], raw[blank.end() :]


def _request_line(line: str) -> tuple[str, str, str]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise GatewayError("line 1: not the first line of an HTTP request", hint=_FORM)
    target = match[2]
    if not target.startswith("/"):  # as sent to a proxy: the whole URL
        url = _URL.fullmatch(target)
        if url is None:
            raise GatewayError("line 1: neither a path nor a URL", hint=_FORM)
        target = url[1] if url[1].startswith("/") else f"/{url[1]}"
    path, _, query = target.partition("#")[0].partition("?")
    return match[1], path, query


def _headers(lines: list[str]) -> Iterator[tuple[str, str]]:
    if len(lines) > _MOST_HEADERS:
        raise GatewayError(f"more than {_MOST_HEADERS} headers", hint=_FORM)
    for number, line in enumerate(lines, 2):
        match = _HEADER.fullmatch(line.removesuffix("\r"))
        if match is None:
            # What the line holds is not repeated: it may be a credential.
            raise GatewayError(f"line {number}: not a header", hint="Name: value, each on a line of its own")
        yield match[1], match[2]


def _unchunked(body: bytes) -> bytes:
    """Put the chunks together. Many tools save the body as decoded and keep the header: then it stays."""
    if not _CHUNK_SIZE.match(body):
        return body
    chunks: list[bytes] = []
    position = 0
    while True:
        size = _CHUNK_SIZE.match(body, position)
        if size is None:
            raise GatewayError(f"the chunked body is broken at its byte {position}", hint=_CHUNKED)
        length, start = int(size[1], 16), size.end()
        if not length:
            return b"".join(chunks)
        chunks.append(body[start : start + length])
        if len(chunks[-1]) < length:
            raise GatewayError("the chunked body ends before its last chunk", hint=_CHUNKED)
        position = _after_line_end(body, start + length)


def _after_line_end(body: bytes, position: int) -> int:
    if body.startswith(b"\r\n", position):
        return position + 2
    return position + body.startswith(b"\n", position)
