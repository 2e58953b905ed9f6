"""Answers handshakes: confirms them where needed, and keeps the secrets that they carry for the operator."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypedDict

from msgspec import Meta

from gatehouse.errors import UnavailableError
from gatehouse.ingest.answer import Answer, handshake_answer
from gatehouse.language.times import Rfc3339, rfc3339
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from gatehouse.ingest.source import Source
    from gatehouse.language.request import Request
    from gatehouse.verify.base import VerifiedRequest
    from gatehouse.verify.handshake import Reply

#: Fetches a URL to confirm a handshake. Returns whether the answer was 200. Raises nothing.
Confirm = Callable[[str], Awaitable[bool]]

#: Secrets to keep per source. Anyone can send some, so the operator also sees the time and the client.
MAX_SECRETS = 5
_API_PATH = "GET /api/v1/handshakes on the operator listener"


class _Secret(NamedTuple):
    source: str
    handshake: str
    secret: str
    received: float
    client: str


class HandshakeSecret(TypedDict):
    """A secret from a handshake, as the operator API shows it."""

    source: Annotated[str, Meta(description="The name of the source.", examples=["asana"])]
    handshake: Annotated[str, Meta(description="Its name in the preset.", examples=["X-Hook-Secret"])]
    secret: Annotated[
        str, Meta(description="The secret itself.", examples=["b537207f20cbfa02357cf448134da559"])
    ]
    received: Annotated[Rfc3339, Meta(description="When it came.")]
    client: Annotated[str, Meta(description="The address it came from.", examples=["192.0.2.7"])]


class HandshakeSecrets:
    """The secrets that providers sent in handshakes: the last few of each source, in memory only."""

    def __init__(self) -> None:
        self._by_source: dict[str, deque[_Secret]] = {}

    def add(self, source: str, handshake: str, secret: str, *, received: float, client: str) -> None:
        """Keep a secret for the operator, and log that it arrived."""
        kept = self._by_source.setdefault(source, deque(maxlen=MAX_SECRETS))
        kept.append(_Secret(source, handshake, secret, received, client))
        get_logger().warning(
            "handshake.secret_shown",
            source=source,
            handshake=handshake,
            client=client or None,
            where=_API_PATH,
        )

    def entries(self) -> list[HandshakeSecret]:
        """List the secrets, newest first: source, handshake, secret, time of receipt (RFC 3339), client."""
        every = [one for kept in self._by_source.values() for one in reversed(kept)]
        every.sort(key=lambda one: one.received, reverse=True)
        return [
            {
                "source": one.source,
                "handshake": one.handshake,
                "secret": one.secret,
                "received": rfc3339(one.received),
                "client": one.client,
            }
            for one in every
        ]


class HandshakeResponder:
    """Carries out the replies that `verify/handshake.py` decides on."""

    def __init__(self, shown: HandshakeSecrets, confirm: Confirm) -> None:
        self._secrets = shown
        self._confirm = confirm

    def before_verification(self, source: Source, request: Request, now: float) -> Answer | None:
        """Answer a handshake that needs no verification; None for any other request."""
        reply = source.handshakes.before_verification(request) if source.handshakes else None
        return None if reply is None else self._answer(source, reply, request, now)

    async def after_verification(
        self, source: Source, verified: VerifiedRequest, now: float
    ) -> Answer | None:
        """Answer a handshake that is verified; None for any other request."""
        reply = source.handshakes.after_verification(verified) if source.handshakes else None
        if reply is None:
            return None
        if reply.confirm is not None and not await self._confirm(reply.confirm):
            raise UnavailableError("the confirmation failed; send again later", reason="confirmation")
        return self._answer(source, reply, verified.request, now)

    def _answer(self, source: Source, reply: Reply, request: Request, now: float) -> Answer:
        if reply.shown is not None:
            self._secrets.add(source.name, reply.handshake, reply.shown, received=now, client=request.client)
        return handshake_answer(reply)
