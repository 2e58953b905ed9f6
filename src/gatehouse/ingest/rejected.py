"""Keeps the last rejected requests of each source, in memory only, for the operator.

A flood of forged requests must cost almost nothing: the gateway keeps requests within fixed limits, and
diagnoses one only when an operator asks for it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from gatehouse.diagnosis.before_verification import about_error
from gatehouse.diagnosis.finding import Finding
from gatehouse.errors import VerificationError
from gatehouse.events.event import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.diagnosis.known import KnownSource
    from gatehouse.errors import Reason, RequestRejectedError
    from gatehouse.language.request import Request

#: Requests per source.
MAX_REQUESTS = 20
#: Bytes of one body; of a longer body only the length is kept.
MAX_BODY = 16 * 1024
#: Bytes of one head; a longer head is not kept.
MAX_HEAD = 16 * 1024
#: Bytes of all kept requests together.
MAX_BYTES = 1024 * 1024
_NOT_KEPT = "Gatehouse did not keep this request: it was too large, or newer requests replaced it."
#: The estimated overhead of a header, in bytes.
_HEADER_BYTES = 100


class KeptRequest(msgspec.Struct, kw_only=True):
    """One rejected request. Its content is kept for the diagnosis and is never shown unmasked."""

    id: str
    #: The position among all rejected requests, which also orders requests of the same millisecond.
    number: int
    #: When the request was refused (unix seconds).
    time: float
    source: str
    client: str | None
    outcome: str
    #: The reason, as in the log.
    reason: str | None
    #: The verifier's reason; None when the request was refused before its verification.
    verdict: Reason | None
    status: int
    method: str
    path: str
    #: None when the body was not read.
    body_length: int | None
    #: The request; None when it was too large to keep or was dropped to make room.
    request: Request | None
    #: Whether `request` holds the whole body.
    has_body: bool
    #: Bytes that count towards the limit.
    weight: int
    #: None until an operator asks.
    explained: tuple[Finding, ...] | None = None
    #: The timestamp that the request claims to be signed at (unix seconds).
    signed_at: float | None = None


class RejectedRequests:
    """Keeps rejected requests.

    Each source has its own limit, so a flood at one source does not affect the others.
    """

    def __init__(self, known: Sequence[KnownSource], clock: Callable[[], float]) -> None:
        self._clock = clock
        self.replace(known)
        self._by_source: dict[str, deque[KeptRequest]] = {}
        self._weights: dict[str, int] = {}
        self._count = 0

    def replace(self, known: Sequence[KnownSource]) -> None:
        """Use these sources for diagnoses from now on. Kept requests stay."""
        self._known = {source.name: source for source in known}

    @property
    def weight(self) -> int:
        """Bytes of the kept requests of all sources."""
        return sum(self._weights.values())

    def add(
        self,
        source: str,
        request: Request,
        error: RequestRejectedError,
        *,
        status: int,
        body_length: int | None,
        client: str | None,
    ) -> str:
        """Keep a rejected request. Return its id."""
        now = self._clock()
        self._count += 1
        verdict = error.reason if isinstance(error, VerificationError) else None
        refused = KeptRequest(
            id=new_id(now),
            number=self._count,
            time=now,
            source=source,
            client=client,
            outcome=error.outcome,
            reason=error.reason,
            verdict=verdict,
            status=status,
            method=request.method,
            path=request.path,
            body_length=body_length,
            request=request,
            has_body=body_length == len(request.body),
            weight=0,
            explained=None if verdict else (self._about(error, request, source),),
        )
        _drop_oversized(refused)
        self._keep(refused)
        return refused.id

    def newest(self, source: str | None = None) -> list[KeptRequest]:
        """List the kept requests of one source or of all, newest first."""
        chosen = self._by_source.values() if source is None else [self._by_source.get(source, deque())]
        return sorted((one for kept in chosen for one in kept), key=lambda one: one.number, reverse=True)

    def find(self, refused_id: str) -> KeptRequest | None:
        """Return the request with this id; None when it is not kept."""
        return next((one for one in self.newest() if one.id == refused_id), None)

    def explain(self, refused: KeptRequest) -> tuple[Finding, ...]:
        """Return the findings of the diagnosis.

        The first call computes them; it is safe in another thread.
        """
        if refused.explained is None:
            refused.explained = self._diagnosed(refused)
        return refused.explained

    def _about(self, error: RequestRejectedError, request: Request, source: str) -> Finding:
        known = self._known.get(source)
        return about_error(error, request, source, known.max_body if known else None)

    def _diagnosed(self, refused: KeptRequest) -> tuple[Finding, ...]:
        request, source = refused.request, self._known.get(refused.source)
        if request is None or source is None or refused.verdict is None:
            return (Finding(_NOT_KEPT, certain=False),)
        # Imported here, in the thread that diagnoses: until an operator asks, it takes memory for nothing.
        from gatehouse.diagnosis.diagnose import diagnose, diagnose_head  # noqa: PLC0415

        if refused.has_body:
            found = diagnose(request, source, self._known.values(), refused.time, refused.verdict)
        else:
            found = diagnose_head(request, source, refused.time, refused.verdict)
        refused.signed_at = found.signed_at
        return found.explained

    def _keep(self, refused: KeptRequest) -> None:
        name = refused.source
        kept = self._by_source.setdefault(name, deque())
        kept.append(refused)
        self._weights[name] = self._weights.get(name, 0) + refused.weight
        if len(kept) > MAX_REQUESTS:
            self._weights[name] -= kept.popleft().weight
        while self.weight > MAX_BYTES:
            self._make_room()

    def _make_room(self) -> None:
        """Drop the content of the oldest request of the source with the most bytes. Its entry stays."""
        name = max(self._weights, key=lambda source: self._weights[source])
        oldest = next(one for one in self._by_source[name] if one.weight)
        self._weights[name] -= oldest.weight
        oldest.weight, oldest.request = 0, None


def _drop_oversized(refused: KeptRequest) -> None:
    """Drop the parts that are too large to keep, and count the rest."""
    request = refused.request
    if request is None:
        return
    if len(request.body) > MAX_BODY:
        request, refused.has_body = msgspec.structs.replace(request, body=b""), False
    head = len(request.query) + sum(
        len(name) + len(value) + _HEADER_BYTES for name, value in request.headers.items()
    )
    refused.request = request if head <= MAX_HEAD else None
    refused.weight = head + len(request.body) if refused.request else 0
