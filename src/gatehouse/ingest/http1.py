"""Parses HTTP requests from the bytes of a connection, and encodes answers as bytes.

aiohttp's parser keeps the last trailer of a chunked request and turns it into a header of the next request.
So a parser that has read a chunked body reads no further request: the connection closes after this one.
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import aiohttp
from aiohttp import HttpVersion10, HttpVersion11, hdrs
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from aiohttp import HttpVersion
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.streams import StreamReader
    from multidict import CIMultiDictProxy

    from gatehouse.ingest.answer import Answer

#: Header fields of a request, including trailers.
MAX_HEADERS: Final = 128
#: Bytes of one field. A client certificate fits.
MAX_FIELD: Final = 16 * 1024
#: Bytes of a complete head.
MAX_HEAD: Final = 64 * 1024
#: Unanswered requests of one connection. At this number reading stops; at half of it reading continues.
MAX_PIPELINED: Final = 32
#: Bytes of a body that wait to be read. At twice as many, the connection stops reading from the kernel.
_READ_BUFFER: Final = 64 * 1024
#: Bytes around a chunked body: the sizes and extensions of its chunks, and its trailers.
_MAX_FRAMING: Final = 64 * 1024
#: Additional such bytes for each byte of the body. A chunk with one byte takes six bytes.
_FRAMING_PER_BYTE: Final = 8
#: The bytes of a field other than its name and value: `: ` and the end of the line.
_FIELD_EXTRA: Final = 4
_HEADERS: Final[Mapping[str, str]] = {hdrs.CONTENT_TYPE: "application/json", hdrs.SERVER: "gatehouse"}
#: These statuses have no length either: RFC 9110, 8.6.
_WITHOUT_BODY: Final = frozenset(map(int, (*range(100, 200), HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)))
#: Characters that would end a header early. An answer that repeats text of others must not contain them.
_UNSAFE: Final = frozenset("\r\n\0")
#: The host must have no user name before it: RFC 9110, 4.2.4 says to treat a user name as an error.
_ABSOLUTE: Final = re.compile(r"https?://[^/?#@]+(?P<origin>[/?#].*)?", re.IGNORECASE | re.DOTALL)


class RequestHead(Protocol):
    """The head of a request, as aiohttp's parser returns it.

    aiohttp says that it is a `RawRequestMessage`, a named tuple, but the parser has a class of its own.
    """

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str:
        """The target as sent: a path with its query, a URL, or a host."""

    @property
    def version(self) -> HttpVersion: ...

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]: ...

    @property
    def should_close(self) -> bool:
        """Whether the client expects no further answer on this connection."""

    @property
    def upgrade(self) -> bool: ...

    @property
    def chunked(self) -> bool: ...


ParsedRequest: TypeAlias = "tuple[RequestHead | None, StreamReader]"


class EvictedError(ConnectionError):
    """The gateway gave up the request, to make room for another connection."""


class RequestParser:
    """Parses the requests of one connection."""

    __slots__ = (
        "_framing",
        "_last_read",
        "head_size",
        "incomplete_body",
        "is_finished",
        "is_head_too_long",
        "parser",
    )

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self.parser: HttpRequestParser | None = HttpRequestParser(
            protocol,
            loop,
            _READ_BUFFER,
            max_headers=MAX_HEADERS,
            max_field_size=MAX_FIELD,
            payload_exception=aiohttp.ClientPayloadError,
            auto_decompress=False,
            max_msg_queue_size=MAX_PIPELINED,
        )
        #: The body that is arriving; None when each body came together with its head.
        self.incomplete_body: StreamReader | None = None
        #: Whether the parser reads no further request.
        self.is_finished = False
        #: Whether a head was refused because it is too long, and not because it is malformed.
        self.is_head_too_long = False
        #: Bytes of an incomplete head.
        self.head_size = 0
        #: Bytes that came together with the last request. The next head may begin in them.
        self._last_read = 0
        #: Bytes since the head of the request whose body is arriving.
        self._framing = 0

    def read(self, data: bytes) -> Sequence[ParsedRequest]:
        """Return the requests whose heads are complete."""
        incomplete_body = self.incomplete_body
        if self.is_finished and incomplete_body is None:
            return ()
        assert self.parser is not None  # noqa: S101 - the connection is open
        requests: Sequence[ParsedRequest]
        try:
            requests, _, _ = self.parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - whatever the parser raises, the bytes are not HTTP
            return self._parse_failed(error)
        if incomplete_body is not None and not self._check_body(incomplete_body, len(data)):
            return ()
        if not requests:
            return self._count_head(0 if incomplete_body else len(data))
        if self._last_read + self.head_size + len(data) > MAX_HEAD and any(map(_is_head_too_long, requests)):
            return self._refuse_head()
        self._last_read, self.head_size = len(data), 0
        head, content = requests[-1]
        if (
            len(requests) > 1
            or head.version is not HttpVersion11
            or head.chunked
            or head.should_close
            or head.upgrade
        ):
            requests = self._cut_after_last(requests)
            content = requests[-1][1]
        if not content.is_eof():
            self.incomplete_body, self._framing = content, 0
        return requests

    def close(self, error: BaseException) -> None:
        """Stop parsing, and release the parser, which refers to the connection."""
        self.end(error)
        self.parser = None

    def end(self, error: BaseException) -> None:
        """Stop parsing. A reader of an incomplete body gets the error."""
        self.is_finished = True
        incomplete_body, self.incomplete_body = self.incomplete_body, None
        if incomplete_body is not None and not incomplete_body.is_eof():
            incomplete_body.set_exception(error)

    def _check_body(self, incomplete_body: StreamReader, size: int) -> bool:
        """Check the body that is arriving. Return whether the data may contain another request."""
        if incomplete_body.is_eof():
            self.incomplete_body = None
            self._last_read = size
            return not self.is_finished
        self._framing += size
        if self._framing > _MAX_FRAMING + (1 + _FRAMING_PER_BYTE) * incomplete_body.total_bytes:
            self.end(TransferEncodingError("too many bytes around the body"))
        return False

    def _count_head(self, size: int) -> Sequence[ParsedRequest]:
        """Count data that completed no head: `size` bytes belong to a head, unless a body has begun."""
        if self.incomplete_body is None:
            self.head_size += size
            if self.head_size > MAX_HEAD:
                return self._refuse_head()
        return ()

    def _parse_failed(self, error: Exception) -> Sequence[ParsedRequest]:
        incomplete_body, was_finished = self.incomplete_body, self.is_finished
        self.end(error if isinstance(error, HttpProcessingError) else HttpProcessingError())
        # Data after the last request is ignored, and the reader of an incomplete body gets the error.
        if was_finished or (incomplete_body is not None and not incomplete_body.is_eof()):
            return ()
        return [(None, EMPTY_PAYLOAD)]

    def _refuse_head(self) -> Sequence[ParsedRequest]:
        self.is_finished = self.is_head_too_long = True
        return [(None, EMPTY_PAYLOAD)]

    def _cut_after_last(self, requests: Sequence[ParsedRequest]) -> Sequence[ParsedRequest]:
        """Drop everything after a request that must be the last one."""
        for index, (head, _) in enumerate(requests):
            # The parser also accepts HTTP/0.9: without a version, and for CONNECT even without a target.
            if head is None or head.version < HttpVersion10:
                self.is_finished = True
                return [*requests[:index], (None, EMPTY_PAYLOAD)]
            # When a request offers an upgrade, the parser may have dropped the data after it.
            if head.chunked or head.should_close or head.upgrade:
                self.is_finished = True
                return requests[: index + 1]
        return requests


def _is_head_too_long(request: ParsedRequest) -> bool:
    head = request[0]
    if head is None:
        return False
    fields = sum(len(name) + len(value) + _FIELD_EXTRA for name, value in head.raw_headers)
    return len(head.path or "") + fields > MAX_HEAD


def encode_answer(
    answer: Answer, *, keep_alive: bool, version: HttpVersion = HttpVersion11, with_body: bool = True
) -> bytes:
    """Encode an answer. Raises `ValueError` for a header that HTTP cannot express."""
    head = _head(answer.status, tuple(answer.headers.items()), keep_alive, version == HttpVersion10)
    date = _date(int(time.time()))
    if answer.status in _WITHOUT_BODY:
        return b"%bDate: %b\r\n\r\n" % (head, date)
    length = len(answer.body)
    return b"%bContent-Length: %d\r\nDate: %b\r\n\r\n%b" % (
        head,
        length,
        date,
        answer.body if with_body else b"",
    )


@lru_cache(maxsize=256)
def _head(
    status: int, extra_headers: tuple[tuple[str, str], ...], keep_alive: bool, is_http10: bool
) -> bytes:
    headers = CIMultiDict(_HEADERS)
    headers.update(extra_headers)
    if not keep_alive:
        headers[hdrs.CONNECTION] = "close"
    elif is_http10:
        headers[hdrs.CONNECTION] = "keep-alive"
    lines = [f"HTTP/1.{0 if is_http10 else 1} {status} {_phrase(status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any(not _UNSAFE.isdisjoint(line) for line in lines):
        raise ValueError("a header contains a line break")
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "ignore")


def _phrase(status: int) -> str:
    """Return the reason phrase of a status; empty for an unknown status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


def split_target(target: str) -> tuple[str, str]:
    """Split a request target (RFC 9112, 3.2), which is a path or a URL, into path and query.

    The path is empty for any other target, such as `*` or a host alone.
    """
    if target.startswith("/"):
        origin = target
    elif absolute := _ABSOLUTE.fullmatch(target):
        origin = absolute["origin"] or "/"
        if origin.startswith("?"):
            origin = f"/{origin}"
    else:
        return "", ""
    path, _, query = origin.partition("?")
    return path, query
