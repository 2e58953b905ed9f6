"""Attempts within a provider's request pass the destination's throttle, and their outcomes count in it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from doubles.delivery import RunningDispatcher, make_destination, make_event
from doubles.destination import ScriptedDestination, once, status
from gatehouse.delivery.breaker import BreakerSettings
from gatehouse.errors import RelayFailedError, UnavailableError
from gatehouse.store.base import Reply

QUICK = BreakerSettings(failures=1, first=0.05, longest=0.05)


async def test_a_relayed_probe_that_succeeds_closes_the_breaker(tmp_path: Path) -> None:
    async with ScriptedDestination() as app:
        app.script(status(500))
        billing = make_destination(app.url, breaker=QUICK)
        async with RunningDispatcher(tmp_path / "db", billing) as running:
            with pytest.raises(RelayFailedError):
                await running.dispatcher.relay("billing", make_event(), 1, within=5)
            assert running.value("breaker_open", destination="billing") == 1

            reply = await relay_probe(running)

            assert reply.status == 200
            assert running.value("breaker_open", destination="billing") == 0
            await running.accept(make_event(external_id="evt_2"))
            await app.wait_for(3)


async def relay_probe(running: RunningDispatcher) -> Reply:
    """Repeat the attempt until the breaker lets a probe through."""
    async with asyncio.timeout(5):
        while True:
            with suppress(RelayFailedError):
                return await running.dispatcher.relay("billing", make_event(), 2, within=5)
            await asyncio.sleep(0.005)


async def test_a_backlog_delays_no_relayed_request(tmp_path: Path) -> None:
    open_up = asyncio.Event()
    async with ScriptedDestination() as app:
        app.script(once(open_up, status(200)))
        billing = make_destination(app.url, concurrency=1)
        async with RunningDispatcher(tmp_path / "db", billing) as running:
            await running.accept(*(make_event(external_id=f"evt_{number}") for number in range(10)))
            await app.wait_for(1)

            reply = await running.dispatcher.relay("billing", make_event(), 1, within=5)

            assert reply.status == 200
            open_up.set()
            await app.wait_for(11)


async def test_a_destination_without_its_secret_gets_no_relayed_request(tmp_path: Path) -> None:
    async with ScriptedDestination() as app:
        billing = make_destination(app.url, not_ready="no secret")
        async with RunningDispatcher(tmp_path / "db", billing) as running:
            with pytest.raises(UnavailableError) as caught:
                await running.dispatcher.relay("billing", make_event(), 1, within=5)

        assert caught.value.reason == "not_ready"
        assert not app.requests


async def test_a_destination_that_a_reload_removed_is_an_expected_error(tmp_path: Path) -> None:
    async with RunningDispatcher(tmp_path / "db") as running:
        with pytest.raises(RelayFailedError) as caught:
            await running.dispatcher.relay("billing", make_event(), 1, within=5)

        running.dispatcher.count_relayed("billing", make_event())

    assert caught.value.reason == "no_destination"


async def test_an_event_that_cannot_be_sent_is_an_expected_error(tmp_path: Path) -> None:
    async with ScriptedDestination() as app:
        async with RunningDispatcher(tmp_path / "db", make_destination(app.url)) as running:
            with pytest.raises(RelayFailedError) as caught:
                await running.dispatcher.relay("billing", make_event(subject="\ud800"), 1, within=5)

        assert caught.value.reason == "unsendable"
