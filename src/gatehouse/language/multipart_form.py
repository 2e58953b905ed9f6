"""Reads forms in `multipart/form-data` (RFC 7578), within limits. An ambiguous body is not a form."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Final, NamedTuple

from gatehouse.language.document import MalformedDocumentError

#: The Content-Type without its parameters.
MULTIPART: Final = "multipart/form-data"
#: The maximum number of parts. A body with more is not a form.
MAX_PARTS: Final = 1000
#: The maximum length of a header of a part in bytes, and the maximum number of its headers.
_MAX_HEADER, _MAX_HEADERS = 4096, 8
#: The maximum length of a boundary (RFC 2046, 5.1.1).
_MAX_BOUNDARY = 70
#: Where a Content-Disposition names its part.
_NAME = re.compile(r";\s*name\*?\s*=", re.IGNORECASE)
#: Transfer encodings that do not change the bytes. RFC 7578, 4.7 forbids the others.
_UNCHANGED = ("7bit", "8bit", "binary")


class Parts(NamedTuple):
    """The parts of a form, in order."""

    #: Name and value of each field. Bytes that are not UTF-8 are surrogate escapes.
    fields: list[tuple[str, str]]
    #: Name and content of each part with a file name.
    files: list[tuple[str, bytes]]


def read_parts(body: bytes, content_type: str) -> Parts:
    """Return the parts of a form. Raises `MalformedDocumentError`."""
    multipart: Any = import_module("multipart")  # only sources whose providers send such forms need it
    try:
        boundary = multipart.parse_options_header(content_type)[1].get("boundary", "").encode("latin-1")
        # The Content-Type is rarely signed. This ties the boundary to the body: another one could make a new
        # field of text that anyone can write.
        if not 0 < len(boundary) <= _MAX_BOUNDARY or not body.startswith(b"--%b\r\n" % boundary):
            raise MalformedDocumentError("the body does not begin with its boundary")
        parser = multipart.PushMultipartParser(
            boundary,
            content_length=len(body),
            max_header_size=_MAX_HEADER,
            max_header_count=_MAX_HEADERS,
            max_segment_count=MAX_PARTS,
            strict=True,
        )
        with parser:
            return _collected(parser, body)
    except (multipart.MultipartError, UnicodeError) as error:
        raise MalformedDocumentError("not a form") from error


def _collected(parser: Any, body: bytes) -> Parts:  # noqa: ANN401 - the library has no types
    found = Parts([], [])
    part, content = None, bytearray()
    for event in parser.parse(body):
        if isinstance(event, bytes | bytearray):
            content += event
        elif event is not None:
            part = _checked(event)
        elif part is not None:
            if part.filename is None:
                found.fields.append((part.name, content.decode("utf-8", "surrogateescape")))
            else:
                found.files.append((part.name, bytes(content)))
            content.clear()
    return found


def _checked(part: Any) -> Any:  # noqa: ANN401 - the library has no types
    """Refuse a part that two readers could understand differently."""
    names = [name for name, _ in part.headerlist]
    if len(set(names)) != len(names) or len(_NAME.findall(part.header("Content-Disposition"))) != 1:
        raise MalformedDocumentError("a part has two names")
    if part.header("Content-Transfer-Encoding", "binary").strip().lower() not in _UNCHANGED:
        raise MalformedDocumentError("a part has a transfer encoding")
    return part
