"""Keeps what was counted in the last 24 hours, and how much per minute lately. Pure, and in memory only.

Nobody reports to the history. It compares samples of counters, which others take about once a minute and when
somebody looks. What was counted between two samples belongs to the bucket of the first one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gatehouse.telemetry.buckets import BUCKETS, STEP, Numbers, Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A source or a destination, by its name.
Key = tuple[Literal["source", "destination"], str]

#: Rates are for the time since the oldest of this many marks: five minutes, and up to one more.
_MARKS: Final = 6
#: Seconds between two marks, at least. Samples at each full minute can be a little less than 60 s apart.
_MARK_AFTER: Final = 59.0
#: The shortest time that a rate is told for (seconds).
_SHORTEST: Final = 60.0


class Sampled(NamedTuple):
    """A sample of the counters of one source or destination."""

    #: By the name of the counter. They only rise, unless they start again from zero. Zeros can be left out.
    counts: Mapping[str, int]
    #: The age of the oldest pending delivery (seconds).
    lag: float = 0.0


class Seen(NamedTuple):
    """The history of one source or destination. Lists are by bucket, the oldest first; None is not known."""

    #: The counters that counted anything within the day, by name.
    counts: Mapping[str, list[int | None]]
    #: The list of every other counter.
    nothing: list[int | None]
    #: The highest lag that was sampled (whole seconds).
    lag: list[int | None]
    #: How much was counted per minute lately, by the name of the counter. Those that never counted are left
    #: out. None when the time is too short to say.
    per_minute: Mapping[str, float] | None
    #: The time that the rates cover (seconds).
    rate_seconds: float


class _Counted:
    """What one counter has counted since it was first seen."""

    __slots__ = ("marks", "numbers", "total")

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.total = 0
        #: The last totals, at the times of `History._marks`. While there are fewer, it was zero before.
        self.marks: tuple[int, ...] = ()

    def since_marks(self) -> int:
        """Return how much was counted since the oldest mark, or ever."""
        return self.total - (self.marks[0] if len(self.marks) == _MARKS else 0)


class _Track:
    """The history of one source or destination."""

    __slots__ = ("_last", "began", "counted", "first", "lag")

    def __init__(self, counts: Mapping[str, int], first: int, began: float) -> None:
        #: The values of the last sample.
        self._last = counts
        #: The bucket of the first sample, and its time on the steady clock.
        self.first = first
        self.began = began
        #: By the name of the counter. Those that have counted nothing are left out.
        self.counted: dict[str, _Counted] = {}
        self.lag = Numbers()

    def count(self, bucket: int, counts: Mapping[str, int]) -> None:
        """Add what was counted since the last sample to a bucket."""
        for name, value in counts.items():
            last = self._last.get(name, 0)
            # A counter that fell has started again from zero.
            if more := value - last if value >= last else value:
                counted = self.counted.setdefault(name, _Counted())
                counted.total += more
                counted.numbers.add(bucket, more)
        self._last = counts

    def begin(self, buckets: range) -> None:
        """Begin new buckets at zero."""
        self.lag.clear(buckets)
        for counted in self.counted.values():
            counted.numbers.clear(buckets)

    def mark(self) -> None:
        """Remember the totals of now."""
        for counted in self.counted.values():
            counted.marks = (*counted.marks, counted.total)[-_MARKS:]


class History:
    """The last 24 hours of all sources and destinations."""

    def __init__(self, wall: float, steady: float) -> None:
        """`wall` is the machine's clock (Unix seconds), and `steady` is a clock that does not jump."""
        self._timeline = Timeline(wall, steady)
        self._tracks: dict[Key, _Track] = {}
        self._started = steady
        #: The clocks at the last sample.
        self._wall, self._steady = wall, steady
        #: When the totals were last remembered, on the steady clock.
        self._marks: tuple[float, ...] = ()

    def sample(self, samples: Mapping[Key, Sampled], wall: float, steady: float) -> None:
        """Add a sample of everything that exists now.

        What is not in it is forgotten. What is in it for the first time begins here, with its counters as
        they are.
        """
        timeline, known = self._timeline, self._tracks
        before = timeline.newest
        begun = timeline.advance(wall, steady)
        self._wall, self._steady, self._tracks = wall, steady, {}
        for key, sampled in samples.items():
            track = known.get(key)
            if track is None:
                track = _Track(sampled.counts, timeline.newest, steady)
            else:
                track.count(before, sampled.counts)
                track.begin(begun)
            track.lag.raise_to(timeline.newest, round(sampled.lag))
            self._tracks[key] = track
        self._mark()

    def _mark(self) -> None:
        """Remember the totals of now, unless that was done just before."""
        if self._marks and self._steady - self._marks[-1] < _MARK_AFTER:
            return
        self._marks = (*self._marks, self._steady)[-_MARKS:]
        for track in self._tracks.values():
            track.mark()

    def names(self, kind: Literal["source", "destination"]) -> list[str]:
        """Return the names of the last sample, in its order."""
        return [name for its_kind, name in self._tracks if its_kind == kind]

    @property
    def since(self) -> int:
        """When the history began (Unix seconds)."""
        return round(self._wall - (self._steady - self._started))

    @property
    def until(self) -> int:
        """When the newest bucket ends (Unix seconds)."""
        return self._timeline.until

    @property
    def oldest(self) -> int:
        """When the oldest bucket begins (Unix seconds)."""
        return self._timeline.until - BUCKETS * STEP

    def show(self, key: Key) -> Seen:
        """Return the history as of the last sample. Raises `KeyError` for a name that was not in it."""
        track, timeline = self._tracks[key], self._timeline
        newest, first = timeline.newest, track.first
        lists = {name: counted.numbers.until(newest) for name, counted in track.counted.items()}
        counts = {name: timeline.known(values, first) for name, values in lists.items() if any(values)}
        covered = self._steady - self._rates_from(track)
        return Seen(
            counts,
            timeline.known([0] * BUCKETS, first),
            timeline.known(track.lag.until(newest), first),
            self._per_minute(track, covered),
            covered,
        )

    def _per_minute(self, track: _Track, covered: float) -> Mapping[str, float] | None:
        if covered < _SHORTEST:
            return None
        return {name: counted.since_marks() * 60 / covered for name, counted in track.counted.items()}

    def _rates_from(self, track: _Track) -> float:
        """Return from when on the rates of a track count, on the steady clock."""
        is_older = len(self._marks) == _MARKS and track.began <= self._marks[0]
        return self._marks[0] if is_older else track.began
