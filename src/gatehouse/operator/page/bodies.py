"""Chooses what the page shows of a body: its text as it was sent, or its bytes as a hex dump. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.operator.page.hidden import hidden_count

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes of text on the page. The rest can be downloaded.
_LONGEST_TEXT: Final = 64 * 1024
#: Bytes of a hex dump, and of one line of it.
_LONGEST_DUMP, _LINE = 1024, 16
#: Text with more hidden characters than this is shown as a hex dump, because each of them takes much HTML.
_MOST_HIDDEN: Final = 500


class ShownBody(NamedTuple):
    """What the page shows of a body."""

    text: str
    is_dump: bool
    #: How many bytes are shown, and how many there are.
    shown: int
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether all of it is shown."""
        return self.shown == self.size


def body_bytes(event: Mapping[str, Any]) -> bytes:
    """Return the body of an event of the API, as the provider sent it."""
    if "body" in event:
        return bytes(event["body"].encode())
    return base64.b64decode(event["body_base64"])


def shown_body(body: bytes) -> ShownBody:
    """Return the start of a body as text, or as a hex dump if it is not text."""
    start = body[:_LONGEST_TEXT]
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        # The cut can go through a character of up to four bytes.
        is_cut = len(start) < len(body) and error.reason == "unexpected end of data"
        if not is_cut:
            return _dump(body)
        start = start[: error.start]
        text = start.decode()
    if hidden_count(text) > _MOST_HIDDEN:
        return _dump(body)
    return ShownBody(text, is_dump=False, shown=len(start), size=len(body))


def _dump(body: bytes) -> ShownBody:
    start = body[:_LONGEST_DUMP]
    lines = (_line(start, offset) for offset in range(0, len(start), _LINE))
    return ShownBody("\n".join(lines), is_dump=True, shown=len(start), size=len(body))


def _line(body: bytes, offset: int) -> str:
    part = body[offset : offset + _LINE]
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)  # noqa: PLR2004 - printable ASCII
    return f"{offset:08x}  {part.hex(' '):<{_LINE * 3 - 1}}  {text}"


def file_name(event: Mapping[str, Any]) -> str:
    """Return the name of the file into which a body is downloaded."""
    is_json = "json" in (event["content_type"] or "").lower()
    return f"{event['id']}.{'json' if is_json else 'bin'}"
