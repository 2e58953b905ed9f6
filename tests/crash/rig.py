"""A sender, a gateway, a destination and a store in one folder, over several lives of the gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import aiohttp

from crash import stored
from crash.checker import Evidence, Scrape
from crash.destination import SHARES
from crash.ledger import Answer, Ledger, Reception, read
from crash.scraping import scrape
from crash.sender import Sender
from doubles import providers
from processes import GatewayProcess, spawn

#: The maximum time from the last fault until every acknowledged event has arrived (seconds).
DRAIN = 120.0
#: The maximum time until a gateway reaches its failpoint (seconds). Breakers may open, for 30 s each time.
_REACH = 90.0
#: The gateway's timeout for a destination, and the delay of a destination that does not reply in time
#: (seconds).
_TIMEOUT, _HOLD = 1, 2.5
_CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
store: {{keep_events: {keep}}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET], dedupe: {{window: {window}}}}}
  hisab: {{provider: hisab, secrets: [env:SECRET], dedupe: {{window: {window}}}}}
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


class Rig:
    """One run. Made with `rigged`."""

    def __init__(self, folder: Path, sender: Sender, destination: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self.sender = sender
        self.gateway: GatewayProcess | None = None
        self.kills = 0
        self.concurrency = 1
        self.retires = False
        #: Additional environment variables of the following lives.
        self.environment: dict[str, str] = {}
        self._destination = destination
        self._scrapes: list[Scrape] = []
        self._client = aiohttp.ClientSession()

    @property
    def database(self) -> Path:
        """The store's file."""
        return self.folder / "gatehouse.db"

    @property
    def ready(self) -> GatewayProcess:
        """The gateway, which must be running."""
        assert self.gateway is not None
        return self.gateway

    async def launch(self, failpoints: str = "", under: Sequence[str] = ()) -> GatewayProcess:
        """Start the gateway's next life without waiting for it."""
        environment = {"SECRET": providers.SECRET} | self.environment
        if failpoints:
            environment["GATEHOUSE_FAILPOINTS"] = failpoints
        self.gateway = await spawn(self.folder / "gateway.yaml", under=under, **environment)
        return self.gateway

    async def start(self, failpoints: str = "", under: Sequence[str] = ()) -> None:
        """Start the gateway's next life, and direct the sender to it."""
        gateway = await self.launch(failpoints, under)
        await gateway.started()
        self.sender.target.serve(gateway.url)

    async def kill(self) -> None:
        """Kill the gateway."""
        gateway = self.ready
        gateway.kill()
        self.sender.target.gone()
        self.kills += 1
        assert await gateway.wait() == -signal.SIGKILL, gateway.log[-3:]

    async def terminate(self) -> float:
        """Send SIGTERM to the gateway while requests continue. Return the duration of the stop (seconds)."""
        gateway, started = self.ready, time.monotonic()
        gateway.terminate()
        code = await gateway.wait()
        self.sender.target.gone()
        assert code == 0, (code, gateway.log[-3:])
        return time.monotonic() - started

    async def crash_at(self, failpoint: str) -> None:
        """Run until a failpoint ends the gateway."""
        gateway = await self.launch(failpoint)
        serving = asyncio.create_task(self._serve_when_started(gateway))
        try:
            async with asyncio.timeout(_REACH):
                code = await gateway.process.wait()
        except TimeoutError as error:
            raise AssertionError(f"{failpoint} was not reached in {_REACH} s") from error
        finally:
            self.sender.target.gone()
            serving.cancel()
        await gateway.wait()
        assert code == 137, (failpoint, code, gateway.log[-3:])
        self.kills += 1

    async def _serve_when_started(self, gateway: GatewayProcess) -> None:
        try:
            await gateway.started()
        except AssertionError:
            return  # it reached its failpoint during the start
        self.sender.target.serve(gateway.url)

    async def scrape(self, *, at_rest: bool = False) -> None:
        """Read the current metrics of this life, and keep them as evidence."""
        self._scrapes.append(await self._metrics(at_rest=at_rest))

    async def _metrics(self, *, at_rest: bool = False) -> Scrape:
        life = self.sender.target.life
        return await scrape(self._client, self.ready.operator_url, life=life, at_rest=at_rest)

    async def settle(self) -> Evidence:
        """Wait in one last life until everything is delivered, and return the evidence of the run."""
        self.sender.stop()
        self._destination.send_signal(signal.SIGUSR1)
        await self.start()
        await self._until_at_rest()
        await self.scrape(at_rest=True)
        await self.terminate()
        return self.evidence()

    async def _until_at_rest(self) -> None:
        """Wait until everything is acknowledged and delivered, or until the time limit."""
        deadline = time.monotonic() + DRAIN
        while time.monotonic() < deadline:
            if self.sender.idle and not (await self._metrics()).pending:
                return
            await asyncio.sleep(0.1)  # metrics are polled, as Prometheus does

    def evidence(self) -> Evidence:
        """Return the evidence. The gateway must have stopped."""
        return Evidence(
            answers=list(read(self.folder / "answers", Answer)),
            receptions=list(read(self.folder / "receptions", Reception)),
            stored=stored.read(self.database),
            scrapes=self._scrapes,
            kills=self.kills,
            concurrency=2 * self.concurrency,
            retires=self.retires,
        )

    async def close(self) -> None:
        """End the gateway, if it still runs."""
        await self._client.close()
        if self.gateway is not None:
            if self.gateway.process.returncode is None:
                self.gateway.kill()
            await self.gateway.wait()


@asynccontextmanager
async def rigged(
    folder: Path,
    *,
    seed: str,
    connections: int = 64,
    rate: float = 600.0,
    concurrency: int = 32,
    keep: str = "7d",
    window: str = "7d",
    shares: Sequence[int] = SHARES,
) -> AsyncIterator[Rig]:
    """Set up a run. The sender waits for `sender.start()` and a life of the gateway."""
    destination = await _start_destination(folder / "receptions", seed, shares)
    assert destination.stdout is not None
    port = int(await destination.stdout.readline())
    config = _CONFIG.format(
        url=f"http://127.0.0.1:{port}", keep=keep, window=window, concurrency=concurrency, timeout=_TIMEOUT
    )
    (folder / "gateway.yaml").write_text(config)
    with Ledger(folder / "answers") as ledger:
        sender = Sender(f"run{Random(seed).randrange(10**6)}", ledger, connections=connections, rate=rate)
        rig = Rig(folder, sender, destination)
        rig.concurrency, rig.retires = concurrency, keep != "7d"
        sending = asyncio.create_task(sender.run())
        try:
            yield rig
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            await rig.close()
            destination.terminate()
            await destination.wait()


async def _start_destination(ledger: Path, seed: str, shares: Sequence[int]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crash.destination", str(ledger), seed, str(_HOLD), *map(str, shares)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
