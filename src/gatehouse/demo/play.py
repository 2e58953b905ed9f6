"""Sends every case, waits for what should arrive, and says what was not as it should be."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from gatehouse.demo.cases import Answer, Case, Kind, cases, read_answer
from gatehouse.demo.scrape import Scrape, moved, scrape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.demo.app import App, Arrived
    from gatehouse.ingest.source import Source

#: How long an event may take to the app before the demo calls it missing.
ARRIVAL_SECONDS = 5.0
_SETTLE_STEP = 0.02


@dataclass(slots=True)
class Row:
    """One provider: what was sent, what was answered, what arrived."""

    source: str
    title: str
    cases: list[Case] = field(default_factory=list)
    answers: dict[Kind, Answer] = field(default_factory=dict)
    arrived: Arrived | None = None
    #: From sending the example to its arrival at the app, in milliseconds.
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Played:
    """All that happened."""

    rows: list[Row]
    before: Scrape
    after: Scrape
    #: What was not as it should be.
    differences: list[str]


class Player:
    """Plays every provider against a gateway with an app behind it."""

    def __init__(self, session: aiohttp.ClientSession, app: App, server: str, operator: str) -> None:
        self._session = session
        self._app = app
        self._server = server
        self._metrics = f"{operator}/metrics"

    async def play(self, sources: Iterable[Source], show: Callable[[list[Row]], None]) -> Played:
        """Send everything; `show` gets the rows whenever one has changed."""
        rows = [Row(source.name, source.settings.title or source.name) for source in sources]
        before = await scrape(self._session, self._metrics)
        for source, row in zip(sources, rows, strict=True):
            row.cases = cases(source, time.time())
            for case in row.cases:
                await self._send(f"{self._server}{source.path}", case, row)
                show(rows)
        after = await self._settled(before, len([row for row in rows if row.arrived]))
        return Played(rows, before, after, differences(rows, self._app.arrived))

    async def _send(self, url: str, case: Case, row: Row) -> None:
        started = time.perf_counter()
        async with self._session.post(url, data=case.body, headers=case.headers) as response:
            answer = read_answer(response.status, await response.read())
        row.answers[case.kind] = answer
        if case.kind == "example" and answer.event_id:
            row.arrived = await self._app.wait_for(answer.event_id, ARRIVAL_SECONDS)
            if row.arrived:
                row.milliseconds = (row.arrived.at - started) * 1000

    async def _settled(self, before: Scrape, deliveries: int) -> Scrape:
        """Scrape until every arrival is booked as delivered: the app knows of it before the store does."""
        give_up = time.monotonic() + ARRIVAL_SECONDS
        while True:
            after = await scrape(self._session, self._metrics)
            grown = moved(before, after)
            booked = sum(d for name, d in grown.items() if name.startswith("gatehouse_deliveries_total"))
            if booked >= deliveries or time.monotonic() > give_up:
                return after
            await asyncio.sleep(_SETTLE_STEP)


def differences(rows: Iterable[Row], arrived: Iterable[Arrived]) -> list[str]:
    """Name what was not as it should be: an answer, a missing or doubled arrival, a wrong signature."""
    found = []
    accepted = set()
    for row in rows:
        if not row.cases:
            found.append(f"{row.title}: no documented example to send")
        for case in row.cases:
            answer = row.answers.get(case.kind)
            if answer is None or not answer.says_the_same_as(case.expected):
                found.append(f"{row.title}, {case.kind}: {answer or 'no answer'} instead of {case.expected}")
        example = row.answers.get("example")
        accepted.add(example.event_id if example else "")
        if row.arrived is None:
            found.append(f"{row.title}: its event did not arrive at the app")
        elif not row.arrived.is_signed:
            found.append(f"{row.title}: its event arrived with a wrong signature")
    return found + _surplus(accepted, [one.event_id for one in arrived])


def _surplus(accepted: set[str], arrived: list[str]) -> list[str]:
    twice = sorted({event_id for event_id in arrived if arrived.count(event_id) > 1})
    unknown = sorted(set(arrived) - accepted)
    return [f"event {event_id} arrived more than once" for event_id in twice] + [
        f"event {event_id} arrived, and no example was answered with it" for event_id in unknown
    ]
