"""The requests of the demo: builds each one, sends it, and compares the results with what is expected."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from gatehouse.config.model import HmacConfig
from gatehouse.demo.workspace import APP
from gatehouse.samples.sample import (
    Sample,
    documented_sample,
    sign_sample,
    tampered,
    with_delivery_id,
    with_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gatehouse.demo.app import App, Received
    from gatehouse.ingest.source import Source

Kind = Literal["example", "retry", "forged", "old"]
KINDS: tuple[Kind, ...] = ("example", "retry", "forged", "old")

#: How long an event may take to reach the app before it counts as missing (seconds).
DELIVERY_TIMEOUT = 5.0
_POLL_INTERVAL = 0.02
_MINUTE = 60
_HOUR = 60 * _MINUTE
#: The age of a request that is too old (seconds).
_OLD = 15 * _MINUTE
#: Seconds beyond a tolerance that is larger than `_OLD`, as for providers that retry for hours.
_BEYOND_TOLERANCE = _HOUR
#: Gauges of the app that the demo shows: no delivery is pending or dead at the end.
_GAUGES = ("gatehouse_deliveries_pending", "gatehouse_deliveries_dead")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the gateway: its HTTP status, and what that means in a word."""

    status: int
    word: str
    #: The id of the event, if the answer has one.
    event_id: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.word}"

    def matches(self, other: Answer) -> bool:
        """Compare two answers, except for the event's id."""
        return str(self) == str(other)


ACCEPTED = Answer(200, "accepted")
DUPLICATE = Answer(200, "duplicate")
REFUSED = Answer(401, "refused")


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and the answer expected from the gateway."""

    kind: Kind
    headers: Mapping[str, str]
    body: bytes
    expected: Answer
    #: What is special about the request, in about three words.
    note: str = ""


@dataclass(slots=True)
class Row:
    """One provider: the requests, their answers, and what the app received."""

    source: str
    title: str
    cases: list[Case] = field(default_factory=list)
    answers: dict[Kind, Answer] = field(default_factory=dict)
    received: Received | None = None
    #: From sending the example until the app received it, in milliseconds.
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """The gateway's counters and some gauges, summed over sources to keep the list short."""

    counters: dict[str, float]
    gauges: dict[str, float]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that happened."""

    rows: list[Row]
    before: Metrics
    after: Metrics
    #: What differs from what is expected.
    differences: list[str]


def build_cases(source: Source, now: float) -> list[Case]:
    """Build the requests of one source, signed at `now` as its provider signs."""
    sample = documented_sample(source.settings)
    if sample is None:
        return []
    sample = with_time(sample, source.settings, now)
    request = sign_sample(source, sample, now)
    example = Case("example", dict(request.headers), request.body, ACCEPTED)
    cases = [
        example,
        replace(example, kind="retry", expected=DUPLICATE),
        replace(example, kind="forged", body=tampered(example.body), expected=REFUSED),
    ]
    old = _stale(source, sample, now) or _replayed(source, example)
    return [*cases, old] if old else cases


def _stale(source: Source, sample: Sample, now: float) -> Case | None:
    """Sign a request too long ago. Returns None if the scheme signs no time, or accepts any."""
    timestamps = [entry.timestamp for entry in source.settings.verify if isinstance(entry, HmacConfig)]
    tolerance = max((timestamp.tolerance for timestamp in timestamps if timestamp), default=math.inf)
    if tolerance == math.inf:
        return None
    age = _OLD if tolerance < _OLD else tolerance + _BEYOND_TOLERANCE
    request = sign_sample(source, sample, now - age)
    note = f"{age // _MINUTE:.0f} min old" if age < _HOUR else f"{age // _HOUR:.0f} h old"
    return Case("old", dict(request.headers), request.body, REFUSED, note)


def _replayed(source: Source, captured: Case) -> Case | None:
    """Send a captured request with a new delivery id. Returns None if the provider sends no such id.

    The provider does not sign that header, so the signature is valid: only the dedupe keys detect the replay.
    """
    changed = with_delivery_id(Sample(captured.headers, captured.body), source.settings)
    if changed is None:
        return None
    return replace(captured, kind="old", headers=changed.headers, expected=DUPLICATE, note="new delivery id")


class CaseRunner:
    """Sends the requests of every provider to a gateway with an app behind it."""

    def __init__(self, session: aiohttp.ClientSession, app: App, server: str, operator: str) -> None:
        self._session = session
        self._app = app
        self._server = server
        self._metrics_url = f"{operator}/metrics"

    async def run(self, sources: Iterable[Source], show: Callable[[list[Row]], None]) -> Results:
        """Send everything. `show` gets the rows after each answer."""
        rows = [Row(source.name, source.settings.title or source.name) for source in sources]
        before = await self._scrape()
        for source, row in zip(sources, rows, strict=True):
            row.cases = build_cases(source, time.time())
            for case in row.cases:
                await self._send(f"{self._server}{source.path}", case, row)
                show(rows)
        after = await self._scrape_delivered(before, len([row for row in rows if row.received]))
        return Results(rows, before, after, find_differences(rows, self._app.received))

    async def _send(self, url: str, case: Case, row: Row) -> None:
        started = time.perf_counter()
        async with self._session.post(url, data=case.body, headers=case.headers) as response:
            answer = parse_answer(response.status, await response.read())
        row.answers[case.kind] = answer
        if case.kind == "example" and answer.event_id:
            row.received = await self._app.wait_for(answer.event_id, DELIVERY_TIMEOUT)
            if row.received:
                row.milliseconds = (row.received.at - started) * 1000

    async def _scrape_delivered(self, before: Metrics, deliveries: int) -> Metrics:
        """Scrape until every delivery is counted: the app knows of a delivery before the store does."""
        deadline = time.monotonic() + DELIVERY_TIMEOUT
        while True:
            after = await self._scrape()
            increases = counter_increases(before, after)
            counted = sum(n for name, n in increases.items() if name.startswith("gatehouse_deliveries_total"))
            if counted >= deliveries or time.monotonic() > deadline:
                return after
            await asyncio.sleep(_POLL_INTERVAL)

    async def _scrape(self) -> Metrics:
        async with self._session.get(self._metrics_url) as response:
            return parse_metrics(await response.text())


def parse_answer(status: int, body: bytes) -> Answer:
    """Parse an answer of the gateway, or of another server."""
    try:
        document = json.loads(body)
        if "error" in document:
            code = str(document["error"]["code"])
            return Answer(status, "refused" if code == "unauthorized" else code)
        return Answer(status, str(document["status"]), str(document["id"]))
    except (ValueError, KeyError, TypeError):
        return Answer(status, "unknown answer")


def find_differences(rows: Iterable[Row], received: Iterable[Received]) -> list[str]:
    """Name what differs: an answer, a missing or repeated delivery, or a wrong signature."""
    found = []
    accepted = set()
    for row in rows:
        if not row.cases:
            found.append(f"{row.title}: no documented example to send")
        for case in row.cases:
            answer = row.answers.get(case.kind)
            if answer is None or not answer.matches(case.expected):
                found.append(f"{row.title}, {case.kind}: {answer or 'no answer'} instead of {case.expected}")
        example = row.answers.get("example")
        accepted.add(example.event_id if example else "")
        if row.received is None:
            found.append(f"{row.title}: the app did not receive the event")
        elif not row.received.is_signed:
            found.append(f"{row.title}: the app received the event with a wrong signature")
    return found + _unexpected(accepted, [one.event_id for one in received])


def _unexpected(accepted: set[str], received: list[str]) -> list[str]:
    repeated = sorted({event_id for event_id in received if received.count(event_id) > 1})
    unknown = sorted(set(received) - accepted)
    return [f"the app received event {event_id} more than once" for event_id in repeated] + [
        f"the app received event {event_id}, which no answer names" for event_id in unknown
    ]


def parse_metrics(text: str) -> Metrics:
    """Parse the Prometheus text format, and keep the gateway's counters and the gauges above."""
    counters: dict[str, float] = defaultdict(float)
    gauges: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        is_counter = family.type == "counter" and family.name.startswith("gatehouse_")
        for sample in family.samples:
            if is_counter:
                counters[_series(sample.name, sample.labels)] += sample.value
            elif sample.name in _GAUGES and sample.labels.get("destination") == APP:
                gauges[_series(sample.name, sample.labels)] += sample.value
    return Metrics(dict(counters), dict(gauges))


def counter_increases(before: Metrics, after: Metrics) -> dict[str, float]:
    """Return the increase of each counter that increased."""
    increases = {name: value - before.counters.get(name, 0) for name, value in after.counters.items()}
    return {name: increase for name, increase in increases.items() if increase}


def _series(name: str, labels: dict[str, str]) -> str:
    kept = ",".join(f'{key}="{value}"' for key, value in labels.items() if key != "source")
    return f"{name}{{{kept}}}" if kept else name
