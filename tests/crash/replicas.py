"""A sender, several gateways on one PostgreSQL, and a destination.

Each gateway is restarted as soon as it ends, as a supervisor would do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import aiohttp

from crash.balancer import Balancer
from crash.ledger import Ledger
from crash.partition import Partition, partition
from crash.scraping import scrape
from crash.sender import Sender
from doubles import providers
from processes import GatewayProcess, spawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from crash.checker import Scrape
    from postgres_server import Database, PostgresServer

#: The maximum number of attempts in progress per gateway: two destinations with 32 each.
CONCURRENCY = 32
MAX_IN_PROGRESS = 2 * CONCURRENCY
#: The gateway's timeout for a destination, and the delay of a destination that does not reply in time
#: (seconds).
TIMEOUT, _HOLD = 1, 2.5
#: How many of 100 requests get 200, 500, and no reply in time.
_SHARES = (80, 15, 5)
#: Seconds between the starts of a gateway that ends before it serves.
_BETWEEN_STARTS = 0.5
_SCRAPE_WITHIN = 2.0
_CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
store: {{url: "{store}", password: env:PASSWORD}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET]}}
  hisab: {{provider: hisab, secrets: [env:SECRET]}}
destinations:
  app:
    url: "{url}/app"
    timeout: {timeout}s
    concurrency: {concurrency}
    retry: {{first: 50ms, max: 500ms}}
  archive:
    url: "{url}/archive"
    timeout: {timeout}s
    concurrency: {concurrency}
    retry: {{first: 50ms, max: 500ms}}
    format: raw
routes:
  - {{from: mando, to: app}}
  - {{from: hisab, to: archive}}
"""


@dataclass
class Replica:
    """One of the gateways, over all its lives."""

    config: Path
    gateway: GatewayProcess | None = None
    #: The number of the current life, or 0 while it does not serve.
    life: int = 0
    serves: asyncio.Event = field(default_factory=asyncio.Event)
    #: Another fault affects it at the moment, so it must not be killed.
    spared: bool = False
    ended_by_us: bool = False


@dataclass
class Cluster:
    """The gateways with their sender, destination and database. Made with `clustered`."""

    folder: Path
    server: PostgresServer
    database: Database
    sender: Sender
    balancer: Balancer
    way: Partition
    destination: asyncio.subprocess.Process
    client: aiohttp.ClientSession
    replicas: list[Replica] = field(default_factory=list)
    scrapes: list[Scrape] = field(default_factory=list)
    #: How often a gateway ended before it served, because there was no database.
    failed_starts: int = 0
    #: Lines of their logs that report a defect.
    complaints: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    stopping: bool = False
    keepers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def serving(self) -> list[Replica]:
        """The gateways that serve and that no fault affects at the moment."""
        return [replica for replica in self.replicas if replica.life and not replica.spared]

    async def until_all_serve(self, within: float = 60.0) -> None:
        """Wait until every gateway serves."""
        async with asyncio.timeout(within):
            for replica in self.replicas:
                await replica.serves.wait()

    async def kill(self, replica: Replica) -> None:
        """Kill a gateway. It is started again."""
        await self.scrape(replica)
        gateway = replica.gateway
        assert gateway is not None
        replica.ended_by_us = True
        gateway.kill()
        await gateway.process.wait()

    async def scrape(self, replica: Replica, *, at_rest: bool = False) -> Scrape | None:
        """Keep the metrics of a gateway as evidence, if they can be read."""
        life, found = replica.life, None
        if not life or replica.gateway is None:
            return None
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(_SCRAPE_WITHIN):
                url = replica.gateway.operator_url
                found = await scrape(self.client, url, life=life, at_rest=at_rest)
            self.scrapes.append(found)
        return found

    def calm(self) -> None:
        """Let the destination accept everything from now on."""
        self.destination.send_signal(signal.SIGUSR1)

    async def keep(self, replica: Replica) -> None:
        """Start a gateway again whenever it ends, until all must stop."""
        while not self.stopping:
            gateway = replica.gateway = await self._spawn(replica)
            served = await self._serve(replica, gateway)
            code = await gateway.wait()
            self._examine(replica, gateway, code, served=served)
            replica.ended_by_us = False
            if not served and not self.stopping:
                await asyncio.sleep(_BETWEEN_STARTS)

    async def _spawn(self, replica: Replica) -> GatewayProcess:
        secrets = {"SECRET": providers.SECRET, "PASSWORD": self.database.password}
        return await spawn(replica.config, **secrets)

    async def _serve(self, replica: Replica, gateway: GatewayProcess) -> bool:
        """Send requests to a gateway while it runs. Return whether it became ready."""
        try:
            await gateway.started()
        except AssertionError:
            return False
        replica.life = self.balancer.add(gateway.url)
        replica.serves.set()
        await gateway.process.wait()
        self.balancer.remove(replica.life)
        replica.serves.clear()
        replica.life = 0
        return True

    def _examine(self, replica: Replica, gateway: GatewayProcess, code: int, *, served: bool) -> None:
        for line in gateway.log if served else ():
            if line["event"] != "store.unavailable" and line.get("level", "error") in ("error", "critical"):
                said = line.get("line") or f"{line['event']} {line.get('error', '')}"
                self.complaints[said.strip()] += 1
        if replica.ended_by_us:
            return
        if not served:
            self._examine_start(gateway)
        elif code or not self.stopping:
            self.faults.append(f"a gateway ended by itself with {code}: {gateway.log[-3:]}")

    def _examine_start(self, gateway: GatewayProcess) -> None:
        said = [str(line.get("line", line["event"])).strip() for line in gateway.log]
        if any(text.startswith("Error: the database") for text in said):
            self.failed_starts += 1
        else:
            self.faults.append(f"a gateway did not start: {said[-3:]}")

    async def terminate(self) -> float:
        """Send SIGTERM to all. Return the duration of the slowest stop."""
        self.stopping, started = True, time.monotonic()
        for replica in self.replicas:
            if replica.gateway is not None and replica.gateway.process.returncode is None:
                replica.gateway.terminate()
        await asyncio.wait(self.keepers)
        return time.monotonic() - started

    async def end(self) -> None:
        """End all processes that still run."""
        self.stopping = True
        for replica in self.replicas:
            if replica.gateway is not None and replica.gateway.process.returncode is None:
                replica.ended_by_us = True
                replica.gateway.kill()


@asynccontextmanager
async def clustered(
    folder: Path,
    server: PostgresServer,
    database: Database,
    *,
    seed: str,
    replicas: int = 3,
    connections: int = 64,
    rate: float = 150.0,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - of the gateways
) -> AsyncIterator[Cluster]:
    """Run gateways on a database.

    The first one connects through a proxy that can be cut. The sender waits.
    """
    balancer = Balancer(Random(seed))
    destination, url = await _start_destination(folder / "receptions", seed)
    with Ledger(folder / "answers") as ledger:
        sender = Sender(f"run{Random(seed).randrange(10**6)}", ledger, connections=connections, rate=rate)
        sender.target = balancer
        async with (
            partition(server.port) as way,
            aiohttp.ClientSession() as client,
            asyncio.TaskGroup() as group,
        ):
            cluster = Cluster(folder, server, database, sender, balancer, way, destination, client)
            sending = group.create_task(sender.run())
            for number in range(replicas):
                port = server.port if number else way.port
                store = database.url.replace(f":{server.port}/", f":{port}/")
                config = folder / f"gateway-{number}.yaml"
                config.write_text(
                    _CONFIG.format(store=store, url=url, timeout=timeout, concurrency=CONCURRENCY)
                )
                cluster.replicas.append(replica := Replica(config))
                cluster.keepers.append(group.create_task(cluster.keep(replica)))
            try:
                yield cluster
            finally:
                sending.cancel()
                await cluster.end()
                destination.terminate()
                await destination.wait()


async def _start_destination(ledger: Path, seed: str) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crash.destination", str(ledger), seed, str(_HOLD), *map(str, _SHARES)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    return process, f"http://127.0.0.1:{port}"
