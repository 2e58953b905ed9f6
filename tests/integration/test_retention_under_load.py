"""Retention removes expired rows under load: no request is refused, and the file does not grow."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from conformance.builders import accept, arrival, event
from doubles import providers
from doubles.destination import ScriptedDestination
from gatehouse.store.sqlite import SqliteStore
from gateways import CONFIG, RunGateway

pytestmark = pytest.mark.alone

EXPIRED = 3000
REQUESTS = 300
LONG_AGO = time.time() - 30 * 86400


async def expire(file: Path) -> int:
    """Fill a store with expired rows. Return its size."""
    store = await SqliteStore.open(file)
    for first in range(0, EXPIRED, 500):
        await accept(
            store,
            *[
                arrival(b"%d" % number, of=event(bytes(600), received=LONG_AGO), to=[], until=LONG_AGO)
                for number in range(first, first + 500)
            ],
        )
    await store.close()
    return file.stat().st_size


@pytest.mark.case("O-16")
async def test_a_purge_of_thousands_of_rows_causes_no_refusal(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    file = tmp_path / "gatehouse.db"
    before = await expire(file)
    answers: list[Any] = []
    async with run_gateway(CONFIG.format(url=destination.url)) as running, asyncio.TaskGroup() as group:
        for number in range(REQUESTS):
            body = providers.body(id=f"evt_{number}", type="sale.created", data={"x": "x" * 600})
            answers.append(group.create_task(running.send("mando", body, providers.mando(body))))
            await asyncio.sleep(1 / 300)
        await asyncio.gather(*answers)
        async with asyncio.timeout(30):
            while _count(file) > (REQUESTS, REQUESTS):  # noqa: ASYNC110 - a store sends no notifications
                await asyncio.sleep(0.05)

    assert {answer.result()[0] for answer in answers} == {200}
    assert _count(file) == (REQUESTS, REQUESTS)
    assert file.stat().st_size <= before * 1.1


def _count(file: Path) -> tuple[int, int]:
    connection = sqlite3.connect(file)
    try:
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
        (keys,) = connection.execute("SELECT count(*) FROM dedupe_keys").fetchone()
    finally:
        connection.close()
    return events, keys
