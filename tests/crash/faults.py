"""What is done to the gateways and to their database while they are sent to."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from crash.replicas import Cluster, Replica

Kind = Literal["kill", "stop", "storm", "restart", "immediate restart", "outage", "drop", "refuse"]

#: How often a storm ends all connections, and how far apart (seconds).
_BLOWS, _BETWEEN_BLOWS = 10, 0.25
#: For how long a restart leaves the database stopped (seconds).
_AWAY = 1.0
_TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{user}'"


class Fault(NamedTuple):
    """Something that was done, between two moments (unix seconds)."""

    kind: Kind
    t0: float
    t1: float


class Step(NamedTuple):
    """Something to do, for so many seconds where that can be chosen."""

    kind: Kind
    seconds: float = 0.0


class Fire:
    """Does things to a cluster, and keeps record."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self.done: list[Fault] = []
        self._cluster = cluster
        self._random = random

    def count(self, *kinds: Kind) -> int:
        """Return how often these were done."""
        return sum(fault.kind in kinds for fault in self.done)

    async def kill_often(self, times: int, every: float) -> None:
        """SIGKILL one of them at a random moment of each `every` seconds."""
        for _ in range(times):
            before = self._random.uniform(0, every)
            await asyncio.sleep(before)
            replica = await self._one_that_serves()
            with self._sparing(replica), self._recording("kill"):
                await self._cluster.kill(replica)
            await asyncio.sleep(every - before)

    async def run(self, steps: Sequence[Step], pause: float) -> None:
        """Do one after the other, with pauses of about so many seconds."""
        for step in steps:
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * pause)
            await self._do(step)

    async def _do(self, step: Step) -> None:
        match step.kind:
            case "stop":
                await self._stop(step.seconds)
            case "storm":
                await self._storm()
            case "restart":
                await self._restart(step.kind, signal.SIGINT, _AWAY)
            case "immediate restart":
                await self._restart(step.kind, signal.SIGQUIT, _AWAY)
            case "outage":
                await self._restart(step.kind, signal.SIGQUIT, step.seconds)
            case "drop" | "refuse" as how:
                await self._cut(how, step.seconds)

    async def _stop(self, seconds: float) -> None:
        """SIGSTOP: it holds its leases and its connections, and does not know that time passes."""
        replica = await self._one_that_serves(self._cluster.replicas[1:])
        assert replica.gateway is not None
        with self._sparing(replica), self._recording("stop"):
            replica.gateway.process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                replica.gateway.process.send_signal(signal.SIGCONT)
        await self._cluster.scrape(replica)

    async def _storm(self) -> None:
        """End all connections of all gateways, again and again."""
        server = self._cluster.server
        with self._recording("storm"):
            for _ in range(_BLOWS):
                await asyncio.to_thread(server.sql, _TERMINATE.format(user=server.user))
                await asyncio.sleep(_BETWEEN_BLOWS)

    async def _restart(self, kind: Kind, how: signal.Signals, away: float) -> None:
        server = self._cluster.server
        with self._recording(kind):
            await asyncio.to_thread(server.stop, how)
            await asyncio.sleep(away)
            await asyncio.to_thread(server.start)

    async def _cut(self, how: Literal["drop", "refuse"], seconds: float) -> None:
        """Cut the first gateway off from the database, and from it alone."""
        replica = await self._one_that_serves(self._cluster.replicas[:1])
        way = self._cluster.way
        with self._sparing(replica), self._recording(how):
            await way.cut(how)
            await asyncio.sleep(seconds)
            await way.heal()
        await self._cluster.scrape(replica)

    async def _one_that_serves(self, among: Sequence[Replica] | None = None) -> Replica:
        while True:
            fit = [each for each in self._cluster.serving if among is None or each in among]
            if fit:
                return self._random.choice(fit)
            await asyncio.sleep(0.05)

    @contextmanager
    def _recording(self, kind: Kind) -> Iterator[None]:
        started = time.time()
        yield
        self.done.append(Fault(kind, started, time.time()))

    @staticmethod
    @contextmanager
    def _sparing(replica: Replica) -> Iterator[None]:
        replica.spared = True
        try:
            yield
        finally:
            replica.spared = False
