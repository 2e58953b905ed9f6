"""Requests to the source `mando` as lines of raw HTTP, and what the gateway counted of them."""

from __future__ import annotations

import io
import json
import time

from doubles import providers
from gateways import CONFIG, Running

MIB = 1024 * 1024
BODY = providers.body(id="evt_1", type="sale.created", data={})
SIGNED = [f"{name}: {value}" for name, value in providers.mando(BODY).items()]
CLOSE = "Connection: close"


def with_server(settings: str) -> str:
    return CONFIG.replace('listen: "127.0.0.1:0", public', f'listen: "127.0.0.1:0", {settings}, public')


async def legitimate(running: Running, number: int) -> float:
    """Send a request that must always be accepted; return the seconds that it took."""
    body = providers.body(id=f"evt_{number}", type="sale.created", data={})
    started = time.monotonic()
    assert (await running.send("mando", body, providers.mando(body)))[0] == 200
    return time.monotonic() - started


async def stored(running: Running) -> float:
    return sum(
        value for (name, *_), value in (await running.metrics()).items() if name == "gatehouse_events_total"
    )


async def seen(running: Running) -> float:
    """Count the requests, whatever their outcome."""
    return sum(
        value for (name, *_), value in (await running.metrics()).items() if name == "gatehouse_requests_total"
    )


def lines(logged: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in logged.getvalue().splitlines()]
