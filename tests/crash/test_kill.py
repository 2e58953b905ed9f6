"""Acknowledged events survive kill -9 and SIGTERM, and are forwarded."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, after, hang, status
from gatehouse.delivery.concurrency_limit import MOST, START
from processes import GatewayProcess, serving

CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}", retry: {{first: 50ms, max: 100ms}}}}
routes:
  - {{from: mando, to: app}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the path of the config file. Each test writes it when it knows its destination."""
    return tmp_path / "gateway.yaml"


def numbered(number: int) -> bytes:
    return providers.body(id=f"evt_{number:06}", type="sale.created", data={"number": number})


async def send(client: aiohttp.ClientSession, gateway: GatewayProcess, number: int) -> str:
    """Send an event. Return its id in the gateway."""
    body = numbered(number)
    async with client.post(
        f"{gateway.url}/webhooks/mando", data=body, headers=providers.mando(body)
    ) as answer:
        assert answer.status == 200
        event_id: str = (await answer.json())["id"]
        return event_id


@pytest.mark.case("D-01")
async def test_an_event_acknowledged_before_a_kill_is_forwarded_after_the_restart(config: Path) -> None:
    async with ScriptedDestination() as destination, aiohttp.ClientSession() as client:
        await destination.stop()
        config.write_text(CONFIG.format(url=destination.url))
        async with serving(config, SECRET=providers.SECRET) as gateway:
            accepted = await send(client, gateway, 1)
            gateway.kill()
            await gateway.wait()

        await destination.start()
        async with serving(config, SECRET=providers.SECRET) as gateway:
            (received,) = await destination.wait_for(1)
            assert await send(client, gateway, 1) == accepted  # the provider's retry is a duplicate

    assert received.event_id == accepted
    assert received.attempt > 1


async def test_an_attempt_interrupted_by_a_kill_is_repeated_with_the_same_key_and_a_higher_number(
    config: Path,
) -> None:
    async with ScriptedDestination() as destination, aiohttp.ClientSession() as client:
        destination.script(hang())
        config.write_text(CONFIG.format(url=destination.url))
        async with serving(config, SECRET=providers.SECRET) as gateway:
            accepted = await send(client, gateway, 1)
            await destination.wait_for(1)
            gateway.kill()
            await gateway.wait()
        async with serving(config, SECRET=providers.SECRET):
            first, second = await destination.wait_for(2)

    assert first.event_id == second.event_id == accepted
    assert first.attempt < second.attempt
    assert first.body == second.body


@pytest.mark.alone
@pytest.mark.case("D-01", "D-25")
@pytest.mark.parametrize("crash", ["kill", "terminate"])
async def test_a_stop_under_load_loses_no_accepted_event(config: Path, crash: str) -> None:
    accepted: set[str] = set()
    async with ScriptedDestination() as destination, aiohttp.ClientSession() as client:
        config.write_text(CONFIG.format(url=destination.url))
        numbers = iter(range(100_000))
        async with serving(config, SECRET=providers.SECRET) as gateway:

            async def load() -> None:
                """Send until the gateway has ended. Only events that were answered with 200 count."""
                while True:
                    try:
                        accepted.add(await send(client, gateway, next(numbers)))
                    except (aiohttp.ClientError, AssertionError):
                        return

            senders = [asyncio.create_task(load()) for _ in range(16)]
            await destination.wait_for(200)
            started = time.monotonic()
            getattr(gateway, crash)()
            code = await gateway.wait()
            took = time.monotonic() - started
            await asyncio.gather(*senders)
        assert (code, took < 10) == (0 if crash == "terminate" else -9, True)
        assert len(accepted) >= 200 - len(senders)  # each may have been waiting for an answer

        async with serving(config, SECRET=providers.SECRET) as gateway:
            await _drained(client, gateway)
    arrived = {request.event_id for request in destination.requests}

    assert accepted - arrived == set()
    if crash == "terminate":
        assert len(destination.requests) == len(arrived)  # a graceful stop sends nothing twice


async def _drained(client: aiohttp.ClientSession, gateway: GatewayProcess) -> None:
    async with asyncio.timeout(20):
        while True:
            async with client.get(f"{gateway.operator_url}/metrics") as answer:
                if 'gatehouse_deliveries_pending{destination="app"} 0.0' in await answer.text():
                    return
            await asyncio.sleep(0.05)


@pytest.mark.alone
@pytest.mark.case("D-25")
async def test_a_stop_takes_at_most_ten_seconds_with_a_hanging_destination_and_a_slow_provider(
    config: Path,
) -> None:
    async with ScriptedDestination() as destination, aiohttp.ClientSession() as client:
        destination.always(hang())
        config.write_text(CONFIG.format(url=destination.url))
        async with serving(config, SECRET=providers.SECRET) as gateway:
            await send(client, gateway, 1)
            await destination.wait_for(1)
            host, port = gateway.url.removeprefix("http://").split(":")
            _, half_sent = await asyncio.open_connection(host, int(port))
            half_sent.write(b"POST /webhooks/mando HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
            await half_sent.drain()
            started = time.monotonic()
            gateway.terminate()
            code = await gateway.wait()
            half_sent.close()

    assert (code, time.monotonic() - started < 10) == (0, True)
    assert [line["event"] for line in gateway.log][-1] == "gateway.stopped"


@pytest.mark.alone
@pytest.mark.case("D-21")
async def test_a_second_process_on_the_same_file_does_not_start(config: Path) -> None:
    config.write_text(CONFIG.format(url="http://127.0.0.1:9/events"))
    async with serving(config, SECRET=providers.SECRET):
        started = time.monotonic()
        with pytest.raises(AssertionError, match="did not start"):
            async with serving(config, SECRET=providers.SECRET):
                pass

    assert time.monotonic() - started < 5


@pytest.mark.alone
@pytest.mark.case("D-01")
async def test_a_kill_repeats_no_more_than_the_attempts_that_could_be_in_progress(config: Path) -> None:
    """Also when the limit has grown because the destination answers many attempts as fast as 16."""
    async with ScriptedDestination() as destination, aiohttp.ClientSession() as client:
        destination.always(after(0.05, status(200)))
        config.write_text(CONFIG.format(url=destination.url))
        async with serving(config, SECRET=providers.SECRET) as gateway:
            await asyncio.gather(*(send(client, gateway, number) for number in range(500)))
            await destination.wait_for(300)
            gateway.kill()
            await gateway.wait()
        in_progress = destination.most_open
        async with serving(config, SECRET=providers.SECRET) as gateway:
            await _drained(client, gateway)
    arrived = {request.event_id for request in destination.requests}

    assert len(arrived) == 500
    assert START < in_progress <= MOST
    assert 0 < len(destination.requests) - len(arrived) <= MOST
