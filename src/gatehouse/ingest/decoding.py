"""Decodes the compressed body of a request, before or after its verification."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from gatehouse.errors import BodyTooLargeError, MalformedRequestError
from gatehouse.events.reader import with_body_as_sent
from gatehouse.language.codings import (
    DecodedTooLargeError,
    MalformedCodingError,
    codings_of,
    decode_steps,
)

if TYPE_CHECKING:
    from gatehouse.events.event import ReadEvent
    from gatehouse.ingest.body import Bodies
    from gatehouse.ingest.source import Source
    from gatehouse.language.request import Request
    from gatehouse.verify.base import AgeLimit, VerifiedRequest

#: Steps after which other requests get their turn. They take about a millisecond.
_STEPS_PER_TURN: Final = 8


class EncodedRequest:
    """One request with a compressed body, of a source with `decode`.

    The verification of a source that signs the bytes as sent comes before the decoding. So a sender without
    the secret can't make the gateway decompress anything.
    """

    def __init__(self, request: Request, source: Source, bodies: Bodies) -> None:
        self._sent = request
        self._reader = source.reader
        self._limit = source.max_body
        self._verify_decoded = source.decode is not None and source.decode.verify == "decoded"
        self._bodies = bodies
        #: Counts the decoded bytes.
        self._room = bodies.body()
        self._is_unreadable = False

    def release(self) -> None:
        """Release the memory that the decoded body counts for."""
        self._bodies.release(self._room)

    async def before_verification(self) -> Request:
        """Return the request to verify: with its body as sent, or decoded with `verify: decoded`.

        Raises `MalformedRequestError` if the body can't be decoded, `BodyTooLargeError`, and
        `UnavailableError` if there is no room in memory.
        """
        if not self._verify_decoded:
            return self._sent
        try:
            return await self._decoded()
        except MalformedCodingError as error:
            raise MalformedRequestError(f"the body cannot be decoded: {error}") from error

    async def after_verification(
        self, verified: VerifiedRequest, age: AgeLimit | None, now: float
    ) -> VerifiedRequest:
        """Return the verified request with its decoded body.

        `age` is the age limit, which may read the decoded body. A body that can't be decoded stays as it is,
        and becomes an unreadable event. Raises `BodyTooLargeError` and `UnavailableError`, and
        `VerificationError` if the request is too old.
        """
        request = verified.request
        if not self._verify_decoded:
            try:
                request = await self._decoded()
            except MalformedCodingError:
                self._is_unreadable = True
        scopes = None if age is None else age.check(request, verified.facts, now)
        return msgspec.structs.replace(verified, request=request, scopes=scopes)

    def read(
        self, verified: VerifiedRequest, now: float, headers: tuple[tuple[str, str], ...]
    ) -> list[ReadEvent]:
        """Return the events of the request, as `EventReader.read` does. They keep the body as it was sent."""
        read = self._reader.unreadable if self._is_unreadable else self._reader.read
        return [with_body_as_sent(one, self._sent) for one in read(verified, now, headers)]

    async def _decoded(self) -> Request:
        request = self._sent
        codings = codings_of(request.headers.getall("Content-Encoding"))
        steps = decode_steps(request.body, codings, self._limit)
        turns = 0
        while True:
            try:
                self._bodies.take(self._room, next(steps))
            except StopIteration as end:
                return msgspec.structs.replace(request, body=end.value)
            except DecodedTooLargeError as error:
                raise BodyTooLargeError(f"the decoded body is longer than {self._limit} bytes") from error
            turns += 1
            if turns % _STEPS_PER_TURN == 0:
                await asyncio.sleep(0)


def encoded_request(request: Request, source: Source, bodies: Bodies) -> EncodedRequest | None:
    """Return the request as one to decode; None if its body is not compressed, or is not to be decoded."""
    if source.decode is None or not codings_of(request.headers.getall("Content-Encoding", ())):
        return None
    return EncodedRequest(request, source, bodies)
