"""The commands `tail` and `listen`, against a gateway that runs, restarts and goes away."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from standardwebhooks.webhooks import Webhook

from doubles import providers
from doubles.destination import ScriptedDestination, status
from processes import GatewayProcess, serving, spawn

CONFIG = """\
server: {{listen: "127.0.0.1:{ingest}"}}
operator: {{listen: "127.0.0.1:{operator}", token: env:TOKEN}}
sources:
  mando: {{provider: mando, secrets: env:SECRET}}
destinations:
  app: {{url: "{url}", retry: {{first: 10ms, max: 20ms}}}}
routes:
  - {{from: mando, to: app}}
"""
SECRETS = {"SECRET": providers.SECRET, "TOKEN": "operator-token-of-some-length"}
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: Each test starts several processes.
pytestmark = pytest.mark.timeout(180)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
async def destination() -> AsyncIterator[ScriptedDestination]:
    """Run the destination of the gateway."""
    async with ScriptedDestination() as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, destination: ScriptedDestination) -> Path:
    """Write a config whose ports stay the same when the gateway restarts."""
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG.format(ingest=free_port(), operator=free_port(), url=destination.url))
    return file


class Command:
    """A command whose output is read while it runs."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self._changed = asyncio.Condition()
        self._reading = [
            asyncio.create_task(self._read(process.stdout, self.out)),
            asyncio.create_task(self._read(process.stderr, self.err)),
        ]

    async def _read(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        async for line in stream:
            async with self._changed:
                lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()

    async def until(self, holds: Callable[[Command], bool], within: float = 30.0) -> None:
        """Wait until the output is as it should be."""
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: holds(self))
        except TimeoutError:
            pytest.fail(f"{self.out[-20:]}\n{self.err[-20:]}")

    async def interrupt(self) -> int:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(20):
            await asyncio.gather(*self._reading)
            return await self.process.wait()


@asynccontextmanager
async def running(config: Path, *words: str, **variables: str) -> AsyncIterator[Command]:
    """Run a command until the block ends."""
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gatehouse", *words, "-c", str(config)),
        env=kept | SECRETS | variables,
        stdout=PIPE,
        stderr=PIPE,
        limit=1024 * 1024,
    )
    command = Command(process)
    try:
        yield command
    finally:
        if process.returncode is None:
            process.kill()
        await command.ended()


async def send(client: aiohttp.ClientSession, url: str, number: int, **changes: Any) -> None:
    """Send an event again and again until the gateway accepts it, as providers do."""
    body = providers.body(**{"id": f"evt_{number}", "type": "sale.created"} | changes)
    while True:
        try:
            async with client.post(
                f"{url}/webhooks/mando", data=body, headers=providers.mando(body)
            ) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)


async def live(command: Command, client: aiohttp.ClientSession, url: str) -> None:
    """Send events until the command shows one: from then on it misses nothing."""
    async with asyncio.timeout(30):
        number = 0
        while not command.out:
            number += 1
            await send(client, url, 0, id=f"first_{number}")
            await asyncio.sleep(0.1)


async def test_tail_shows_events_attempts_and_refused_requests(
    config: Path, destination: ScriptedDestination
) -> None:
    async with (
        serving(config, **SECRETS) as gateway,
        aiohttp.ClientSession() as client,
        running(config, "tail") as tail,
        running(config, "tail", "--json", "--type", "sale.*", "--destination", "app") as as_json,
    ):
        await live(tail, client, gateway.url)
        await live(as_json, client, gateway.url)
        destination.script(status(503))
        await send(client, gateway.url, 7)
        await tail.until(lambda it: any("evt_7  → app  200" in line for line in it.out))
        body = providers.body(id="evt_8", type="sale.created")
        forged = providers.mando(body, secret="another-secret-of-some-length")
        await client.post(f"{gateway.url}/webhooks/mando", data=body, headers=forged)
        await tail.until(lambda it: "refused" in it.out[-1])

        lines = [line[10:] for line in tail.out if "evt_7" in line]
        assert lines[0] == "mando  sale.created  evt_7  accepted for app"
        assert lines[1].startswith("mando  sale.created  evt_7  → app  server_error 503  ")
        assert "; again at " in lines[1]
        assert lines[2].startswith("mando  sale.created  evt_7  → app  200  ")
        assert tail.out[-1][10:] == "mando  refused 401 wrong_signature  from 127.0.0.1"
        assert not any("\x1b" in line for line in tail.out)
        entries = [json.loads(line) for line in as_json.out]
        assert {entry["kind"] for entry in entries} == {"event", "attempt"}
        assert await tail.interrupt() == 130
        assert await as_json.interrupt() == 130
    assert tail.err == []


async def test_tail_on_a_terminal_has_colors(config: Path) -> None:
    async with serving(config, **SECRETS) as gateway, aiohttp.ClientSession() as client:
        await send(client, gateway.url, 1)
        leader, follower = pty.openpty()
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gatehouse", "tail", "-c", str(config)),
            env=kept | SECRETS | {"TERM": "xterm"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        shown, number = b"", 1
        os.set_blocking(leader, False)
        async with asyncio.timeout(30):
            while b"\x1b[32m200" not in shown:
                number += 1
                await send(client, gateway.url, number)
                await asyncio.sleep(0.1)
                try:
                    shown += os.read(leader, 65536)
                except BlockingIOError:
                    continue
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        os.close(leader)


async def restarted(gateway: GatewayProcess, config: Path, *, crash: bool) -> GatewayProcess:
    gateway.kill() if crash else gateway.terminate()
    await gateway.wait()
    again = await spawn(config, **SECRETS)
    await again.started()
    return again


def reconnections(listen: Command) -> int:
    return sum("connected again" in line for line in listen.err)


async def until_reconnected(listen: Command, times: int) -> None:
    await listen.until(lambda it: reconnections(it) == times)


async def test_listen_misses_no_event_of_a_gateway_that_restarts_twice(config: Path) -> None:
    """Once it stops in order and once it is killed, in the middle of 1,000 events."""
    gateway = await spawn(config, **SECRETS)
    try:
        await gateway.started()
        url = gateway.url
        async with (
            ScriptedDestination() as app,
            aiohttp.ClientSession() as client,
            running(config, "listen", app.url, "--secret", KEY) as listen,
        ):
            await live(listen, client, url)
            for number in range(1000):
                if number in (300, 600):
                    # `listen` may need longer to come back than the gateway, which accepts events meanwhile.
                    await until_reconnected(listen, times=number // 600)
                    gateway = await restarted(gateway, config, crash=number == 600)
                await send(client, url, number)
            await listen.until(lambda it: any("evt_999 " in line for line in it.out), within=60)
            assert await listen.interrupt() == 130

        sent = [json.loads(request.body)["id"] for request in app.requests]
        assert {f"evt_{number}" for number in range(1000)} <= set(sent)
        assert len(sent) == len(set(sent))
        assert len({request.event_id for request in app.requests}) == len(sent)
        assert reconnections(listen) == 2
        assert len(listen.out) == len(sent)
    finally:
        if gateway.process.returncode is None:
            gateway.kill()
        await gateway.wait()


async def test_the_app_gets_what_a_destination_gets(config: Path, destination: ScriptedDestination) -> None:
    async with (
        serving(config, **SECRETS) as gateway,
        ScriptedDestination() as app,
        aiohttp.ClientSession() as client,
    ):
        await send(client, gateway.url, 1, note="é")
        (delivered,) = await destination.wait_for(1)
        async with running(config, "listen", str(app.port), "--since", "1h") as listen:
            (forwarded,) = await app.wait_for(1)
            key = next(line for line in listen.err if "whsec_" in line).rpartition(" ")[2]

        assert forwarded.body == delivered.body
        assert forwarded.path == "/"
        for header in ("content-type", "webhook-id", "gatehouse-attempt", "user-agent"):
            assert forwarded.headers[header] == delivered.headers[header]
        signed = {name.lower(): value for name, value in forwarded.headers.items()}
        assert Webhook(key).verify(forwarded.body, signed) == json.loads(forwarded.body)
        assert len(destination.requests) == 1


async def test_an_event_is_tried_again_and_an_app_that_is_down_is_shown(config: Path) -> None:
    async with serving(config, **SECRETS) as gateway, aiohttp.ClientSession() as client:
        await send(client, gateway.url, 1)
        await send(client, gateway.url, 2)
        async with (
            ScriptedDestination() as app,
            running(config, "listen", app.url, "--since", "1h", "--retry", "1") as listen,
        ):
            app.script(status(500), status(200), status(422))
            await listen.until(lambda it: len(it.out) == 3)

        assert [request.attempt for request in app.requests] == [1, 2, 1]
        assert "evt_1  → 500" in listen.out[0]
        assert listen.out[0].endswith("attempt 1, again in 1 s")
        assert "evt_1  → 200" in listen.out[1]
        assert "evt_2  → 422" in listen.out[2]
        assert listen.out[2].endswith("attempt 1, given up")
        async with running(
            config, "listen", str(free_port()), "--since", "1h", "--retry", "0", "--json"
        ) as listen:
            await listen.until(lambda it: len(it.out) == 2)
        first = json.loads(listen.out[0])
        assert (first["status"], first["error"], first["next_in"]) == (None, "connection refused", None)
        assert first["external_id"] == "evt_1"


@pytest.mark.parametrize("words", [["tail"], ["listen", "3000"]], ids=lambda words: words[0])
async def test_without_a_gateway_or_with_a_wrong_token_it_is_an_error(config: Path, words: list[str]) -> None:
    async with running(config, *words) as command:
        assert await command.ended() == 1
    assert any("Error: no answer from" in line for line in command.err)
    async with (
        serving(config, **SECRETS),
        running(config, *words, TOKEN="another-token-of-some-length") as command,
    ):
        assert await command.ended() == 1
    assert any("answered 401" in line for line in command.err)
    assert any(line.startswith("Try: ") for line in command.err)


async def test_a_wrong_target_or_secret_is_a_usage_error(config: Path) -> None:
    for words in (["listen", "app"], ["listen", "99999"], ["listen", "3000", "--secret", "short"]):
        async with running(config, *words) as command:
            assert await command.ended() == 2
        assert any(line.startswith("Error: ") for line in command.err)
