"""The gateway serves and stops normally while nobody reads the pipe of its log, or its reader is gone."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from doubles import providers

CONFIG = """\
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
store: {url: "sqlite:///gatehouse.db"}
sources:
  mando: {provider: mando, secrets: env:SECRET}
"""
#: Bytes of the smallest pipe that Linux makes: a dozen lines fill it.
SMALL = 4096
REQUESTS = 60


class Piped:
    """A gateway, and the read end of the pipe for its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: int) -> None:
        self.process = process
        self.log = log
        self.url = self.operator = ""

    async def started(self) -> None:
        """Read the log up to the line that says where it listens, and no further."""
        text = b""
        while b"gateway.started" not in text or not text.endswith(b"\n"):
            piece = await asyncio.to_thread(os.read, self.log, 65536)
            assert piece, f"the gateway ended: {text!r}"
            text += piece
        (line,) = [line for line in map(json.loads, text.splitlines()) if line["event"] == "gateway.started"]
        self.url, self.operator = f"http://{line['listen']}", f"http://{line['operator']}"

    def processor_time(self) -> float:
        """Return the CPU time that the process has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def piped(folder: Path) -> AsyncIterator[Piped]:
    config = folder / "gateway.yaml"
    config.write_text(CONFIG)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALL)
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        (sys.executable, "-m", "gatehouse", "serve", "-c", str(config)),
        env=os.environ | {"SECRET": providers.SECRET},
        stderr=writing,
    )
    os.close(writing)
    gateway = Piped(process, reading)
    try:
        await gateway.started()
        yield gateway
    finally:
        process.kill()
        process.wait()
        os.close(gateway.log)


async def served(client: aiohttp.ClientSession, gateway: Piped) -> list[int]:
    """Send genuine requests, one after the other. Returns the answers."""
    statuses = []
    for number in range(REQUESTS):
        body = providers.body(id=f"evt_{number}", type="sale.created")
        url = f"{gateway.url}/webhooks/mando"
        async with client.post(url, data=body, headers=providers.mando(body)) as answer:
            statuses.append(answer.status)
    return statuses


async def dropped(client: aiohttp.ClientSession, gateway: Piped) -> float:
    async with client.get(f"{gateway.operator}/metrics") as answer:
        name = "gatehouse_log_lines_dropped_total "
        (line,) = [line for line in (await answer.text()).splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


@pytest.mark.case("F-06")
async def test_a_pipe_that_nobody_reads_delays_no_request_no_health_check_and_no_stop(
    tmp_path: Path,
) -> None:
    async with (
        piped(tmp_path) as gateway,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client,
    ):
        assert set(await served(client, gateway)) == {200}
        async with client.get(f"{gateway.operator}/healthz") as answer:
            assert answer.status == 200
        gateway.process.send_signal(signal.SIGTERM)

        assert await asyncio.to_thread(gateway.process.wait, 10) == 0


@pytest.mark.case("F-06")
async def test_a_pipe_whose_reader_is_gone_loses_only_log_lines(tmp_path: Path) -> None:
    async with (
        piped(tmp_path) as gateway,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client,
    ):
        reading, gateway.log = gateway.log, os.open(os.devnull, os.O_RDONLY)
        os.close(reading)

        assert set(await served(client, gateway)) == {200}
        async with asyncio.timeout(5):
            while await dropped(client, gateway) < REQUESTS:  # noqa: ASYNC110 - metrics are polled
                await asyncio.sleep(0.01)
        before = gateway.processor_time()
        # Long enough to distinguish an idle process from a loop that writes, fails and writes again.
        await asyncio.sleep(0.5)
        assert gateway.processor_time() - before < 0.2
        gateway.process.send_signal(signal.SIGTERM)

        assert await asyncio.to_thread(gateway.process.wait, 10) == 0
