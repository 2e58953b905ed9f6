"""Pauses that other processes start and end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest

from gatehouse.delivery.pauses import Pauses
from gatehouse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gatehouse.store.base import Store


class SharedPauses:
    """The part of a store that handles pauses, with events that can hold a reader."""

    def __init__(self, poll_every: float, *, shared: bool = True) -> None:
        self.poll_every = poll_every
        self.shared = shared
        self.names: set[str] = set()
        self.reads = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.fault: Exception | None = None

    async def paused(self) -> frozenset[str]:
        self.reads += 1
        names = frozenset(self.names)
        self.asked.set()
        await self.may_answer.wait()
        if self.fault is not None:
            raise self.fault
        return names

    async def pause(self, name: str, *, paused: bool) -> None:
        (self.names.add if paused else self.names.discard)(name)


@asynccontextmanager
async def following(store: SharedPauses) -> AsyncIterator[tuple[Pauses, asyncio.Queue[str]]]:
    changed: asyncio.Queue[str] = asyncio.Queue()
    pauses = Pauses(cast("Store", store), changed.put_nowait)
    await pauses.start()
    async with asyncio.timeout(10):
        yield pauses, changed
    pauses.stop()


async def test_pauses_and_resumes_of_other_processes_are_followed() -> None:
    store = SharedPauses(poll_every=0.001)
    async with following(store) as (pauses, changed):
        store.names = {"billing"}
        assert await changed.get() == "billing"
        assert "billing" in pauses
        store.names = set()
        assert await changed.get() == "billing"
        assert "billing" not in pauses


async def test_a_hint_causes_a_read_at_once() -> None:
    store = SharedPauses(poll_every=29.0)
    async with following(store) as (pauses, changed):
        store.names = {"billing"}
        pauses.read_soon()
        assert await changed.get() == "billing"


async def test_an_unshared_store_is_read_once() -> None:
    store = SharedPauses(poll_every=30.0, shared=False)
    async with following(store) as (pauses, changed):
        store.names = {"billing"}
        pauses.read_soon()
        await asyncio.sleep(0)
        assert (store.reads, changed.empty()) == (1, True)


@pytest.mark.parametrize("paused", [True, False])
async def test_an_outdated_read_does_not_undo_a_change_of_this_process(*, paused: bool) -> None:
    store = SharedPauses(poll_every=0.001)
    await store.pause("billing", paused=not paused)
    async with following(store) as (pauses, changed):
        store.may_answer.clear()
        store.asked.clear()
        await store.asked.wait()
        await pauses.change("billing", paused=paused)
        reads = store.reads
        store.may_answer.set()
        while store.reads < reads + 2:  # noqa: ASYNC110 - a number sends no notifications
            await asyncio.sleep(0.001)
        assert ("billing" in pauses) is paused
        assert changed.empty()


async def test_an_unavailable_store_is_read_again() -> None:
    store = SharedPauses(poll_every=0.001)
    async with following(store) as (pauses, changed):
        store.names, store.fault = {"billing"}, StoreUnavailableError("away")
        store.asked.clear()
        await store.asked.wait()
        store.fault = None
        assert await changed.get() == "billing"
        assert "billing" in pauses
