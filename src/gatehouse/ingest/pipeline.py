"""The steps of a request, in order: handshake or verification, reading, routing, relay or commit, answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from gatehouse.errors import VerificationError
from gatehouse.events.event import UNREADABLE
from gatehouse.ingest.answer import Answer, committed, committed_batch
from gatehouse.store.base import Arrival, Assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gatehouse.events.event import ReadEvent
    from gatehouse.ingest.decoding import EncodedRequest
    from gatehouse.ingest.duplicates import Duplicates
    from gatehouse.ingest.handshakes import HandshakeResponder
    from gatehouse.ingest.source import Source
    from gatehouse.language.request import Request
    from gatehouse.store.base import Receipt
    from gatehouse.telemetry.metrics import SourceMetrics
    from gatehouse.verify.base import PreparedKeys, RemoteVerifier, Verification, VerifiedRequest


#: Rows per commit of a batch. A thousand rows take about 30 ms; the deadline is 800 ms, even on a slow disk.
MAX_ROWS: Final = 1000


class EventCommitter(Protocol):
    """What the pipeline needs of the committer."""

    def check_room(self) -> None:
        """Raise `UnavailableError` when no more requests may wait."""

    async def accept(self, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        """Commit all events in one transaction, or raise `UnavailableError`."""


class KeyProvider(Protocol):
    """What the pipeline needs of the object that fetches the published keys of providers."""

    async def prepare(
        self, source: str, verifiers: Sequence[RemoteVerifier], request: Request
    ) -> PreparedKeys:
        """Fetch the keys that these verifiers need."""

    def mark_verified(self, urls: tuple[str, ...]) -> None:
        """Note that a request was verified with these keys."""


class EventRelay(Protocol):
    """What the pipeline needs to forward an event while its provider waits for the answer."""

    async def accept(self, arrival: Arrival, *, now: float, within: float) -> Receipt:
        """Forward and commit the event.

        The receipt holds the reply. Raises `RelayFailedError` or `UnavailableError`.
        """


class DeliveryReviver(Protocol):
    """What the pipeline needs to retry dead deliveries."""

    async def revive(self, duplicates: Iterable[tuple[Arrival, Receipt]], now: float) -> int:
        """Return how many deliveries are retried. Raises `UnavailableError`."""


class Pipeline:
    """Takes a request from its raw bytes to its answer."""

    def __init__(
        self,
        committer: EventCommitter,
        has_room: Callable[[str], bool],
        clock: Callable[[], float],
        responder: HandshakeResponder,
        remote_keys: KeyProvider,
        relay: EventRelay,
        reviver: DeliveryReviver,
        *,
        duplicates: Duplicates,
        steady: Callable[[], float] | None = None,
    ) -> None:
        """`clock` is the system clock, for signed timestamps. `steady` is a clock that never jumps."""
        self._committer = committer
        self._responder = responder
        self._remote_keys = remote_keys
        self._relay = relay
        self._reviver = reviver
        self._duplicates = duplicates
        self._has_room = has_room
        self._clock = clock
        self._steady = steady or clock

    async def receive(
        self,
        source: Source,
        metrics: SourceMetrics,
        request: Request,
        encoded: EncodedRequest | None = None,
    ) -> Answer:
        """Answer a request. Raises `RequestRejectedError` for every error answer.

        `encoded` is the request as it was sent, if its body is compressed and the source decodes it.
        """
        # This check comes first: under overload, no time is spent on requests that would be refused later.
        self._committer.check_room()
        now = self._clock()
        if source.handshakes and (handshake := self._responder.before_verification(source, request, now)):
            return handshake
        verification = source.ready_verification()
        if encoded is None and not verification.remote:
            verified = verification.verify(request, now)
        else:
            verified = await self._verify_in_steps(source, verification, request, now, encoded)
        if verified.secret:
            verifications, last_used = metrics.secrets[verified.secret]
            verifications.value += 1
            last_used.value = now
            if verified.other_secrets:
                _count_other_secrets(metrics, verified, now)
        if source.handshakes and (
            handshake := await self._responder.after_verification(source, verified, now)
        ):
            return handshake
        # Due times and the ends of dedupe windows are relative to this time. Stores keep milliseconds, so
        # the event has to read the same before and after a restart.
        received = int(self._steady() * 1000) / 1000
        reader = source.reader if encoded is None else encoded
        read = reader.read(verified, received, source.kept_headers(request.headers))
        if source.splits:
            return await self._accept_batch(source, metrics, read, received, verified)
        arrival = self._arrival(source, read[0], verified.verified_by)
        if source.relay_timeout and arrival.assignments:
            # The provider is answered with the destination's reply, so the event is forwarded now.
            receipt = await self._relay.accept(arrival, now=received, within=source.relay_timeout)
        else:
            (receipt,) = await self._committer.accept([arrival])
        revived = 0
        if receipt.status == "accepted":
            _count(metrics, arrival, received)
        else:
            self._duplicates.add(receipt.event_id, received, request.client or None)
            if receipt.dead is not None:
                revived = await self._reviver.revive([(arrival, receipt)], received)
        return committed(arrival.event, receipt, source.settings.answers, revived, verified.secret)

    async def _verify_in_steps(
        self,
        source: Source,
        verification: Verification,
        request: Request,
        now: float,
        encoded: EncodedRequest | None,
    ) -> VerifiedRequest:
        """Verify a request that may need a published key, or whose body may have to be decoded afterwards."""
        without_age = verification if encoded is None else verification.without_age
        if verification.remote:
            verified = await self._verify_with_keys(source, without_age, request, now)
        else:
            verified = without_age.verify(request, now)
        return (
            verified if encoded is None else await encoded.after_verification(verified, verification.age, now)
        )

    async def _verify_with_keys(
        self, source: Source, verification: Verification, request: Request, now: float
    ) -> VerifiedRequest:
        """Verify a request whose verification may need a published key.

        When a key cannot be fetched, a request that passes without it is accepted. Any other request gets
        503, so that the provider sends it again.
        """
        prepared = await self._remote_keys.prepare(
            source.name, verification.needing_keys(request, now), request
        )
        try:
            verified = verification.verify(request, now)
        except VerificationError as error:
            if prepared.unavailable is not None:
                raise prepared.unavailable from error
            raise
        self._remote_keys.mark_verified(prepared.urls)
        return verified

    async def _accept_batch(
        self,
        source: Source,
        metrics: SourceMetrics,
        read: Sequence[ReadEvent],
        now: float,
        verified: VerifiedRequest,
    ) -> Answer:
        receipts: list[Receipt] = []
        dead: list[tuple[Arrival, Receipt]] = []
        for part in self._split_batch(source, read, verified.verified_by):
            committed_part = await self._committer.accept(part)
            receipts += committed_part
            for arrival, receipt in zip(part, committed_part, strict=True):
                if receipt.status == "accepted":
                    _count(metrics, arrival, now)
                    continue
                self._duplicates.add(receipt.event_id, now, verified.request.client or None)
                if receipt.dead is not None:
                    dead.append((arrival, receipt))
        revived = await self._reviver.revive(dead, now) if dead else 0
        events = [one.event for one in read]
        return committed_batch(events, receipts, source.settings.answers, revived, verified.secret)

    def _split_batch(
        self, source: Source, read: Sequence[ReadEvent], verified_by: str | None
    ) -> Iterator[list[Arrival]]:
        """Split a batch into parts that one commit can write in time. Almost every batch is one part.

        When a later part cannot be committed, the provider sends the whole batch again. Then the events of
        the earlier parts are duplicates.
        """
        part: list[Arrival] = []
        rows = 0
        for one in read:
            arrival = self._arrival(source, one, verified_by)
            part.append(arrival)
            rows += 1 + len(arrival.keys) + len(arrival.assignments)
            if rows >= MAX_ROWS:
                yield part
                part, rows = [], 0
        if part:
            yield part

    def _arrival(self, source: Source, read: ReadEvent, verified_by: str | None) -> Arrival:
        assignments: list[Assignment] = []
        by_content, event_type = source.route_by_content, read.event.type
        for name in source.route(event_type) if by_content is None else by_content(event_type, read.scope):
            order_key = source.order_key(name, read.scope) if source.orders else None
            assignments.append(Assignment(name, self._has_room(name), order_key))
        return Arrival(read.event, read.keys, tuple(assignments), None, verified_by)


def _count_other_secrets(metrics: SourceMetrics, verified: VerifiedRequest, now: float) -> None:
    for secret in verified.other_secrets:
        verifications, last_used = metrics.secrets[secret]
        verifications.inc()
        last_used.set(now)


def _count(metrics: SourceMetrics, arrival: Arrival, now: float) -> None:
    metrics.events.inc()
    metrics.last_accepted.set(now)
    if not arrival.assignments:
        metrics.unrouted.inc()
    if arrival.event.type == UNREADABLE:
        metrics.unreadable.inc()
