"""Every store keeps operations, and runs their steps, as `OperationStore` says."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from conformance.builders import NOW, accept, arrival, event, lease, result
from gatehouse.events.event import new_id
from gatehouse.store.operations import MAX_RUNNING, Due, Operation, PlanStep, Step, StepResult
from gatehouse.store.postgres import PostgresStore
from gatehouse.store.records import DeliveryQuery, EventQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.conftest import Clock, Reopen
    from gatehouse.store.base import Store

OWNER, OTHER = "gateway-1", "gateway-2"
CONFIGURED = frozenset({"billing", "ledger"})
#: When the operations start: after everything that the tests accept.
START = NOW + 100


def operation(
    kind: str = "replay", *, to: Sequence[str] | None = ("billing",), started: float = START, **query: Any
) -> Operation:
    return Operation(
        id=new_id(started),
        kind=kind,  # type: ignore[arg-type]
        query=EventQuery(**{"until": started} | query),
        to=None if to is None else tuple(to),
        rate=50.0,
        total=3,
        by="ci",
        started=started,
    )


async def start(store: Store, one: Operation, owner: str = OWNER) -> Operation:
    """Store an operation and take it."""
    assert await store.add_operation(one)
    taken = await store.take_operations(owner, now=START, until=START + 15)
    return next(each for each in taken if each.id == one.id)


async def find_stored(store: Store, one: Operation, *, within: float = 0.0) -> Operation:
    """Return an operation as the store has it. `within` is how much the clock may have changed."""
    stored = await store.operation(one.id)
    assert stored is not None
    assert abs(stored.started - one.started) <= within
    return replace(stored, started=one.started)


async def find(store: Store, one: Operation, configured: frozenset[str] = CONFIGURED) -> list[str]:
    """Return the ids of all events that an operation finds from its position on."""
    found: list[str] = []
    position, done = one.position, False
    while not done:
        step = await store.candidates(one, position, configured, limit=2)
        found += [each.event_id for each in step.events]
        position, done = step.position, step.done
    return found


def step_of(*events: str, position: str = "", is_last: bool = False, now: float = START) -> Step:
    return Step(events, position or (events[-1] if events else ""), is_last, now, now + 15, CONFIGURED)


async def run(store: Store, one: Operation, *, limit: int = 2, now: float = START) -> list[StepResult]:
    """Run an operation to its end. Returns what each step changed."""
    results = []
    position, done = one.position, False
    while not done:
        found = await store.candidates(one, position, CONFIGURED, limit=limit)
        position, done = found.position, found.done
        ids = tuple(each.event_id for each in found.events)
        step = Step(ids, position, done, now, now + 15, CONFIGURED)
        ran = await store.step(one, OWNER, step)
        assert ran is not None
        results.append(ran)
    return results


async def store_events(
    store: Store, number: int, *, to: Sequence[str] = ("billing",), **facts: Any
) -> list[str]:
    """Store delivered events, one second apart. Returns their ids, the oldest first."""
    made = [event(received=NOW + second, **facts) for second in range(number)]
    await accept(store, *(arrival(of=each, to=to) for each in made))
    for name in to:
        await store.record([result(each) for each in await lease(store, name, now=NOW + number)])
    return [each.id for each in made]


async def die(store: Store, *names: str, at: float = NOW + 50) -> None:
    for name in names:
        await store.record([result(each, "dead", at=at) for each in await lease(store, name, now=at)])


async def pending(store: Store, name: str = "billing") -> list[str]:
    page = await store.deliveries(DeliveryQuery(status="pending", destination=name), limit=500)
    return [row.event_id for row in page.items]


async def test_an_operation_is_stored_as_it_is(store: Store, reopen: Reopen) -> None:
    one = operation(to=["billing", "ledger"], source="shop", type="order.*", since=NOW)
    everywhere = operation("retry", to=None)
    assert await store.add_operation(one)
    assert await store.add_operation(everywhere)
    store = await reopen()
    # A database has a clock of its own, which a store measures when it opens.
    assert await find_stored(store, one, within=2) == one
    assert await find_stored(store, everywhere, within=2) == everywhere
    assert await store.operation(new_id(NOW)) is None
    assert [each.id for each in await store.operations("replay", limit=10)] == [one.id]
    assert [each.id for each in await store.operations("retry", limit=10)] == [everywhere.id]


async def test_the_latest_operations_come_first(store: Store) -> None:
    made = [operation(started=START + number) for number in range(3)]
    for one in made:
        await store.add_operation(one)
    assert await store.operations("replay", limit=2) == [made[2], made[1]]


async def test_only_so_many_operations_run_at_once(store: Store) -> None:
    made = [operation(started=START + number) for number in range(MAX_RUNNING)]
    assert all([await store.add_operation(one) for one in made])
    late = operation(started=START + MAX_RUNNING)
    assert not await store.add_operation(late)
    assert await store.operation(late.id) is None
    await store.cancel_operation(made[0].id, now=START)
    assert await store.add_operation(late)


async def test_a_replay_finds_the_events_of_its_filter_from_old_to_new(store: Store) -> None:
    wanted = await store_events(store, 5, source="shop", event_type="order.paid")
    await store_events(store, 5, source="pos", event_type="order.paid")
    await store_events(store, 5, source="shop", event_type="order.open")
    assert await find(store, operation(source="shop", type="*.paid")) == wanted
    assert (
        await find(store, operation(source="shop", type="*.paid", since=NOW + 1, until=NOW + 4))
        == wanted[1:4]
    )


async def test_a_replay_leaves_out_what_was_received_after_its_start(store: Store) -> None:
    await store_events(store, 3)
    one = operation(started=NOW + 2)
    assert len(await find(store, one)) == 2
    await accept(store, arrival(of=event(received=NOW + 3)))
    assert len(await find(store, one)) == 2


async def test_a_replay_of_a_status_finds_the_events_with_such_a_delivery(store: Store) -> None:
    await store_events(store, 2)
    late = event(received=NOW + 20)
    await accept(store, arrival(of=late))
    await die(store, "billing")
    assert await find(store, operation(status="dead")) == [late.id]
    assert len(await find(store, operation(status="delivered"))) == 2


async def test_a_retry_finds_the_events_with_dead_deliveries_to_its_destinations(store: Store) -> None:
    await store_events(store, 2)
    first, second, third = (event(received=NOW + 20 + number) for number in range(3))
    await accept(store, arrival(of=first), arrival(of=second, to=["ledger"]), arrival(of=third, to=["gone"]))
    await die(store, "billing", "ledger", "gone")
    assert await find(store, operation("retry", to=None)) == [first.id, second.id]
    assert await find(store, operation("retry", to=["ledger"])) == [second.id]
    assert await find(store, operation("retry", to=None, since=NOW + 20.5)) == [second.id]


async def test_a_plan_counts_by_source_type_and_destination(store: Store) -> None:
    await store_events(store, 3, source="shop", event_type="order.paid", to=["billing", "ledger"])
    await store_events(store, 2, source="pos", event_type="order.open", to=["billing", "gone"])
    events = {("shop", "order.paid"): 3, ("pos", "order.open"): 2}

    async def plan(one: Operation) -> PlanStep:
        step = await store.plan(one, "", CONFIGURED)
        assert step.done
        return step._replace(position="")

    had = PlanStep(events, {"billing": 5, "ledger": 3}, "", done=True)
    assert await plan(operation(to=None)) == had
    assert await plan(operation(to=["ledger"])) == had._replace(deliveries={"ledger": 5})
    assert (await plan(operation(source="pos"))).events == {("pos", "order.open"): 2}


async def test_a_plan_of_a_retry_counts_dead_letters_only(store: Store) -> None:
    await store_events(store, 2, to=["billing", "ledger"])
    await accept(store, arrival(of=event(received=NOW + 20), to=["billing", "ledger"]))
    await die(store, "ledger")
    step = await store.plan(operation("retry", to=None), "", CONFIGURED)
    assert (sum(step.events.values()), step.deliveries, step.done) == (1, {"ledger": 1}, True)


async def test_a_plan_goes_in_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatehouse.store.operations._SCAN_ROWS", 3)
    await store_events(store, 7)
    position, events, steps, done = "", 0, 0, False
    while not done:
        step = await store.plan(operation(), position, CONFIGURED)
        position, done = step.position, step.done
        events += sum(step.events.values())
        steps += 1
    assert (events, steps) == (7, 3)


async def test_a_step_makes_its_events_due_and_advances_the_operation(store: Store) -> None:
    first, second, third = await store_events(store, 3)
    one = await start(store, operation(to=["ledger"]))
    ran = await store.step(one, OWNER, step_of(first, second))
    assert ran == StepResult({"ledger": Due(pending=2)}, done=2, failed=0)
    assert sorted(await pending(store, "ledger")) == [first, second]
    now = await find_stored(store, one)
    assert (now.done, now.failed, now.state, now.position) == (2, 0, "running", second)
    assert await store.step(one, OWNER, step_of(third, is_last=True, now=START + 5))
    now = await find_stored(store, one)
    assert (now.done, now.state, now.ended) == (3, "done", START + 5)


async def test_a_replayed_delivery_starts_over_and_keeps_counting_attempts(store: Store) -> None:
    (first,) = await store_events(store, 1)
    one = await start(store, operation())
    await store.step(one, OWNER, step_of(first))
    (leased,) = await lease(store, now=START)
    assert (leased.event.id, leased.attempts, leased.since, leased.earlier) == (first, 1, START, 1)


async def test_a_replay_leaves_pending_deliveries_alone(store: Store) -> None:
    (waiting,) = [event(received=NOW)]
    await accept(store, arrival(of=waiting))
    one = await start(store, operation())
    assert await store.step(one, OWNER, step_of(waiting.id)) == StepResult({}, done=1, failed=0)
    (leased,) = await lease(store, now=START)
    assert leased.since == NOW


async def test_a_replay_without_destinations_goes_to_those_that_had_the_event(store: Store) -> None:
    (first,) = await store_events(store, 1, to=["billing", "gone"])
    (second,) = await store_events(store, 1, to=["gone"])
    one = await start(store, operation(to=None))
    ran = await store.step(one, OWNER, step_of(first, second))
    assert ran == StepResult({"billing": Due(pending=1)}, done=1, failed=1)


async def test_a_filter_for_a_destination_says_where_to_as_well(store: Store) -> None:
    (first,) = await store_events(store, 1, to=["billing", "ledger"])
    await store_events(store, 1, to=["ledger"])
    one = await start(store, operation(to=None, destination="billing"))
    assert await find(store, one) == [first]
    assert (await store.plan(one, "", CONFIGURED)).deliveries == {"billing": 1}
    assert await run(store, one) == [StepResult({"billing": Due(pending=1)}, done=1, failed=0)]


async def test_a_replay_of_what_had_one_destination_can_go_to_another(store: Store) -> None:
    await store_events(store, 1)
    one = await start(store, operation(to=["ledger"], destination="billing"))
    assert await run(store, one) == [StepResult({"ledger": Due(pending=1)}, done=1, failed=0)]


async def test_a_replay_finds_events_by_text_in_their_body(store: Store) -> None:
    wanted = event(b'{"id":"evt_1","customer":"c_7"}', received=NOW)
    await accept(store, arrival(of=wanted), arrival(of=event(received=NOW)))
    assert await find(store, operation(contains=b'"c_7"')) == [wanted.id]


async def test_an_event_that_is_gone_has_failed(store: Store) -> None:
    (first,) = await store_events(store, 1)
    one = await start(store, operation())
    ran = await store.step(one, OWNER, step_of(first, new_id(NOW + 1)))
    assert ran == StepResult({"billing": Due(pending=1)}, done=1, failed=1)


async def test_an_event_for_a_destination_that_is_gone_has_failed(store: Store) -> None:
    (first,) = await store_events(store, 1)
    one = await start(store, operation(to=["billing", "gone"]))
    ran = await store.step(one, OWNER, step_of(first))
    assert ran == StepResult({"billing": Due(pending=1)}, done=0, failed=1)
    assert await pending(store, "gone") == []


async def test_a_replay_of_dead_letters_counts_them_as_no_longer_dead(store: Store) -> None:
    dead = event(received=NOW)
    await accept(store, arrival(of=dead))
    await die(store, "billing")
    one = await start(store, operation())
    ran = await store.step(one, OWNER, step_of(dead.id))
    assert ran == StepResult({"billing": Due(pending=1, dead=1)}, done=1, failed=0)
    assert (await store.counts())["billing"].dead == 0


async def test_a_retry_makes_only_dead_deliveries_due(store: Store) -> None:
    dead = event(received=NOW)
    await accept(store, arrival(of=dead, to=["billing", "ledger"]))
    await die(store, "billing")
    await store.record([result(each) for each in await lease(store, "ledger")])
    one = await start(store, operation("retry", to=None))
    ran = await run(store, one)
    assert ran == [StepResult({"billing": Due(pending=1, dead=1)}, done=1, failed=0)]
    assert await pending(store, "ledger") == []


async def test_a_retry_by_reason_makes_only_deliveries_due_that_died_of_it(store: Store) -> None:
    dead = event(received=NOW)
    await accept(store, arrival(of=dead, to=["billing", "ledger"]))
    for name, reason in (("billing", "rejected"), ("ledger", "timeout")):
        leased = await lease(store, name)
        await store.record([result(each, "dead", reason=reason, at=NOW + 50) for each in leased])
    one = await start(store, operation("retry", to=None, status="dead", reason="timeout"))
    assert (await store.plan(one, "", CONFIGURED)).deliveries == {"ledger": 1}
    assert await run(store, one) == [StepResult({"ledger": Due(pending=1, dead=1)}, done=1, failed=0)]
    assert await pending(store, "billing") == []


async def test_a_retry_leaves_what_died_after_its_start(store: Store) -> None:
    early, late = event(received=NOW), event(received=NOW + 1)
    await accept(store, arrival(of=early), arrival(of=late))
    both = await lease(store)
    await store.record([result(each, "dead", at=START + 9 * (each.event.id == late.id)) for each in both])
    one = await start(store, operation("retry", to=None))
    assert await find(store, one) == [early.id]
    ran = await store.step(one, OWNER, step_of(early.id, late.id))
    assert ran == StepResult({"billing": Due(pending=1, dead=1)}, done=1, failed=0)


async def test_a_retry_keeps_the_order_of_ordered_deliveries(store: Store) -> None:
    made = [event(received=NOW + number) for number in range(3)]
    for each in made:
        await accept(store, arrival(of=each, order=b"key"))
    for _ in made:
        await die(store, "billing")
    one = await start(store, operation("retry", to=None))
    await run(store, one, limit=5)
    (leased,) = await lease(store, now=START)
    assert leased.event.id == made[0].id


async def test_an_operation_visits_every_event_once(store: Store) -> None:
    made = await store_events(store, 7)
    one = await start(store, operation(to=["ledger"]))
    ran = await run(store, one, limit=2)
    assert [each.done for each in ran] == [2, 2, 2, 1]
    assert sorted(await pending(store, "ledger")) == made


async def test_a_retry_visits_every_dead_letter_once(store: Store) -> None:
    made = [event(received=NOW + number) for number in range(5)]
    await accept(store, *(arrival(of=each, to=["billing", "ledger"]) for each in made))
    await die(store, "billing", "ledger")
    one = await start(store, operation("retry", to=None))
    ran = await run(store, one, limit=2)
    assert sum(each.done for each in ran) == 5
    assert sum(each.destinations.get("ledger", Due()).pending for each in ran) == 5


async def test_a_step_whose_commit_fails_has_changed_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await store_events(store, 2)
    one = await start(store, operation(to=["ledger"]))
    await store.step(one, OWNER, step_of(first))
    kind = "postgres" if isinstance(store, PostgresStore) else "sqlite"
    module = importlib.import_module(f"gatehouse.store.{kind}.operations")

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(module, "_advance", fail)
        with pytest.raises(Exception, match=r"store|database|disk"):
            await store.step(one, OWNER, step_of(second))
    assert await pending(store, "ledger") == [first]
    now = await find_stored(store, one)
    assert (now.done, now.position) == (1, first)
    assert await store.step(one, OWNER, step_of(second)) == StepResult({"ledger": Due(1)}, 1, 0)
    assert sorted(await pending(store, "ledger")) == [first, second]


async def test_an_operation_continues_where_it_was(store: Store, reopen: Reopen, clock: Clock) -> None:
    made = await store_events(store, 4)
    one = await start(store, operation(to=["ledger"]))
    await store.step(one, OWNER, step_of(*made[:2]))
    store = await reopen()
    clock.now = START + 60
    (again,) = await store.take_operations(OTHER, now=START + 60, until=START + 75)
    assert await find(store, again) == made[2:]


async def test_a_step_of_another_owner_changes_nothing(store: Store) -> None:
    first, _ = await store_events(store, 2)
    one = await start(store, operation(to=["ledger"]))
    (taken,) = await store.take_operations(OTHER, now=START + 16, until=START + 31)
    assert taken.id == one.id
    assert await store.step(one, OWNER, step_of(first)) is None
    assert not await store.keep_operation(one.id, OWNER, until=START + 60)
    assert await pending(store, "ledger") == []
    assert await store.step(taken, OTHER, step_of(first)) is not None
    assert await store.keep_operation(one.id, OTHER, until=START + 60)


class NewerQuery(EventQuery, frozen=True, kw_only=True):
    """What a newer version may store."""

    colour: str | None = None


async def test_an_operation_with_a_filter_of_a_newer_version_is_left_to_that_version(store: Store) -> None:
    newer = replace(operation(), query=NewerQuery(until=START, colour="red"))
    known = await start(store, operation())
    assert await store.add_operation(newer)
    taken = await store.take_operations(OWNER, now=START, until=START + 15)
    assert [each.id for each in taken] == [known.id]
    assert not isinstance(store, PostgresStore) or not await store.keep_operation(
        newer.id, OWNER, until=START + 15
    )
    await store.cancel_operation(newer.id, now=START)
    assert (await find_stored(store, newer, within=1)).state == "cancelled"


async def test_no_step_runs_after_a_cancel(store: Store) -> None:
    first, second = await store_events(store, 2)
    one = await start(store, operation(to=["ledger"]))
    await store.step(one, OWNER, step_of(first))
    assert await store.cancel_operation(one.id, now=START + 3)
    assert await store.step(one, OWNER, step_of(second)) is None
    assert not await store.keep_operation(one.id, OWNER, until=START + 60)
    assert await store.take_operations(OWNER, now=START + 99, until=START + 120) == []
    ended = await find_stored(store, one)
    assert (ended.state, ended.done, ended.ended) == ("cancelled", 1, START + 3)
    assert not await store.cancel_operation(one.id, now=START + 9)
    assert await store.operation(one.id) == ended


async def test_a_done_operation_is_not_cancelled(store: Store) -> None:
    one = await start(store, operation())
    await run(store, one)
    await store.cancel_operation(one.id, now=START + 3)
    ended = await find_stored(store, one)
    assert ended.state == "done"


async def test_ended_operations_are_forgotten_and_running_ones_are_kept(store: Store) -> None:
    old, running = operation(), operation(started=START + 1)
    await store.add_operation(old)
    await store.add_operation(running)
    await store.cancel_operation(old.id, now=START + 2)
    await store.forget_operations(before=START + 2)
    assert await store.operation(old.id) is not None
    await store.forget_operations(before=START + 3)
    assert await store.operation(old.id) is None
    assert await store.operation(running.id) is not None


async def test_a_released_operation_is_taken_at_once(store: Store) -> None:
    one = await start(store, operation())
    await store.release_operations(OWNER)
    (taken,) = await store.take_operations(OTHER, now=START + 1, until=START + 16)
    assert taken.id == one.id
