"""Parses HTTP requests from the bytes of a connection, and writes answers as bytes.

aiohttp's parser keeps the last trailer of a chunked request and turns it into a header of the next request.
So a parser that has read a chunked body reads no further request: the connection closes after this one.
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import HttpVersion10, HttpVersion11, hdrs
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    Message = tuple[RawRequestMessage | None, StreamReader]
    from collections.abc import Mapping

    from aiohttp import HttpVersion

    from gatehouse.ingest.answer import Answer

#: Header fields of a request, its trailers included.
MAX_HEADERS: Final = 128
#: Bytes of one field: a client certificate fits.
MAX_FIELD: Final = 16 * 1024
#: Bytes of a request's head in total.
MAX_HEAD: Final = 64 * 1024
#: Requests without an answer that a connection may have; from half as many on, more are taken.
MOST_UNANSWERED: Final = 32
#: Bytes of a body that wait to be read; at twice as many no more is taken from the kernel.
_READ_BUFFER: Final = 64 * 1024
#: Bytes that may come around a chunked body: its chunks' sizes and extensions, and its trailers.
_MAX_FRAMING: Final = 64 * 1024
#: Of those, how many more each byte of the body allows for. A chunk of one byte is sent as six.
_FRAMING_PER_BYTE: Final = 8
#: Bytes of a field besides its name and value: `: ` and the end of the line.
_FIELD_EXTRA: Final = 4


class GivenUpError(ConnectionError):
    """The request is given up, because others need its place."""


class Reader:
    """Reads the requests of one connection."""

    __slots__ = ("_around", "_earlier", "arriving", "head", "is_over", "is_too_long", "parser")

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self.parser: HttpRequestParser | None = HttpRequestParser(
            protocol,
            loop,
            _READ_BUFFER,
            max_headers=MAX_HEADERS,
            max_field_size=MAX_FIELD,
            payload_exception=aiohttp.ClientPayloadError,
            auto_decompress=False,
            max_msg_queue_size=MOST_UNANSWERED,
        )
        #: The body that is arriving, if one did not come with its head.
        self.arriving: StreamReader | None = None
        #: Whether no request follows those that were read.
        self.is_over = False
        #: Whether a head was refused for its length, and not for its form.
        self.is_too_long = False
        #: Bytes of a head that is not complete.
        self.head = 0
        #: Bytes that came together with the last request: the next head may have begun in them.
        self._earlier = 0
        #: Bytes that came since the head of the request that is arriving.
        self._around = 0

    def read(self, data: bytes) -> Sequence[Message]:
        """Return the requests whose heads are complete now."""
        arriving = self.arriving
        if self.is_over and arriving is None:
            return ()
        assert self.parser is not None  # noqa: S101 - the connection is open
        messages: Sequence[Message]
        try:
            messages, _, _ = self.parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - whatever the parser stumbles over, it is not HTTP
            return self._broken(error)
        if arriving is not None and not self._go_on_with(arriving, len(data)):
            return ()
        if not messages:
            return self._look_at_beginning(0 if arriving else len(data))
        if self._earlier + self.head + len(data) > MAX_HEAD and any(map(_is_too_long, messages)):
            return self._refuse_head()
        self._earlier, self.head = len(data), 0
        message, content = messages[-1]
        if (
            len(messages) > 1
            or message.version is not HttpVersion11
            or message.chunked
            or message.should_close
            or message.upgrade
        ):
            messages = self._until_last(messages)
            content = messages[-1][1]
        if not content.is_eof():
            self.arriving, self._around = content, 0
        return messages

    def close(self, error: BaseException) -> None:
        """Read nothing more, and let go of the connection: the parser knows it."""
        self.end(error)
        self.parser = None

    def end(self, error: BaseException) -> None:
        """Read nothing more. Who waits for the rest of a body gets the error."""
        self.is_over = True
        arriving, self.arriving = self.arriving, None
        if arriving is not None and not arriving.is_eof():
            arriving.set_exception(error)

    def _go_on_with(self, arriving: StreamReader, size: int) -> bool:
        """Look at the body that is arriving. Returns whether what came may hold another request."""
        if arriving.is_eof():
            self.arriving = None
            self._earlier = size
            return not self.is_over
        self._around += size
        if self._around > _MAX_FRAMING + (1 + _FRAMING_PER_BYTE) * arriving.total_bytes:
            self.end(TransferEncodingError("too much around the body"))
        return False

    def _look_at_beginning(self, size: int) -> Sequence[Message]:
        """Count what completed no head. Of a head itself it is `size` bytes, unless a body has begun."""
        if self.arriving is None:
            self.head += size
            if self.head > MAX_HEAD:
                return self._refuse_head()
        return ()

    def _broken(self, error: Exception) -> Sequence[Message]:
        arriving, was_over = self.arriving, self.is_over
        self.end(error if isinstance(error, HttpProcessingError) else HttpProcessingError())
        # What follows the last request is nobody's, and a body that breaks off is told to who reads it.
        if was_over or (arriving is not None and not arriving.is_eof()):
            return ()
        return [(None, EMPTY_PAYLOAD)]

    def _refuse_head(self) -> Sequence[Message]:
        self.is_over = self.is_too_long = True
        return [(None, EMPTY_PAYLOAD)]

    def _until_last(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Leave out what follows a request that is to be the last one."""
        for index, (message, _) in enumerate(messages):
            # The parser takes HTTP/0.9, too: without a version, and for CONNECT even without a target.
            if message is None or message.version < HttpVersion10:
                self.is_over = True
                return [*messages[:index], (None, EMPTY_PAYLOAD)]
            # After an offer to upgrade the parser may have dropped what follows.
            if message.chunked or message.should_close or message.upgrade:
                self.is_over = True
                return messages[: index + 1]
        return messages


def _is_too_long(message: Message) -> bool:
    head = message[0]
    if head is None:
        return False
    fields = sum(len(name) + len(value) + _FIELD_EXTRA for name, value in head.raw_headers)
    return len(head.path or "") + fields > MAX_HEAD


_HEADERS: Final[Mapping[str, str]] = {hdrs.CONTENT_TYPE: "application/json", hdrs.SERVER: "gatehouse"}
#: No length either: RFC 9110, 8.6.
_WITHOUT_BODY: Final = frozenset(map(int, (*range(100, 200), HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)))
#: What would end a header before its time. What an answer repeats of others may not hold it.
_UNSAFE: Final = frozenset("\r\n\0")


def written(
    answer: Answer, *, keep_alive: bool, version: HttpVersion = HttpVersion11, with_body: bool = True
) -> bytes:
    """Write an answer out. Raises `ValueError` for a header that HTTP can't carry."""
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
def _head(status: int, more: tuple[tuple[str, str], ...], keep_alive: bool, is_old: bool) -> bytes:
    headers = CIMultiDict(_HEADERS)
    headers.update(more)
    if not keep_alive:
        headers[hdrs.CONNECTION] = "close"
    elif is_old:
        headers[hdrs.CONNECTION] = "keep-alive"
    lines = [f"HTTP/1.{0 if is_old else 1} {status} {_phrase(status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any(not _UNSAFE.isdisjoint(line) for line in lines):
        raise ValueError("a header with a line break")
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "ignore")


def _phrase(status: int) -> str:
    """Return the words for a status; none for one that is nobody's."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


#: A host without a user's name in front of it: RFC 9110, 4.2.4 says to treat such a name as an error.
_ABSOLUTE: Final = re.compile(r"https?://[^/?#@]+(?P<origin>[/?#].*)?", re.IGNORECASE | re.DOTALL)


def path_and_query(target: str) -> tuple[str, str]:
    """Split a target, as a path or as a URL. The path of what is neither is empty: `*`, or a host alone."""
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
