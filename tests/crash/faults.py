"""Injects faults into the gateways and their database under load."""

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

#: How many times a storm ends all connections, and the interval (seconds).
_BLOWS, _BETWEEN_BLOWS = 10, 0.25
#: How long the database is stopped during a restart (seconds).
_AWAY = 1.0
_TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{user}'"


class Fault(NamedTuple):
    """A fault that was injected, with its start and end (unix seconds)."""

    kind: Kind
    t0: float
    t1: float


class Step(NamedTuple):
    """A fault to inject, with its duration in seconds if the fault has one."""

    kind: Kind
    seconds: float = 0.0


class Fire:
    """Injects faults into a cluster, and records them."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self.done: list[Fault] = []
        self._cluster = cluster
        self._random = random

    def count(self, *kinds: Kind) -> int:
        """Return how many faults of these kinds were injected."""
        return sum(fault.kind in kinds for fault in self.done)

    async def kill_often(self, times: int, every: float) -> None:
        """Kill one gateway with SIGKILL at a random moment in each interval of `every` seconds."""
        for _ in range(times):
            before = self._random.uniform(0, every)
            await asyncio.sleep(before)
            replica = await self._one_that_serves()
            with self._sparing(replica), self._recording("kill"):
                await self._cluster.kill(replica)
            await asyncio.sleep(every - before)

    async def run(self, steps: Sequence[Step], pause: float) -> None:
        """Inject the faults in order, with pauses of about `pause` seconds."""
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
        """Stop a gateway with SIGSTOP. It keeps its leases and connections, and does not notice the time."""
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
        """End all connections of all gateways repeatedly."""
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
        """Cut the connection between the first gateway and the database, and no other."""
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
