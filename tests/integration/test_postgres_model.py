"""A model-based test: the stores of two gateways make concurrent random calls on one database.

In each round, a few random calls run at the same time, with a stopped clock. The model does not predict the
result of a race, but checks the invariants that hold after every race. A seed that fails usually fails again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import pytest

from conformance.builders import NEVER, NOW, arrival, event, result
from doubles.dedupe import dedupe_keys
from gatehouse.errors import StoreUnavailableError
from gatehouse.store.accepting import HELD
from gatehouse.store.base import Arrival, Assignment, Delivery
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gatehouse.store.postgres.connection import HOT
from gatehouse.store.records import DeliveryQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gatehouse.store.base import Receipt
    from postgres_server import Database, PostgresServer

ROUNDS = 150
AT_ONCE = 5
#: How long the stores run under a mixed load (seconds).
MIXED = 4.0
DESTINATIONS = ("billing", "crm")
ORDER_KEYS = (None, None, *(b"order-%d" % number for number in range(6)))
KEYS = [b"%d" % number for number in range(40)]
KEEP_KEYS = 20.0
KEEP_EVENTS = 40.0
KEEP_DEAD = 80.0
LOOK = """
SELECT event_id, destination, status, due_ms, leased_until_ms, token, order_key, order_seq, last_reason
FROM deliveries
"""


ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
STAND_STILL = """
CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON deliveries FOR EACH ROW WHEN (OLD.status = 'dead')
EXECUTE FUNCTION stand_still();
"""


class Name(NamedTuple):
    """The name of a delivery."""

    event_id: str
    destination: str


class Row(NamedTuple):
    """The row of a delivery in the database."""

    status: str
    due_ms: int | None
    leased_until_ms: int
    token: int
    order_key: bytes | None
    order_seq: int | None
    last_reason: str | None

    @property
    def runs(self) -> bool:
        return self.due_ms is not None and self.due_ms < HELD

    @property
    def is_held(self) -> bool:
        return self.due_ms == HELD


class Round:
    """The results that the calls of one round returned."""

    def __init__(self) -> None:
        self.accepted: list[tuple[list[Arrival], list[Receipt]]] = []
        self.leased: Counter[Name] = Counter()
        #: Leases that were released, with or without success.
        self.ended: Counter[Name] = Counter()
        self.recorded: dict[Name, str] = {}
        self.released: set[tuple[Name, int]] = set()
        self.revived: set[Name] = set()


class Model:
    """The expected state of the database, and the invariants."""

    def __init__(self, chance: random.Random) -> None:
        self.stores: list[PostgresStore] = []
        self.chance = chance
        self.now = NOW
        self.rows: dict[Name, Row] = {}
        self.received: dict[str, float] = {}
        #: By place and key: the events that were accepted with it, and the time span.
        self.windows: defaultdict[bytes, list[tuple[str, float, float]]] = defaultdict(list)
        self.leases: list[Delivery] = []
        self.used: set[tuple[Name, int]] = set()
        self.damaged: set[str] = set()
        self.last_seq = 0
        self.round = Round()

    def pick(self) -> Awaitable[None]:
        often: list[Callable[[PostgresStore], Awaitable[None]]] = [self.accept, self.lease, self.record] * 3
        often += [self.lease, self.record, self.record]
        others = [self.release, self.retry, self.replay, self.purge, self.pause]
        call = self.chance.choice([*often, *others])
        return call(self.chance.choice(self.stores))

    async def accept(self, store: PostgresStore) -> None:
        batch = [self.arriving() for _ in range(self.chance.randint(1, 4))]
        self.round.accepted.append((batch, await store.accept(batch, deadline=NEVER)))

    def arriving(self) -> Arrival:
        keys = tuple(self.chance.choice([None, *KEYS]) for _ in range(2))
        to = self.chance.sample(DESTINATIONS, self.chance.randint(1, 2))
        assignments = tuple(
            Assignment(each, self.chance.random() < 0.3, self.chance.choice(ORDER_KEYS)) for each in to
        )
        return Arrival(event(received=self.now), dedupe_keys(*keys, until=self.now + KEEP_KEYS), assignments)

    async def lease(self, store: PostgresStore) -> None:
        destination, limit = self.chance.choice(DESTINATIONS), self.chance.randint(1, 5)
        for each in await store.lease(destination, now=self.now, until=self.now + 30, limit=limit):
            self.take(each)

    def take(self, delivery: Delivery) -> None:
        assert delivery.event.id not in self.damaged
        self.leases.append(delivery)
        self.round.leased[name_of(delivery)] += 1

    def leases_to_end(self) -> list[Delivery]:
        """Take some leases, either the latest or any. Old ones are lost."""
        among = self.leases[-8:] if self.chance.random() < 0.7 else self.leases
        return self.chance.sample(among, min(len(among), self.chance.randint(1, 3)))

    async def record(self, store: PostgresStore) -> None:
        some = self.leases_to_end()
        statuses = [self.chance.choice(["delivered", "pending", "dead"]) for _ in some]
        results = [
            result(each, status, due_at=self.now + self.chance.choice([0, 2]), at=self.now)
            for each, status in zip(some, statuses, strict=True)
        ]
        for each, status, held in zip(some, statuses, await store.record(results), strict=True):
            if held:
                self.used_up(each)
                self.round.ended[name_of(each)] += 1
                self.round.recorded[name_of(each)] = status

    def used_up(self, delivery: Delivery) -> None:
        """A lease can be used for one result."""
        lease = (name_of(delivery), delivery.token)
        assert lease not in self.used
        self.used.add(lease)

    async def release(self, store: PostgresStore) -> None:
        some = self.leases_to_end()
        await store.release(some)
        self.round.ended.update(map(name_of, some))
        self.round.released |= {(name_of(each), each.token) for each in some}

    async def retry(self, store: PostgresStore) -> None:
        # At the end of a round, the state of these shows what happened.
        await store.retry(DeliveryQuery(destination=self.chance.choice(DESTINATIONS)), now=self.now, limit=3)

    async def replay(self, store: PostgresStore) -> None:
        if self.rows:
            event_id = self.chance.choice(sorted(self.rows)).event_id
            names = await store.replay(event_id, DESTINATIONS, now=self.now)
            self.round.revived |= {Name(event_id, each) for each in names or ()}

    async def purge(self, store: PostgresStore) -> None:
        before = self.now - KEEP_EVENTS, self.now - KEEP_DEAD
        limit = self.chance.choice([3, 1000])
        await store.purge(now=self.now, events_before=before[0], dead_before=before[1], limit=limit)

    async def pause(self, store: PostgresStore) -> None:
        await store.pause(self.chance.choice(DESTINATIONS), paused=self.chance.random() < 0.5)

    async def damage(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Damage an event that no store has in memory."""
        known = [name for name, row in self.rows.items() if row.status == "pending"]
        if known:
            event_id = self.chance.choice(known).event_id
            await connection.execute("UPDATE events SET body = 'damaged' WHERE id = $1", event_id)
            self.damaged.add(event_id)

    def check(self, found: dict[Name, Row]) -> None:
        """Compare the state with the one before, and with the results of the round."""
        for batch, receipts in self.round.accepted:
            for arrived, receipt in zip(batch, receipts, strict=True):
                self.check_receipt(arrived, receipt)
        self.check_order_of_arrival(found)
        for name, row in self.rows.items():
            self.check_change(name, row, found.get(name))
        for name in {*self.round.leased, *found}:
            self.check_leases(name, self.rows.get(name), found.get(name))
        self.check_order(found)
        self.rows, self.round = found, Round()

    def check_receipt(self, arrived: Arrival, receipt: Receipt) -> None:
        mine = [key for key in arrived.keys if key is not None]
        if receipt.status != "accepted":
            assert any(
                first == receipt.event_id and start <= self.now < end
                for key in mine
                for first, start, end in [*self.windows[key.scoped], *self.accepted_now(key.scoped)]
            ), "a duplicate of what has no such key"
            return
        assert receipt.event_id not in self.received
        self.received[receipt.event_id] = self.now
        for key in mine:
            assert all(end <= self.now for _, _, end in self.windows[key.scoped]), "accepted twice"
            self.windows[key.scoped].append((receipt.event_id, self.now, key.until))
        if receipt.token:
            for each in arrived.assignments:
                if each.leased and each.destination not in receipt.held:
                    until, token = receipt.leased_until, receipt.token
                    self.take(Delivery(arrived.event, each.destination, 0, until, token=token))

    def accepted_now(self, scoped: bytes) -> list[tuple[str, float, float]]:
        return [
            (receipt.event_id, self.now, key.until)
            for batch, receipts in self.round.accepted
            for arrived, receipt in zip(batch, receipts, strict=True)
            for key in arrived.keys
            if receipt.status == "accepted" and key is not None and key.scoped == scoped
        ]

    def check_order_of_arrival(self, found: dict[Name, Row]) -> None:
        """Later arrivals are later in their order, also within a batch."""
        first_new = self.last_seq
        for batch, receipts in self.round.accepted:
            new = [r.event_id for r in receipts if r.status == "accepted"]
            assert {name for name in found if name.event_id in new} >= {
                Name(r.event_id, each.destination)
                for arrived, r in zip(batch, receipts, strict=True)
                if r.status == "accepted"
                for each in arrived.assignments
            }, "accepted and not there"
            for destination in DESTINATIONS:
                rows = [found[Name(each, destination)] for each in new if Name(each, destination) in found]
                numbers = [row.order_seq for row in rows if row.order_seq is not None]
                assert numbers == sorted(numbers)
                assert all(number > first_new for number in numbers)
                self.last_seq = max([self.last_seq, *numbers])

    def check_change(self, name: Name, before: Row, after: Row | None) -> None:
        """Nothing is lost, and each result is there unless an operator retried the delivery after it."""
        recorded = self.round.recorded.get(name)
        if after is None:
            age = self.now - self.received[name.event_id]
            ended = before.status != "pending" or recorded in {"delivered", "dead"}
            assert ended or name.event_id in self.damaged, "purged although pending"
            assert age > KEEP_EVENTS, "purged too early"
        elif recorded in {"delivered", "dead"}:
            # A delivery that was retried in the same round is pending, and its result is gone.
            assert after.status in {recorded, "pending"}
            if after.status == "pending" and recorded == "delivered":
                assert name in self.round.revived
        elif before.status == "pending":
            assert after.status == "pending" or name.event_id in self.damaged, "it ended by itself"
        elif before.status == "delivered" and after.status != "delivered":
            assert name in self.round.revived

    def check_leases(self, name: Name, before: Row | None, after: Row | None) -> None:
        """No two stores lease the same delivery."""
        lasting = before is not None and before.leased_until_ms > self.ms(0)
        taken = self.round.leased[name]
        assert taken + lasting <= 1 + self.round.ended[name], "leased to two"
        if after is not None and after.leased_until_ms > self.ms(0):
            assert after.runs
            assert (name, after.token) not in self.round.released, "given back and still leased"
            mine = [each for each in self.leases if name_of(each) == name and each.token == after.token]
            assert len(mine) == 1 or name.event_id in self.damaged, "leased to nobody"

    def check_order(self, found: dict[Name, Row]) -> None:
        """Each order key with pending deliveries has one active, which was the first of the held ones."""
        by_key: defaultdict[tuple[str, bytes], list[tuple[Name, Row]]] = defaultdict(list)
        for name, row in found.items():
            if row.order_key is not None and row.status == "pending":
                by_key[name.destination, row.order_key].append((name, row))
        for rows in by_key.values():
            running = [(name, row) for name, row in rows if row.runs]
            assert len(running) == 1, "none runs, or several"
            ((name, row),) = running
            before = self.rows.get(name)
            if before is not None and before.runs:
                continue
            for other, waits in rows:
                earlier = (waits.order_seq or 0) < (row.order_seq or 0)
                waited = other in self.rows and self.rows[other].is_held
                assert not (earlier and waited), "overtaken"

    def ms(self, seconds: float) -> int:
        return self.stores[0]._clock.to_database(self.now + seconds)

    async def drain(self) -> None:
        """Deliver everything that is left. A delivery that no store finds would stay."""
        for turn in range(100):
            self.now += 31
            found = 0
            for destination in DESTINATIONS:
                store = self.stores[turn % 2]
                leased = await store.lease(destination, now=self.now, until=self.now + 30, limit=50)
                found += len(leased)
                assert all(await store.record([result(each, at=self.now) for each in leased]))
            if not found and turn > 2:
                return


def name_of(delivery: Delivery) -> Name:
    return Name(delivery.event.id, delivery.destination)


async def look(connection: asyncpg.Connection[asyncpg.Record]) -> dict[Name, Row]:
    return {Name(row[0], row[1]): Row(*tuple(row)[2:]) for row in await connection.fetch(LOOK)}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the timeouts, because the result of a call that times out is unknown."""
    monkeypatch.setattr("gatehouse.store.postgres.pool.HOT", {**HOT, "statement_timeout": "60s"})
    monkeypatch.setattr("gatehouse.store.postgres.pool._HOT_TIMEOUT", 60.0)


@asynccontextmanager
async def modelled(database: Database, seed: int) -> AsyncIterator[Model]:
    settings = PostgresSettings(database.url, database.password)
    model = Model(random.Random(seed))  # noqa: S311 - a fixed seed makes the test reproducible
    model.stores = [await PostgresStore.open(settings, clock=lambda: model.now) for _ in range(2)]
    # Because the clock is stopped, the second store has measured a slightly larger difference.
    model.stores[1]._clock._offset_ms = model.stores[0]._clock._offset_ms
    try:
        yield model
    finally:
        for store in model.stores:
            await store.close()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("seed", range(4))
async def test_concurrent_operations_of_two_gateways_keep_the_invariants(
    database: Database, seed: int
) -> None:
    connection = await asyncpg.connect(database.url, password=database.password)
    async with modelled(database, seed) as model:
        for _ in range(ROUNDS):
            if model.chance.random() < 0.05:
                await model.damage(connection)
            await asyncio.gather(*(model.pick() for _ in range(AT_ONCE)))
            model.check(await look(connection))
            model.now += model.chance.choice([0, 0.5, 1, 5, 31])
        await model.drain()
        assert "pending" not in {row.status for row in (await look(connection)).values()}
    await connection.close()


@pytest.mark.parametrize("call", ["retry", "replay"])
async def test_a_concurrent_purge_does_not_remove_retried_deliveries(database: Database, call: str) -> None:
    connection = await asyncpg.connect(database.url, password=database.password)
    async with modelled(database, 0) as model:
        mine, other = model.stores
        await mine.accept([arrival()], deadline=NEVER)
        (delivery,) = await mine.lease("billing", now=NOW, until=NOW + 30, limit=1)
        assert await mine.record([result(delivery, "dead")]) == [True]
        await connection.execute(STAND_STILL)
        asked = asyncio.create_task(
            mine.retry(DeliveryQuery(), now=NOW, limit=1)
            if call == "retry"
            else mine.replay(delivery.event.id, ["billing"], now=NOW)
        )
        while not await connection.fetchval(ASLEEP):  # noqa: ASYNC110 - the server sends no notifications
            await asyncio.sleep(0.005)
        await other.purge(now=NOW, events_before=NOW + 9, dead_before=NOW + 9, limit=10)
        assert await asked
        assert len(await mine.lease("billing", now=NOW, until=NOW + 30, limit=1)) == 1
    await connection.close()


async def test_gateways_under_a_mixed_load_never_deadlock(
    database: Database, postgres: PostgresServer
) -> None:
    """A second try would hide a deadlock, and would cost a second each time."""
    settings = PostgresSettings(database.url, database.password)
    opened = [await PostgresStore.open(settings) for _ in range(3)]
    until = time.monotonic() + MIXED
    try:
        calls = (accept_some, lease_and_record, lease_and_record, ask_again, purge_all)
        done = await asyncio.gather(*(repeat(call, store, until) for store in opened for call in calls))
    finally:
        for store in opened:
            await store.close()
    assert min(done) > 0, "it was no mixed load"
    # The statistics of a connection appear when it has ended, a moment after it was closed.
    about = f"numbackends || ' ' || deadlocks FROM pg_stat_database WHERE datname = '{database.name}'"
    async with asyncio.timeout(20):
        while not (found := postgres.sql(f"SELECT {about}")).startswith("0 "):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.05)
    assert found == "0 0"


async def repeat(
    call: Callable[[PostgresStore, random.Random], Awaitable[None]], store: PostgresStore, until: float
) -> int:
    chance, done = random.Random(), 0  # noqa: S311
    while time.monotonic() < until:
        with suppress(StoreUnavailableError):  # an overloaded machine
            await call(store, chance)
            done += 1
    return done


async def accept_some(store: PostgresStore, chance: random.Random) -> None:
    now = round(time.time(), 3)
    batch = [
        arrival(*chance.sample(KEYS, 2), until=now + 0.2, of=event(received=now), order=order)
        for order in chance.choices([None, *KEYS[:8]], k=16)
    ]
    await store.accept(batch, deadline=NEVER)


async def lease_and_record(store: PostgresStore, chance: random.Random) -> None:
    # Also what other stores have leased: each lease ends after a short time.
    now = time.time() + chance.choice([0, 0.2])
    leased = await store.lease("billing", now=now, until=now + 0.1, limit=32)
    chance.shuffle(leased)
    await store.record(
        [result(each, chance.choice(["delivered", "dead", "pending"]), due_at=now, at=now) for each in leased]
    )
    await store.release(leased)


async def ask_again(store: PostgresStore, chance: random.Random) -> None:
    now = time.time()
    await store.retry(DeliveryQuery(), now=now, limit=64)
    page = await store.deliveries(DeliveryQuery(status="delivered"), limit=5)
    for row in page.items[:1]:
        await store.replay(row.event_id, ["crm", "billing"], now=now)
    await asyncio.sleep(chance.random() / 20)


async def purge_all(store: PostgresStore, chance: random.Random) -> None:
    now = time.time()
    await store.purge(now=now, events_before=now - 0.5, dead_before=now - 0.5, limit=100)
    await asyncio.sleep(chance.random() / 20)
