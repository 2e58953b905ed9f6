"""A clock that stops while the process is stopped, and its timers."""

from __future__ import annotations

import asyncio
import time

import pytest

from gatehouse.ingest import awake_clock
from gatehouse.ingest.awake_clock import LONG_STOP, AwakeClock


async def until_beaten(clock: AwakeClock) -> None:
    before = clock._awake_until
    async with asyncio.timeout(5):
        while clock._awake_until == before:  # noqa: ASYNC110 - a timer changes it
            await asyncio.sleep(0.01)


@pytest.mark.case("F-10")
async def test_time_while_the_process_is_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake_clock, "_RECOVERY", 0.4)
    now = 100.0
    clock = AwakeClock(lambda: now)
    clock.start()
    try:
        began = clock.time()
        now += 0.2
        assert clock.time() == pytest.approx(began + 0.2)
        now += 3600
        assert clock.time() <= began + 0.5
        assert clock.was_stopped_recently()
        await until_beaten(clock)
        stopped_at = clock.time()
        assert clock.stopped == pytest.approx(3600, abs=0.5)
        now += 0.25
        assert clock.time() == pytest.approx(stopped_at + 0.25)
        assert clock.was_stopped_recently()
        for _ in range(2):
            now += 0.25
            await until_beaten(clock)
        assert not clock.was_stopped_recently()
        assert clock.stopped == pytest.approx(3600, abs=0.5)
    finally:
        clock.stop()


@pytest.mark.case("F-10")
async def test_a_short_stop_has_no_effect() -> None:
    now = 100.0
    clock = AwakeClock(lambda: now)
    clock.start()
    now += LONG_STOP - 1
    await until_beaten(clock)
    clock.stop()

    assert not clock.was_stopped_recently()


@pytest.mark.case("F-10")
async def test_data_that_arrived_during_a_stop_is_read_before_the_deadline_fires() -> None:
    clock, order = AwakeClock(), list[str]()
    clock.start()
    try:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def end() -> None:
            order.append("deadline")
            done.set_result(None)

        clock.call_later(0.1, end)

        def arrive(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            order.append("arrived")
            writer.close()

        server = await asyncio.start_server(arrive, "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            time.sleep(0.3)  # noqa: ASYNC251 - the stop
            await asyncio.wait_for(done, 5)
            writer.close()
            await writer.wait_closed()
    finally:
        clock.stop()

    assert order == ["arrived", "deadline"]


async def test_a_cancelled_timer_does_nothing() -> None:
    clock = AwakeClock()
    acted: list[int] = []
    clock.call_later(0.0, lambda: acted.append(1)).cancel()
    other = asyncio.Event()
    clock.call_later(0.0, other.set)
    await asyncio.wait_for(other.wait(), 5)

    assert acted == []
