"""The gateway's parts, built as in `gatehouse.gateway.app`, with stores that need no thread."""

from __future__ import annotations

import base64
import io
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from bench.instructions_memory import NOW, Tally
from bench.signed import SECRET
from gatehouse.config.load import parse
from gatehouse.delivery.dispatcher import Dispatcher
from gatehouse.gateway.compiled import CompiledConfig
from gatehouse.ingest.committer import Committer, Reviver
from gatehouse.ingest.confirmation import confirm
from gatehouse.ingest.duplicates import Duplicates
from gatehouse.ingest.handshakes import HandshakeResponder, HandshakeSecrets
from gatehouse.ingest.pipeline import Pipeline
from gatehouse.ingest.rejected import RejectedRequests
from gatehouse.ingest.relay import Relay
from gatehouse.ingest.server import IngestServer
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.store.base import LEASE, Arrival, Counts, Delivery, Receipt, Result, Store
from gatehouse.store.sqlite import leasing
from gatehouse.store.sqlite.accepting import Acceptor
from gatehouse.store.sqlite.schema import migrate
from gatehouse.telemetry import log
from gatehouse.telemetry.live import Hub
from gatehouse.telemetry.metrics import Metrics
from gatehouse.verify.base import Facts, Verifier
from gatehouse.verify.remote_keys import RemoteKeys

PATH = "/webhooks/mando"
_SIGNING = "whsec_" + base64.b64encode(b"a-key-of-the-benchmark--").decode()
_CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: env:SECRET}
destinations:
  app: {url: "http://127.0.0.1:9/events", secret: env:SIGNING}
routes:
  - {from: mando, to: app}
"""
#: The size of the gateway's statement cache.
_STATEMENTS = 512


def clock() -> float:
    """Return the fixed time that all parts use, in unix seconds."""
    return NOW


class InstantStore:
    """Reports each event as stored and keeps it in memory, so the cost of `accept` is not counted."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []

    async def accept(self, arrivals: Sequence[Arrival], *, deadline: float) -> list[Receipt]:
        self.arrivals += arrivals
        token = int((NOW + LEASE) * 1000)
        return [Receipt("accepted", arrival.event.id, NOW + LEASE, token=token) for arrival in arrivals]


class InlineStore:
    """The store's SQL statements on an SQLite file, executed on the caller's thread.

    It neither syncs nor checkpoints, because the kernel does this work, or it comes in bursts.
    """

    shared = False
    poll_every = 30.0

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, cached_statements=_STATEMENTS)
        for pragma in ("journal_mode = wal", "synchronous = 0", "wal_autocheckpoint = 0"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        migrate(self._connection)
        self._acceptor = Acceptor(clock)
        self._acceptor.resume(self._connection)
        #: The number of recorded outcomes.
        self.recorded = Tally()

    async def accept(self, arrivals: Sequence[Arrival], *, deadline: float) -> list[Receipt]:
        self._connection.execute("BEGIN IMMEDIATE")
        receipts = self._acceptor.accept(self._connection, arrivals)
        self._connection.execute("COMMIT")
        return receipts

    async def record(self, results: Sequence[Result]) -> list[bool]:
        self._connection.execute("BEGIN IMMEDIATE")
        held = leasing.record(self._connection, results)
        self._connection.execute("COMMIT")
        reasons = {result.reason for result in results if result.status != "delivered"}
        if reasons or not all(held):
            self.recorded.failed(f"not delivered: {reasons or 'the lease is lost'}")
        self.recorded.happened(len(results))
        return held

    async def lease(self, destination: str, *, now: float, until: float, limit: int) -> list[Delivery]:
        return []

    async def next_due(self, destination: str) -> float | None:
        return None

    async def paused(self) -> frozenset[str]:
        return frozenset()

    async def counts(self) -> dict[str, Counts]:
        return {}

    def watch(self, changed: object) -> None: ...


class Deliveries(list[Delivery]):
    """Receives the deliveries that the committer hands over."""

    def hand_over(self, delivery: Delivery) -> None:
        self.append(delivery)

    def delivery_stored(self, destination: str, received: float) -> None:
        raise AssertionError("not leased")


class _Repeating:
    """A verifier that verifies each request several times more."""

    def __init__(self, verifier: Verifier, extra: int) -> None:
        self._verifier = verifier
        self._extra = extra
        self.credential_headers = verifier.credential_headers

    def verify(self, request: Request, now: float) -> Facts:
        for _ in range(self._extra):
            self._verifier.verify(request, now)
        return self._verifier.verify(request, now)


def _repeat_verification(source: Source, extra: int) -> None:
    verification = source.verification
    repeating = cast("tuple[Verifier, ...]", tuple(_Repeating(one, extra) for one in verification.verifiers))
    source._verification = replace(verification, verifiers=repeating)


async def start_ingest(
    store: InstantStore | InlineStore,
    handover: Deliveries,
    *,
    extra_verifications: int = 0,
    live: Hub | None = None,
) -> IngestServer:
    """Start the listener for providers. It logs and counts as usual; the log stays in memory."""
    log.configure(json=True, stream=io.StringIO())
    keys = RemoteKeys()
    compiled = CompiledConfig(parse(_CONFIG), {"SECRET": SECRET, "SIGNING": _SIGNING}, keys)
    metrics, server = Metrics(), compiled.config.server
    some_store = cast("Store", store)
    committer = Committer(some_store, handover, metrics, deadline=server.commit_deadline, live=live)
    relay = Relay(committer, some_store, cast("Any", handover))
    reviver = Reviver(some_store, cast("Any", handover))
    responder = HandshakeResponder(HandshakeSecrets(), confirm)
    if extra_verifications:
        for source in compiled.sources.values():
            _repeat_verification(source, extra_verifications)
    pipeline = Pipeline(
        committer, lambda _: True, clock, responder, keys, relay, reviver, duplicates=Duplicates(NOW)
    )
    rejected = RejectedRequests(compiled.known, clock)
    ingest = IngestServer(
        server, compiled.sources, pipeline, metrics, compiled.client_address, rejected, live
    )
    await ingest.start()
    return ingest


async def start_dispatcher(store: InlineStore) -> Dispatcher:
    """Start the dispatcher, with one destination on this machine."""
    compiled = CompiledConfig(parse(_CONFIG), {"SECRET": SECRET, "SIGNING": _SIGNING}, RemoteKeys())
    dispatcher = Dispatcher(
        compiled.destinations.values(), store=cast("Store", store), metrics=Metrics(), clock=clock
    )
    await dispatcher.start()
    return dispatcher
