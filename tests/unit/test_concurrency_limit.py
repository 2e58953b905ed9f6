"""The adaptive limit, with a simulated destination and a simulated clock."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count, pairwise

import pytest

from gatehouse.delivery.concurrency_limit import LEAST, MOST, START, AdaptiveLimit
from gatehouse.delivery.outcome import Outcome, reason_for

#: Seconds that a worker needs after a reply, to have the outcome recorded.
_RECORDING = 0.003


class App:
    """A destination that handles `at_once` requests at a time; the others wait, or get a status at once."""

    def __init__(
        self, seconds: float, at_once: float = float("inf"), *, status: int | None = None, spread: float = 0.0
    ) -> None:
        self.seconds, self.at_once, self.status, self.spread = seconds, at_once, status, spread
        #: A share of the requests that fail with 503, whatever the load is.
        self.failing = 0.0
        #: The status of every request while the app is down.
        self.down: int | None = None


class Simulation:
    """A lane that always has a backlog (or starts `arrivals` attempts per second), and its destination."""

    def __init__(self, app: App, *, arrivals: float | None = None, seed: int = 1) -> None:
        self.app, self.now, self.limit = app, 0.0, AdaptiveLimit(0.0)
        self.random = random.Random(seed)  # noqa: S311 - a simulation
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._waiting: deque[float] = deque()
        self._busy = self._handled = 0
        self._arrivals, self._backlog = arrivals, 0.0
        #: When the limit changed, and to what.
        self.history: list[tuple[float, int]] = [(0.0, START)]
        self.outcomes: deque[tuple[float, int]] = deque(maxlen=100_000)
        if arrivals:
            self._at(0.0, self._arrive)

    def _at(self, moment: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), what))

    def _arrive(self) -> None:
        assert self._arrivals is not None
        self._backlog += 1
        self._at(self.now + self.random.expovariate(self._arrivals), self._arrive)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            while self._busy < self.limit.value and (self._arrivals is None or self._backlog >= 1):
                self._backlog -= 1
                self._busy += 1
                self._start()
            if self._events[0][0] > until:
                break
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until

    def _start(self) -> None:
        app, started = self.app, self.now
        if app.down is not None:
            self._reply(started, app.down, 0.001)
        elif self._handled < app.at_once:
            self._handle(started)
        elif app.status is not None:
            self._reply(started, app.status, 0.001)
        else:
            self._waiting.append(started)

    def _handle(self, started: float) -> None:
        self._handled += 1
        takes = self.app.seconds * self.random.lognormvariate(0.0, self.app.spread)
        self._at(self.now + takes, lambda: self._handled_one(started))

    def _handled_one(self, started: float) -> None:
        self._handled -= 1
        if self._waiting:
            self._handle(self._waiting.popleft())
        self._reply(started, 503 if self.random.random() < self.app.failing else 200, 0.0)

    def _reply(self, started: float, status: int, after: float) -> None:
        self._at(self.now + after, lambda: self._replied(started, status))

    def _replied(self, started: float, status: int) -> None:
        outcome = Outcome(reason_for(status), status, self.now - started)
        self.outcomes.append((self.now, status))
        if self.limit.observe(outcome, self.now, reached=self._busy >= self.limit.value):
            self.history.append((self.now, self.limit.value))
        self._at(self.now + _RECORDING, self._recorded)

    def _recorded(self) -> None:
        self._busy -= 1

    def between(self, begin: float, end: float) -> list[int]:
        """Return the limits that applied in a period."""
        before = [value for at, value in self.history if at <= begin][-1:]
        return before + [value for at, value in self.history if begin < at <= end]

    def share_of_time(self, limits: range, begin: float) -> float:
        """Return the share of the time since `begin` in which the limit was one of these."""
        spans = pairwise([*self.history, (self.now, 0)])
        inside = sum(
            end - max(at, begin) for (at, value), (end, _) in spans if value in limits and end > begin
        )
        return inside / (self.now - begin)

    def refused(self, begin: float) -> float:
        """Return the share of the outcomes since `begin` that are not 2xx."""
        recent = [status for at, status in self.outcomes if at >= begin]
        return sum(status != 200 for status in recent) / len(recent)


@pytest.mark.parametrize(("seconds", "spread"), [(0.005, 0.0), (0.05, 0.8), (0.4, 0.8)])
def test_it_grows_while_replies_take_as_long_as_at_the_start(seconds: float, spread: float) -> None:
    simulation = Simulation(App(seconds, spread=spread))
    simulation.run(1 + 45 * seconds)
    assert simulation.limit.value == MOST
    simulation.run(70)
    assert START in simulation.between(60, simulation.now)  # it measured the start again
    assert simulation.share_of_time(range(MOST, MOST + 1), 20) > 0.85


@pytest.mark.parametrize("seconds", [0.01, 0.08])
@pytest.mark.parametrize(("at_once", "lowest", "highest"), [(8, 16, 24), (24, 24, 54), (40, 36, 64)])
def test_it_stays_near_what_the_destination_handles_at_a_time(
    at_once: int, lowest: int, highest: int, seconds: float
) -> None:
    simulation = Simulation(App(seconds, at_once, spread=0.5))
    simulation.run(60)
    assert max(simulation.between(0, 60)) <= highest
    assert simulation.share_of_time(range(lowest, highest + 1), 10) > 0.8


def test_an_app_that_only_queues_rarely_gets_more_than_at_the_start() -> None:
    simulation = Simulation(App(0.01, 8, spread=0.5))
    simulation.run(60)
    assert simulation.share_of_time(range(START, START + 1), 5) > 0.85


@pytest.mark.parametrize("status", [429, 503])
def test_an_app_that_refuses_more_than_its_own_limit_rarely_has_to(status: int) -> None:
    simulation = Simulation(App(0.01, 20, status=status))
    simulation.run(60)
    assert simulation.refused(5) < 0.001
    assert simulation.share_of_time(range(START, 21), 5) > 0.9


def test_429_takes_it_below_the_start_and_not_to_one() -> None:
    simulation = Simulation(App(0.01, 8, status=429))
    simulation.run(60)
    assert simulation.refused(5) < 0.001
    assert simulation.share_of_time(range(LEAST, 9), 5) > 0.9
    assert min(simulation.between(0, 60)) >= 7


@pytest.mark.parametrize("status", [429, 503])
def test_it_backs_off_within_a_second_and_recovers(status: int) -> None:
    app = App(0.02)
    simulation = Simulation(app)
    simulation.run(5)
    assert simulation.limit.value == MOST
    app.down = status
    simulation.run(1)
    assert simulation.limit.value == (LEAST if status == 429 else START)
    app.down = None
    simulation.run(14)
    assert simulation.limit.value <= START  # it does not rush back
    simulation.run(40)
    assert simulation.limit.value == MOST


def test_failures_of_single_events_never_take_it_below_the_start() -> None:
    app = App(0.01)
    app.failing = 0.5
    simulation = Simulation(app)
    simulation.run(20)
    assert simulation.history == [(0.0, START)]


def test_rare_failures_do_not_keep_it_at_the_start() -> None:
    app = App(0.02, spread=0.5)
    app.failing = 0.005
    simulation = Simulation(app)
    simulation.run(30)
    assert simulation.share_of_time(range(MOST, MOST + 1), 10) > 0.9


def test_it_does_not_change_while_attempts_do_not_use_it() -> None:
    simulation = Simulation(App(0.01, spread=0.5), arrivals=300.0)
    simulation.run(20)
    assert simulation.history == [(0.0, START)]


def test_an_app_that_becomes_slower_is_not_held_to_its_former_speed() -> None:
    app = App(0.01, spread=0.3)
    simulation = Simulation(app)
    simulation.run(5)
    app.seconds = 0.05
    simulation.run(60)
    assert simulation.limit.value == MOST
    app.at_once = 8
    simulation.run(60)
    assert simulation.limit.value <= 27


def test_attempts_from_before_a_change_say_nothing_about_it() -> None:
    limit = AdaptiveLimit(0.0)
    for number in range(100):
        limit.observe(Outcome("ok", 200, 0.01), 1 + number / 1000, reached=True)
    assert limit.value == 24
    for _ in range(200):
        limit.observe(Outcome("throttled", 429, 0.5), 1.2, reached=True)
    assert limit.value == 24
    limit.observe(Outcome("throttled", 429, 0.05), 1.2, reached=True)
    for _ in range(23):
        limit.observe(Outcome("timeout", None, 0.05), 1.2, reached=True)
    assert limit.value == START
