"""The history of 24 hours: buckets, rates, names that come and go, and clocks that jump."""

from __future__ import annotations

from gatehouse.telemetry.buckets import BUCKETS, STEP, Numbers
from gatehouse.telemetry.history import History, Key, Sampled, Seen

SHOP: Key = ("source", "shop")
BILLING: Key = ("destination", "billing")
#: 10:00:00 on some day, where a bucket begins.
TEN = 1_800_000_000.0 // 86400 * 86400 + 36000


class Machine:
    """A machine with two clocks and counters, and the history of them."""

    def __init__(self, at: float = TEN) -> None:
        self.wall = at
        self.steady = at
        self.counts: dict[Key, dict[str, int]] = {SHOP: {"accepted": 0, "refused": 0}}
        self.lags: dict[Key, float] = {}
        self.history = History(self.wall, self.steady)
        self.sample()

    def sample(self) -> None:
        samples = {key: Sampled(dict(counts), self.lags.get(key, 0.0)) for key, counts in self.counts.items()}
        self.history.sample(samples, self.wall, self.steady)

    def run(self, minutes: int, *, accepted: int = 0) -> None:
        """Let full minutes pass, with events in each."""
        for _ in range(minutes):
            self.counts[SHOP]["accepted"] += accepted
            self.wall += 60
            self.steady += 60
            self.sample()

    def shop(self) -> Seen:
        return self.history.show(SHOP)

    def accepted(self, last: int) -> list[int | None]:
        """Return the last buckets. All buckets before them are unknown."""
        values = self.shop().counts.get("accepted", self.shop().nothing)
        assert len(values) == BUCKETS
        assert values[:-last] == [None] * (BUCKETS - last)
        return values[-last:]


def test_counts_are_in_the_bucket_in_which_they_were_counted() -> None:
    machine = Machine(TEN + 120)

    machine.run(3, accepted=2)
    assert machine.accepted(2) == [6, 0]
    machine.run(5, accepted=1)
    machine.run(2, accepted=4)
    machine.counts[SHOP]["accepted"] += 1
    machine.sample()

    assert machine.accepted(3) == [6, 5, 9]
    assert (machine.history.until, machine.history.oldest) == (TEN + 900, TEN + 900 - 86400)
    assert machine.history.since == TEN + 120
    assert "refused" not in machine.shop().counts
    assert machine.shop().nothing[-4:] == [None, 0, 0, 0]


def test_a_day_is_kept_and_what_is_older_is_forgotten() -> None:
    machine = Machine()

    machine.run(5, accepted=3)
    machine.run(BUCKETS * 5 - 6, accepted=0)
    assert machine.accepted(BUCKETS) == [15] + [0] * (BUCKETS - 1)
    machine.run(1)

    assert "accepted" not in machine.shop().counts
    assert machine.shop().nothing == [0] * BUCKETS
    machine.run(6, accepted=1)
    assert machine.accepted(BUCKETS) == [0] * (BUCKETS - 2) + [5, 1]


def test_the_highest_lag_of_a_bucket_is_kept() -> None:
    machine = Machine()
    machine.counts[BILLING] = {"delivered": 0}
    for seconds in (3.4, 61.6, 0.2):
        machine.lags[BILLING] = seconds
        machine.run(1)
    machine.run(2)
    machine.lags[BILLING] = 7.0
    machine.run(1)

    assert machine.history.show(BILLING).lag[-3:] == [None, 62, 7]


def test_rates_cover_the_last_five_to_six_minutes_and_say_so() -> None:
    machine = Machine()
    assert (machine.shop().per_minute, machine.shop().rate_seconds) == (None, 0)
    machine.run(1, accepted=6)
    assert (machine.shop().per_minute, machine.shop().rate_seconds) == ({"accepted": 6}, 60)
    machine.run(3)
    assert (machine.shop().per_minute, machine.shop().rate_seconds) == ({"accepted": 1.5}, 240)

    machine.run(60, accepted=4)
    assert (machine.shop().per_minute, machine.shop().rate_seconds) == ({"accepted": 4}, 300)
    machine.counts[SHOP]["accepted"] += 10
    for _ in range(3):  # somebody looks often
        machine.wall += 10
        machine.steady += 10
        machine.sample()
    assert machine.shop().rate_seconds == 330
    assert machine.shop().per_minute == {"accepted": 30 * 60 / 330}

    machine.counts[SHOP]["refused"] += 5
    machine.run(2)
    refused = (machine.shop().per_minute or {})["refused"]
    assert refused == 5 * 60 / machine.shop().rate_seconds
    machine.run(6)
    assert machine.shop().per_minute == {"accepted": 0, "refused": 0}


def test_a_removed_name_is_forgotten_and_a_new_one_begins_with_its_counters_as_they_are() -> None:
    machine = Machine()
    machine.run(10, accepted=1)
    counts = machine.counts.pop(SHOP)
    machine.counts[BILLING] = {"delivered": 1000}
    machine.sample()
    assert (machine.history.names("source"), machine.history.names("destination")) == ([], ["billing"])

    machine.counts = {SHOP: counts} | machine.counts
    machine.sample()
    machine.run(1, accepted=2)
    assert machine.accepted(1) == [2]
    assert (machine.shop().per_minute, machine.shop().rate_seconds) == ({"accepted": 2}, 60)
    assert machine.history.show(BILLING).counts == {}


def test_counters_that_start_again_count_from_zero() -> None:
    machine = Machine()
    machine.run(3, accepted=100)
    machine.counts[SHOP]["accepted"] = 4
    machine.sample()

    assert machine.accepted(1) == [304]


def test_a_time_in_which_the_machine_was_suspended_is_not_known() -> None:
    machine = Machine()
    machine.run(BUCKETS * 5 + 7, accepted=1)
    machine.wall += 1800
    machine.steady += 1800
    machine.run(4, accepted=1)

    # The first sample after it is late: its counts belong to the bucket before.
    assert machine.shop().counts["accepted"][-10:] == [5, 5, 3, None, None, None, None, None, 2, 1]


def test_a_jump_of_the_clock_moves_the_buckets_to_the_times_that_it_shows_now() -> None:
    for seconds in (7200, -7200, 40 * 86400, -40 * 86400):
        machine = Machine()
        machine.run(10, accepted=1)
        machine.wall += seconds
        machine.run(10, accepted=2)

        assert machine.accepted(5) == [5, 5, 10, 10, 0]
        assert machine.history.until == TEN + seconds + 5 * STEP
        assert machine.history.since == TEN + seconds
        assert machine.shop().per_minute == {"accepted": 2}


def test_a_clock_that_is_set_a_little_neither_loses_nor_repeats_a_bucket() -> None:
    for seconds in (-199, -100, 100, 199):
        machine = Machine()
        machine.run(12, accepted=1)
        machine.wall += seconds
        machine.run(12, accepted=1)

        values = [value for value in machine.shop().counts["accepted"] if value is not None]
        assert sum(values) == 24
        assert 0 not in values[:-1]
        assert machine.history.until - machine.wall <= STEP
        assert machine.shop().per_minute == {"accepted": 1}


def test_numbers_take_no_more_than_their_buckets_and_nothing_while_they_are_zero() -> None:
    numbers = Numbers()

    def size() -> int:
        return 0 if numbers._values is None else len(numbers._values.tobytes())

    numbers.add(5, 0)
    numbers.raise_to(5, 0)
    assert size() == 0

    numbers.add(5, 2**40)
    numbers.raise_to(6, 2**40)
    assert numbers.until(6)[-2:] == [2**32 - 1] * 2
    assert size() == BUCKETS * 4
