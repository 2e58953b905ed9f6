"""Events that a destination can't process do not delay other events. Each case is an hour of virtual time."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from doubles.delivery import make_destination
from doubles.virtual import BATCH, World, simulate
from gatehouse.config.model import RetryConfig
from gatehouse.delivery.breaker import BreakerSettings


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Write no log: thousands of lines take a large part of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


HOUR = 3600
#: Seconds between events that the application can process, and the duration of each POST.
PACE, SERVICE = 2.0, 0.02


class Found(NamedTuple):
    """What happened to the events that the application can process."""

    #: How many were delivered in each sixth of the hour.
    delivered: list[int]
    sent: int
    dead_without_an_attempt: int
    dead: int


def among_poison(
    path: Path, poison: int, form: str, *, ordered: bool = False, concurrency: int = 16, **fields: object
) -> Found:
    """Send all events that it can't process at once, and others at regular intervals, for an hour."""
    came: dict[bytes, float] = {}
    worlds: list[World] = []

    async def app(body: bytes) -> int:
        await asyncio.sleep(SERVICE)
        if b'"poison"' in body:
            return 500
        for number in re.findall(rb'"good": (\d+)', body):
            came.setdefault(number, worlds[0].loop.time())
        return 200

    def key(body: bytes) -> bytes:
        return body[:10]

    async def story(world: World) -> Found:
        worlds.append(world)
        order_by = key if ordered else None
        for start in range(0, poison, 50):
            bodies = [b'{"poison": %d}' % number for number in range(start, min(start + 50, poison))]
            await world.accept(*bodies, order_by=order_by)
        sent = 0
        while world.loop.time() < HOUR:
            await world.accept(b'{"good": %d}' % sent, order_by=order_by)
            sent += 1
            await asyncio.sleep(PACE)
        sixths = [0] * 6
        for at in came.values():
            sixths[min(5, int(at // (HOUR / 6)))] += 1
        dead = world.deliveries("status = 'dead'")
        return Found(sixths, sent, world.deliveries("status = 'dead' AND attempts = 0"), dead)

    given: dict[str, object] = {
        "format": form,
        "concurrency": concurrency,
        "ordered": ordered,
        "batch": BATCH if form == "cloudevents-batch" else None,
        "breaker": BreakerSettings(),
        "retry": RetryConfig(),
    }
    return simulate(path / "gatehouse.db", make_destination("http://app/", **(given | fields)), app, story)


FORMS = ("cloudevents", "cloudevents-binary", "cloudevents-batch", "raw")


@pytest.mark.case("F-02")
@pytest.mark.parametrize(
    ("poison", "form", "ordered", "concurrency"),
    [
        *((poison, form, False, 16) for poison in (1, 8, 60, 1000) for form in FORMS),
        *((poison, "cloudevents", True, 16) for poison in (1, 8, 60, 1000)),
        *((60, form, False, 1) for form in ("cloudevents", "cloudevents-batch")),
        (1000, "cloudevents", False, 1),
    ],
)
def test_other_events_keep_half_of_their_rate_and_none_dies_without_an_attempt(
    tmp_path: Path, poison: int, form: str, ordered: bool, concurrency: int
) -> None:
    found = among_poison(tmp_path, poison, form, ordered=ordered, concurrency=concurrency)

    without = HOUR / 6 / PACE
    assert all(number >= without / 2 for number in found.delivered), found
    assert sum(found.delivered) >= found.sent - 1
    assert found.dead_without_an_attempt == 0


@pytest.mark.case("F-02")
def test_with_a_short_give_up_after_only_attempted_events_become_dead(tmp_path: Path) -> None:
    retry = RetryConfig.model_validate({"give_up_after": "10m"})

    found = among_poison(tmp_path, 60, "cloudevents", concurrency=1, retry=retry)

    assert sum(found.delivered) >= found.sent - 1
    assert (found.dead, found.dead_without_an_attempt) == (60, 0)


@pytest.mark.case("F-02")
def test_slow_retries_leave_half_of_the_time_to_new_events(tmp_path: Path) -> None:
    """The application hangs on events that it can't process, and handles one event at a time."""
    came: list[float] = []

    async def app(body: bytes) -> int:
        await asyncio.sleep(9.0 if b'"poison"' in body else 0.5)
        if b'"poison"' not in body:
            came.append(0.0)
        return 500 if b'"poison"' in body else 200

    async def story(world: World) -> int:
        await world.accept(*(b'{"poison": %d}' % number for number in range(40)))
        # Each has had its first attempt, and all return as fast as they can.
        await asyncio.sleep(1800)
        came.clear()
        for number in range(600):
            await world.accept(b'{"good": %d}' % number)
            await asyncio.sleep(1.0)
        return len(came)

    retry = RetryConfig.model_validate({"first": "1s", "max": "1s"})
    destination = make_destination("http://app/", concurrency=1, retry=retry, breaker=BreakerSettings())

    delivered = simulate(tmp_path / "gatehouse.db", destination, app, story)

    assert delivered >= 300


@pytest.mark.case("O-10")
@pytest.mark.case("F-02")
@pytest.mark.parametrize("form", ["cloudevents", "cloudevents-batch"])
def test_a_destination_that_is_down_gets_only_probes_and_recovers_within_max_open(
    tmp_path: Path, form: str
) -> None:
    back = 1800.0
    answered: list[tuple[float, int]] = []

    async def story(world: World) -> None:
        async def app(_: bytes) -> int:
            now = world.loop.time()
            answered.append((now, 200 if now >= back else 503))
            return answered[-1][1]

        world.app = app
        for number in range(900):
            await world.accept(b'{"good": %d}' % number)
            await asyncio.sleep(4.0)
        assert world.deliveries("status = 'pending'") <= 1

    async def unused(_: bytes) -> int:
        return 503

    destination = make_destination(
        "http://app/",
        format=form,
        batch=BATCH if form == "cloudevents-batch" else None,
        breaker=BreakerSettings(),
        retry=RetryConfig(),
    )
    simulate(tmp_path / "gatehouse.db", destination, unused, story)

    # The fifth event comes after 16 s. Then there is a probe after 30 s and one every minute.
    down = [at for at, status in answered if status == 503 and at > 17]
    assert len(down) <= back / 60 + 1
    assert all(later - sooner >= 30 for sooner, later in pairwise(down))
    first = next(at for at, status in answered if status == 200)
    assert first - back <= 60.0
