"""The gateway as a separate process, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

#: A timeout in seconds, much longer than a start or a stop takes.
WITHIN = 40.0


class GatewayProcess:
    """A process of `gatehouse serve`, whose log is read while it runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())
        self._started = asyncio.Event()

    @property
    def url(self) -> str:
        """The ingest listener."""
        return "http://" + str(self._started_line()["listen"])

    @property
    def operator_url(self) -> str:
        """The operator listener."""
        return "http://" + str(self._started_line()["operator"])

    def kill(self) -> None:
        """Kill the process, as in a crash."""
        self.process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the process to stop."""
        self.process.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Wait until the process ends. Returns the exit code."""
        async with asyncio.timeout(WITHIN):
            code = await self.process.wait()
            await self._reading
        return code

    async def started(self) -> None:
        """Wait until the gateway serves. Fails if the process ends instead."""
        waiting = asyncio.create_task(self._started.wait())
        try:
            async with asyncio.timeout(WITHIN):
                await asyncio.wait([waiting, self._reading], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        assert self._started.is_set(), f"the gateway did not start: {self.log}"

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"event": "not a log line", "line": line.decode(errors="replace")})
            if _is_start(self.log[-1]):
                self._started.set()

    def _started_line(self) -> dict[str, Any]:
        return next(filter(_is_start, self.log))


def _is_start(line: dict[str, Any]) -> bool:
    """Tell whether a line says that the whole gateway is ready, and not only one of several workers."""
    return line["event"] == "gateway.started" and "worker" not in line


async def spawn(
    config: Path, *, under: Sequence[str] = (), options: Sequence[str] = (), **environment: str
) -> GatewayProcess:
    """Start the gateway without waiting for it. `under` is a program that runs it, such as strace."""
    process = await asyncio.create_subprocess_exec(
        *(*under, sys.executable, "-m", "gatehouse", "serve", "-c", str(config), *options),
        env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE,
    )
    return GatewayProcess(process)


@asynccontextmanager
async def serving(
    config: Path, *, under: Sequence[str] = (), options: Sequence[str] = (), **environment: str
) -> AsyncIterator[GatewayProcess]:
    """Run the gateway. It always ends with the block."""
    gateway = await spawn(config, under=under, options=options, **environment)
    process = gateway.process
    try:
        await gateway.started()
        yield gateway
    finally:
        if process.returncode is None:
            gateway.kill()
        await gateway.wait()
