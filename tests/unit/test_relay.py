"""An event is forwarded within its request, one request at a time, and stored only with its reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from doubles.dedupe import dedupe_keys
from doubles.delivery import make_event
from gatehouse.errors import RelayFailedError, RelayTimeoutError, StoreUnavailableError, UnavailableError
from gatehouse.events.event import Event
from gatehouse.ingest import relay as module
from gatehouse.ingest.relay import Relay
from gatehouse.store.base import Arrival, Assignment, Receipt, Reply
from gatehouse.store.sqlite import SqliteStore

NOW = time.time()
REPLY = Reply(200, "text/xml", b"<Response/>")


class Destination:
    """Replies as the test says, and remembers the attempts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.relayed_ids: list[str] = []
        self.replies: list[Reply | Exception] = []
        #: No attempt is answered while this is not set.
        self.open = asyncio.Event()
        self.open.set()
        self._arrived = asyncio.Condition()

    async def relay(self, destination: str, event: Event, number: int, *, within: float) -> Reply:
        assert destination == "app"
        assert within > 0
        async with self._arrived:
            self.asked.append((event.id, number))
            self._arrived.notify_all()
        await self.open.wait()
        reply = self.replies.pop(0) if self.replies else REPLY
        if isinstance(reply, Exception):
            raise reply
        return reply

    def count_relayed(self, destination: str, event: Event) -> None:
        assert destination == "app"
        self.relayed_ids.append(event.id)

    async def was_asked(self, count: int) -> None:
        async with asyncio.timeout(5), self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked) >= count)


class Committer:
    """Commits events one by one, unless it is told to fail."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.failures = 0

    async def accept(self, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the store is too slow", reason="commit_deadline")
        return await self._store.accept(arrivals, deadline=time.monotonic() + 5)


class Relaying:
    """A relay on a real store, with a committer and a destination that the test controls."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.committer = Committer(store)
        self.destination = Destination()
        self.relay = Relay(self.committer, store, self.destination)

    async def accept(self, *keys: bytes | None, within: float = 5.0, **fields: Any) -> Receipt:
        event = make_event(received=NOW, **fields)
        arrival = Arrival(event, dedupe_keys(*keys, until=NOW + 3600), (Assignment("app", leased=True),))
        return await self.relay.accept(arrival, now=NOW, within=within)


@pytest.fixture
async def relaying(tmp_path: Path) -> AsyncIterator[Relaying]:
    store = await SqliteStore.open(tmp_path / "gatehouse.db")
    yield Relaying(store)
    await store.close()


async def test_an_event_is_stored_as_delivered_and_its_receipt_contains_the_reply(relaying: Relaying) -> None:
    receipt = await relaying.accept(b"key")

    assert (receipt.status, receipt.reply) == ("accepted", REPLY)
    assert relaying.destination.asked == [(receipt.event_id, 1)]
    assert relaying.destination.relayed_ids == [receipt.event_id]
    stored = await relaying.store.event(receipt.event_id)
    assert stored is not None
    assert [(one.destination, one.status) for one in stored.deliveries] == [("app", "delivered")]


async def test_a_duplicate_gets_the_stored_reply_and_is_not_forwarded(relaying: Relaying) -> None:
    first = await relaying.accept(b"key")

    second = await relaying.accept(b"key")

    assert second == Receipt("duplicate", first.event_id, reply=REPLY)
    assert len(relaying.destination.asked) == 1


async def test_a_duplicate_of_an_event_that_was_not_relayed_has_no_reply(relaying: Relaying) -> None:
    await relaying.committer.accept([Arrival(make_event(id="FIRST"), dedupe_keys(b"key", until=NOW + 3600))])

    assert await relaying.accept(b"key") == Receipt("duplicate", "FIRST")
    assert not relaying.destination.asked


async def test_a_failed_event_is_not_stored_and_its_retry_has_the_same_id(
    relaying: Relaying,
) -> None:
    relaying.destination.replies = [RelayFailedError("server_error"), RelayTimeoutError("timeout")]
    with pytest.raises(RelayFailedError):
        await relaying.accept(b"key")
    with pytest.raises(RelayTimeoutError):
        await relaying.accept(b"key")

    receipt = await relaying.accept(b"key")

    assert receipt.status == "accepted"
    assert relaying.destination.asked == [(receipt.event_id, number) for number in (1, 2, 3)]


async def test_a_commit_that_fails_after_the_reply_is_503_and_the_retry_has_the_same_id(
    relaying: Relaying,
) -> None:
    relaying.committer.failures = 1
    with pytest.raises(UnavailableError):
        await relaying.accept(b"key")

    receipt = await relaying.accept(b"key", external_id="evt_2")

    assert receipt.status == "accepted"
    assert relaying.destination.asked == [(receipt.event_id, 1), (receipt.event_id, 2)]
    assert relaying.destination.relayed_ids == [receipt.event_id]
    assert (await relaying.accept(b"key")).status == "duplicate"


async def test_a_reused_id_replaces_a_generated_external_id(relaying: Relaying) -> None:
    relaying.committer.failures = 1
    with pytest.raises(UnavailableError):
        await relaying.accept(b"key")

    receipt = await relaying.accept(b"key", id="OTHER", external_id="OTHER")

    stored = await relaying.store.event(receipt.event_id)
    assert stored is not None
    assert stored.event.external_id == stored.event.id != "OTHER"


async def test_another_event_with_one_common_key_gets_its_own_id(relaying: Relaying) -> None:
    relaying.destination.replies = [RelayFailedError("server_error")]
    with pytest.raises(RelayFailedError):
        await relaying.accept(b"unsigned", b"signed")

    await relaying.accept(b"unsigned", b"signed of another")

    (first, _), (second, number) = relaying.destination.asked
    assert first != second
    assert number == 1


async def test_two_simultaneous_requests_are_forwarded_once_and_get_the_same_reply(
    relaying: Relaying,
) -> None:
    relaying.destination.open.clear()
    first = asyncio.create_task(relaying.accept(b"key", b"one"))
    await relaying.destination.was_asked(1)
    others = [asyncio.create_task(relaying.accept(b"key", b"%d" % number)) for number in range(5)]
    await asyncio.sleep(0)

    relaying.destination.open.set()
    receipts = [await task for task in (first, *others)]

    assert len(relaying.destination.asked) == 1
    assert [one.status for one in receipts] == ["accepted", *["duplicate"] * 5]
    assert {(one.event_id, one.reply) for one in receipts} == {(receipts[0].event_id, REPLY)}


async def test_a_request_that_waited_for_a_failed_one_is_forwarded(relaying: Relaying) -> None:
    relaying.destination.replies = [RelayFailedError("connect")]
    relaying.destination.open.clear()
    first = asyncio.create_task(relaying.accept(b"key"))
    await relaying.destination.was_asked(1)
    second = asyncio.create_task(relaying.accept(b"key"))
    await asyncio.sleep(0)

    relaying.destination.open.set()

    with pytest.raises(RelayFailedError):
        await first
    assert (await second).status == "accepted"
    assert [number for _, number in relaying.destination.asked] == [1, 2]


async def test_a_wait_beyond_the_providers_deadline_is_a_timeout(relaying: Relaying) -> None:
    relaying.destination.open.clear()
    first = asyncio.create_task(relaying.accept(b"key"))
    await relaying.destination.was_asked(1)

    with pytest.raises(RelayTimeoutError):
        await relaying.accept(b"key", within=0.01)

    relaying.destination.open.set()
    assert (await first).status == "accepted"
    assert len(relaying.destination.asked) == 1


async def test_other_events_and_events_without_keys_do_not_wait(relaying: Relaying) -> None:
    relaying.destination.open.clear()
    tasks = [
        asyncio.create_task(relaying.accept(*keys))
        for keys in ((b"a", b"b"), (b"b", b"a"), (None, None), (None, None), ())
    ]

    await relaying.destination.was_asked(5)

    relaying.destination.open.set()
    assert [(await task).status for task in tasks] == ["accepted"] * 5
    assert len(set(relaying.destination.asked)) == 5


async def test_the_number_of_waiting_requests_is_limited(
    relaying: Relaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    relaying.destination.open.clear()
    first = asyncio.create_task(relaying.accept(b"key"))
    await relaying.destination.was_asked(1)
    second = asyncio.create_task(relaying.accept(b"key"))
    await asyncio.sleep(0)

    with pytest.raises(UnavailableError) as caught:
        await relaying.accept(b"key")

    assert caught.value.reason == "busy"
    relaying.destination.open.set()
    assert [(await first).status, (await second).status] == ["accepted", "duplicate"]


async def test_only_the_latest_failed_events_are_remembered(
    relaying: Relaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    relaying.destination.replies = [RelayFailedError("connect") for _ in range(5)]
    for key in (b"a", b"b", b"c", b"a", b"c"):
        with pytest.raises(RelayFailedError):
            await relaying.accept(key)

    assert [number for _, number in relaying.destination.asked] == [1, 1, 1, 1, 2]


async def test_nothing_is_forwarded_while_the_store_fails(relaying: Relaying) -> None:
    await relaying.store.close()

    with pytest.raises(UnavailableError) as caught:
        await relaying.accept(b"key")

    assert caught.value.reason == "store"
    assert not relaying.destination.asked


async def test_nothing_is_forwarded_while_the_store_does_not_answer(
    relaying: Relaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> Receipt | None:
        await asyncio.Event().wait()
        raise StoreUnavailableError("unreachable")

    monkeypatch.setattr(module, "_LOOKUP_TIMEOUT", 0.01)
    monkeypatch.setattr(relaying.store, "known", never)

    with pytest.raises(UnavailableError):
        await relaying.accept(b"key")

    assert not relaying.destination.asked
