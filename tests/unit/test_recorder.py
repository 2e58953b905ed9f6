"""The effect of an outcome on its delivery."""

from __future__ import annotations

import time
from pathlib import Path

from doubles.delivery import make_destination, make_event
from gatehouse.config.model import RetryConfig
from gatehouse.delivery.gauges import CountedGauge, DestinationGauges
from gatehouse.delivery.outcome import Outcome
from gatehouse.delivery.recorder import Recorder, batch_results
from gatehouse.store.base import Arrival, Assignment, Counts
from gatehouse.store.records import DeliveryQuery
from gatehouse.store.sqlite import SqliteStore
from gatehouse.telemetry.metrics import Metrics


class RecorderSetup:
    """A recorder on a real store, with a clock that tests set forward."""

    def __init__(self, store: SqliteStore, now: float) -> None:
        self.now = now
        self.store = store
        self.metrics = Metrics().destination("billing")
        self.gauges = DestinationGauges(self.metrics)
        self.recorder = Recorder(
            make_destination("http://127.0.0.1/", retry=RetryConfig()),
            results=batch_results(store),
            metrics=self.metrics,
            gauges=self.gauges,
            clock=lambda: self.now,
            uniform=lambda _, longest: longest,
        )

    async def attempted(self, reason: str) -> float | None:
        leases = await self.store.lease("billing", now=self.now, until=self.now + 30, limit=1)
        due = await self.recorder.record(leases[0], Outcome(reason, None, 0.1))  # type: ignore[arg-type]
        self.now = due or self.now
        return due


async def set_up(file: Path) -> RecorderSetup:
    now = time.time()
    store = await SqliteStore.open(file, clock=lambda: now)
    arrival = Arrival(make_event(received=now), (), (Assignment("billing", leased=False),))
    await store.accept([arrival], deadline=time.monotonic() + 5)
    return RecorderSetup(store, now)


async def test_a_refused_delivery_is_dead_after_five_attempts_in_a_quarter_of_an_hour(
    tmp_path: Path,
) -> None:
    setup = await set_up(tmp_path / "gatehouse.db")
    started = setup.now
    dues = [await setup.attempted("rejected") for _ in range(5)]
    assert dues[-1] is None
    assert setup.now - started == 900
    assert (await setup.store.counts())["billing"].dead == 1
    await setup.store.close()


async def test_an_outage_before_does_not_count_as_refusals(tmp_path: Path) -> None:
    setup = await set_up(tmp_path / "gatehouse.db")
    for _ in range(8):
        assert await setup.attempted("connect")
    assert await setup.attempted("rejected")
    assert (await setup.store.counts())["billing"].pending == 1
    await setup.store.close()


async def test_a_delivery_that_a_person_retries_gets_its_whole_schedule(tmp_path: Path) -> None:
    setup = await set_up(tmp_path / "gatehouse.db")

    async def until_dead() -> list[float]:
        pauses, before = [], setup.now
        while await setup.attempted("connect") is not None:
            pauses.append(round(setup.now - before, 3))
            before = setup.now
        return pauses

    first = await until_dead()
    setup.now += 30 * 86400
    await setup.store.retry(DeliveryQuery(), now=setup.now, limit=10)
    assert await until_dead() == first
    assert len(first) > 50
    (row,) = (await setup.store.deliveries(DeliveryQuery(), limit=1)).items
    assert row.attempts == 2 * (len(first) + 1)
    await setup.store.close()


async def test_a_lost_lease_changes_nothing(tmp_path: Path) -> None:
    setup = await set_up(tmp_path / "gatehouse.db")
    (lost,) = await setup.store.lease("billing", now=setup.now, until=setup.now + 1, limit=1)
    (held,) = await setup.store.lease("billing", now=setup.now + 2, until=setup.now + 30, limit=1)
    assert await setup.recorder.record(lost, Outcome("gone", 410, 0.1)) == lost.leased_until
    assert setup.metrics.lost_leases.value == 1
    assert await setup.recorder.record(held, Outcome("ok", 200, 0.1)) is None
    assert await setup.store.counts() == {}
    await setup.store.close()


def test_a_count_that_is_out_of_date_is_ignored() -> None:
    metrics = Metrics()
    gauge = CountedGauge(metrics.destination("billing").pending)
    snapshot = gauge.snapshot()
    gauge.add(1)
    gauge.reconcile(snapshot, 0)
    assert metrics.registry.get_sample_value("gatehouse_deliveries_pending", {"destination": "billing"}) == 1
    gauge.reconcile(gauge.snapshot(), 7)
    assert metrics.registry.get_sample_value("gatehouse_deliveries_pending", {"destination": "billing"}) == 7


class Held:
    """Gauges of a destination, with a clock and deliveries in memory that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.held: list[float] = []
        self._metrics = Metrics()
        self.gauges = DestinationGauges(
            self._metrics.destination("billing"), clock=lambda: self.now, held=lambda: self.held
        )

    @property
    def age(self) -> float | None:
        """What `/metrics` shows."""
        name = "gatehouse_oldest_pending_age_seconds"
        return self._metrics.registry.get_sample_value(name, {"destination": "billing"})

    def count(self, pending: int, oldest: float | None) -> None:
        """Use the numbers of a count."""
        counts = Counts(pending=pending, dead=0, oldest_pending=oldest)
        self.gauges.reconcile(self.gauges.snapshot(), counts)


def test_the_age_of_the_oldest_pending_delivery_grows_with_the_clock_after_a_count() -> None:
    it = Held()
    it.count(2, 990.0)
    assert it.age == 10
    it.now += 5
    assert it.age == 15
    assert it.gauges.oldest_pending() == 990


def test_nothing_is_the_oldest_as_soon_as_nothing_is_pending() -> None:
    it = Held()
    it.count(1, 990.0)
    it.gauges.pending.add(-1)
    assert (it.age, it.gauges.oldest_pending()) == (0, None)


def test_the_first_pending_delivery_is_the_oldest_before_it_is_counted() -> None:
    it = Held()
    it.count(1, 500.0)
    it.gauges.pending.add(-1)
    for received in (998.0, 999.0):
        it.gauges.pending.add(1)
        it.gauges.stored(received)
    assert (it.age, it.gauges.oldest_pending()) == (2, 998)


def test_while_all_pending_deliveries_are_in_memory_the_oldest_of_them_is_known() -> None:
    """Otherwise a healthy destination with much traffic would seem to have an old one between two counts."""
    it = Held()
    it.count(2, 900.0)
    it.held = [999.5, 999.0]
    assert it.gauges.oldest_pending() == 999
    it.gauges.pending.add(1)
    assert it.gauges.oldest_pending() == 900


def test_a_count_that_began_before_the_last_delivery_ended_does_not_bring_it_back() -> None:
    it = Held()
    it.count(1, 500.0)
    snapshot = it.gauges.snapshot()
    it.gauges.pending.add(-1)
    it.gauges.pending.add(1)
    it.gauges.stored(999.0)
    it.gauges.reconcile(snapshot, Counts(pending=1, dead=0, oldest_pending=500.0))
    assert it.gauges.oldest_pending() == 999


def test_with_a_shared_store_changes_during_a_count_are_added_to_it() -> None:
    """Otherwise a busy gateway would never learn what other processes accepted and delivered."""
    gauge = CountedGauge(Metrics().destination("billing").pending, shared=True)
    gauge.add(5)
    snapshot = gauge.snapshot()
    gauge.add(1)
    gauge.reconcile(snapshot, 40)
    assert gauge.number == 41
    snapshot = gauge.snapshot()
    gauge.add(-3)
    gauge.reconcile(snapshot, 2)
    assert gauge.number == 0
