"""Decodes compressed bodies (`Content-Encoding`), in small steps and up to a limit.

Sources: RFC 9110, 8.4 (content codings); RFC 1950 to 1952 (zlib, DEFLATE, gzip); RFC 7932 (Brotli).
"""

from __future__ import annotations

import zlib
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

#: All content codings (IANA's HTTP Content Coding Registry, and `x-` as in RFC 9110, 8.4.1). Real clients
#: also send other values, such as `UTF-8`; those do not change the bytes.
_CODINGS: Final = frozenset(
    (
        *("aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "zstd"),
        *("x-compress", "x-gzip"),
    )
)
#: How many codings one body may have. Each one can multiply the work.
MAX_CODINGS: Final = 2
#: How many gzip members a body may have. Each one costs time, even an empty one.
MAX_MEMBERS: Final = 1000
#: Bytes that one step reads and writes. A step takes a fraction of a millisecond.
_INPUT, _OUTPUT = 16 * 1024, 64 * 1024


class MalformedCodingError(ValueError):
    """The body is not what its Content-Encoding says."""


class DecodedTooLargeError(ValueError):
    """The decoded body is longer than the limit."""


def codings_of(values: Iterable[str]) -> tuple[str, ...]:
    """Return the content codings of all Content-Encoding headers, in the order in which they were applied."""
    named = (name.strip().lower() for value in values for name in value.split(","))
    return tuple(name.removeprefix("x-") for name in named if name in _CODINGS)


@cache
def supported_codings() -> tuple[str, ...]:
    """Return the codings that can be decoded. `br` needs the extra `brotli`."""
    return ("gzip", "deflate", "br") if find_spec("brotli") else ("gzip", "deflate")


def decode_steps(body: bytes, codings: Sequence[str], limit: int) -> Generator[int, None, bytes]:
    """Decode a body of supported codings. Each step yields the number of bytes that it wrote.

    Raises `MalformedCodingError`, or `DecodedTooLargeError` when more than `limit` bytes are written.
    """
    for coding in reversed(codings) if body else ():
        pieces: list[bytes] = []
        size = 0
        for piece in _DECODERS[coding](body):
            size += len(piece)
            if size > limit:
                raise DecodedTooLargeError
            pieces.append(piece)
            yield len(piece)
        body = b"".join(pieces)
    return body


def decode(body: bytes, codings: Sequence[str], limit: int) -> bytes:
    """Decode a body without a pause. Raises the same errors as `decode_steps`."""
    steps = decode_steps(body, codings, limit)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            decoded: bytes = end.value
            return decoded


def _gunzip(body: bytes) -> Iterator[bytes]:
    """Decode gzip. A body may consist of several members (RFC 1952, 2.2)."""
    position = 0
    for _ in range(MAX_MEMBERS):
        position = yield from _inflate(body, zlib.MAX_WBITS | 16, position)
        if position == len(body):
            return
    raise MalformedCodingError("too many gzip members")


def _deflate(body: bytes) -> Iterator[bytes]:
    """Decode `deflate`: the zlib format, or the bare DEFLATE stream that some senders write instead."""
    is_zlib = body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    end = yield from _inflate(body, zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS, 0)
    if end != len(body):
        raise MalformedCodingError("bytes after the end of the compressed body")


def _inflate(body: bytes, wbits: int, position: int) -> Generator[bytes, None, int]:
    """Decode one stream that begins at `position`. Return where it ends."""
    stream = zlib.decompressobj(wbits)
    while not stream.eof:
        chunk = body[position : position + _INPUT]
        try:
            piece = stream.decompress(chunk, _OUTPUT)
        except zlib.error as error:
            raise MalformedCodingError("damaged compressed data") from error
        if not chunk and not piece and not stream.eof:
            raise MalformedCodingError("the compressed body ends too early")
        position += len(chunk) - len(stream.unconsumed_tail) - len(stream.unused_data)
        yield piece
    return position


def _unbrotli(body: bytes) -> Iterator[bytes]:
    brotli = import_module("brotli")  # only a gateway that decodes `br` needs it
    stream, position = brotli.Decompressor(), 0
    while not stream.is_finished():
        # While output is left, the decoder takes no more input.
        chunk = body[position : position + _INPUT] if stream.can_accept_more_data() else b""
        position += len(chunk)
        try:
            piece: bytes = stream.process(chunk, output_buffer_limit=_OUTPUT)
        except brotli.error as error:
            raise MalformedCodingError("damaged compressed data") from error
        if not chunk and not piece and not stream.is_finished():
            raise MalformedCodingError("the compressed body ends too early")
        yield piece
    if position != len(body):
        raise MalformedCodingError("bytes after the end of the compressed body")


_DECODERS = {"gzip": _gunzip, "deflate": _deflate, "br": _unbrotli}
