"""Finds the end and the status of a reply's head before a parser sees the reply. Pure.

An interim response ends at its empty line, whatever its headers say (RFC 9112, 6.3). A head that the parser
rejects still has a status line.
"""

from __future__ import annotations

import re
from typing import Final

#: The largest head whose headers are read, in bytes and in lines. For a larger one, only the status counts.
MAX_HEAD: Final = 256 * 1024
MAX_FIELDS: Final = 2048

_PROTOCOL: Final = b"HTTP/"
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})(?:[ \t][^\r\n]*)?\r?\n")
#: The first line of an interim response: all of 1xx except 101, which switches protocols.
_INTERIM: Final = re.compile(rb"HTTP/[0-9]\.[0-9] 1(?!01)[0-9]{2}[ \t\r\n]")
_END: Final = re.compile(rb"\n\r?\n")


class NotHttpError(Exception):
    """The data is not the start of an HTTP response."""


def has_complete_head(data: bytes) -> bool:
    """Return whether the first bytes of a reply contain the whole head of a final response. Cheap."""
    return data[:7] == b"HTTP/1." and data[9:10] != b"1" and b"\r\n\r\n" in data and len(data) <= MAX_HEAD


def head_length(data: bytes) -> int:
    """Return the length of the head at the start of the data; all of the data if it has no end."""
    found = _END.search(data)
    return found.end() if found else len(data)


class HeadReader:
    """Collects the head of one reply."""

    __slots__ = ("_head",)

    def __init__(self) -> None:
        self._head: bytes | bytearray = b""

    def feed(self, data: bytes) -> tuple[bytes, int] | None:
        """Return the reply so far and the length of its head; None until the head is complete.

        Interim responses are skipped. A head that is too long counts as complete. Raises `NotHttpError`.
        """
        start, seen = 0, max(len(self._head) - 2, 0)
        if self._head:
            if not isinstance(self._head, bytearray):
                self._head = bytearray(self._head)
            self._head += data
        else:
            self._head = data.lstrip(b"\r\n")
        head = self._head
        while found := _END.search(head, max(start, seen)):
            end = found.end()
            if not _INTERIM.match(head, start):
                return bytes(head[start:]), end - start
            start = end
        self._head = head[start:] if start else head
        return self._check_incomplete()

    def _check_incomplete(self) -> tuple[bytes, int] | None:
        head = self._head
        if head[: len(_PROTOCOL)] != _PROTOCOL[: len(head)]:
            raise NotHttpError
        if b"\n" in head[:MAX_HEAD] and not _STATUS_LINE.match(head):
            raise NotHttpError
        return (bytes(head), len(head)) if len(head) > MAX_HEAD else None


def parse_status(head: bytes) -> int | None:
    """Return the status of a head; None if it has none or is an interim response."""
    line = _STATUS_LINE.match(head)
    return None if line is None or _INTERIM.match(head) else int(line[1])
