"""Answers as the bytes that go out, head and body in one piece."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion10, HttpVersion11, hdrs
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import HttpVersion

    from gatehouse.ingest.answer import Answer

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
