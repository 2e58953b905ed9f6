"""The workers' metrics: asked for, remembered, and merged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatehouse.workers.asking import NoAnswerError
from gatehouse.workers.merging import Exposed, counted, known_to, merge, parse, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from gatehouse.telemetry.metrics import SupervisorMetrics
    from gatehouse.workers.keeper import Keeper

#: Seconds that a worker has for its metrics. Prometheus itself gives up after 10.
_WITHIN = 2.0
#: The `worker` label of the supervisor's own series.
SUPERVISOR = "supervisor"


class Scraping:
    """Merges what the workers expose, and the supervisor with them."""

    def __init__(self, own: SupervisorMetrics, keepers: Sequence[Keeper]) -> None:
        self._own = own
        self._keepers = keepers
        #: What each worker that runs exposed last.
        self._last: dict[int, list[Metric]] = {}
        #: What those that have ended had counted. Without it a sum would fall when one of them ends, which
        #: Prometheus takes for a restart of all: it would add the whole of what is left a second time.
        self._ended: list[Metric] = []
        self._one_at_a_time = asyncio.Lock()

    async def exposition(self) -> bytes:
        """Ask all workers, and write what they say in the text exposition format."""
        async with self._one_at_a_time:
            await asyncio.gather(*map(self._ask, self._keepers))
            return await asyncio.to_thread(self._render, list(self._last.items()), self._ended)

    def worker_ended(self, number: int) -> None:
        """Keep what a worker had counted when it was last asked."""
        last = counted(self._last.pop(number, ()))
        self._ended = merge([Exposed("", self._ended), Exposed("", last)])

    async def _ask(self, keeper: Keeper) -> None:
        start = keeper.starts
        try:
            answer = await keeper.asking.ask("/metrics", within=_WITHIN)
            families = await asyncio.to_thread(parse, answer.body)
        except (NoAnswerError, ValueError):
            return  # what it said last stands, as long as it runs
        if keeper.runs and keeper.starts == start:
            self._last[keeper.number] = families

    def _render(self, last: Iterable[tuple[int, list[Metric]]], ended: list[Metric]) -> bytes:
        running = [Exposed(str(number), families) for number, families in last]
        if running:
            # A reload may have taken a source or destination away since.
            ended = known_to(ended, [family for _, families in running for family in families])
        own = list(self._own.registry.collect())
        return render(merge([*running, Exposed("", ended), Exposed(SUPERVISOR, own)]))
