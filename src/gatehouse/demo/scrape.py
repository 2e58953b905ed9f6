"""The gateway's metrics as an operator's Prometheus sees them, and what moved between two looks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from aiohttp import ClientSession

#: Gauges whose level says something at the end: nothing waits, nothing was given up.
_LEVELS = ("gatehouse_deliveries_pending", "gatehouse_deliveries_dead")


@dataclass(frozen=True, slots=True)
class Scrape:
    """Counters and levels, summed over sources: with five of them the picture is clearer."""

    counters: dict[str, float]
    levels: dict[str, float]


def parse(text: str) -> Scrape:
    """Read the text format; keep the gateway's counters and the levels above."""
    counters: dict[str, float] = defaultdict(float)
    levels: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        is_counter = family.type == "counter" and family.name.startswith("gatehouse_")
        for sample in family.samples:
            if is_counter:
                counters[_series(sample.name, sample.labels)] += sample.value
            elif sample.name in _LEVELS:
                levels[_series(sample.name, sample.labels)] += sample.value
    return Scrape(dict(counters), dict(levels))


def moved(before: Scrape, after: Scrape) -> dict[str, float]:
    """Return by how much each counter grew, without those that did not."""
    grown = {name: value - before.counters.get(name, 0) for name, value in after.counters.items()}
    return {name: delta for name, delta in grown.items() if delta}


async def scrape(session: ClientSession, url: str) -> Scrape:
    """Get `/metrics`."""
    async with session.get(url) as response:
        return parse(await response.text())


def _series(name: str, labels: dict[str, str]) -> str:
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items() if key != "source")
    return f"{name}{{{shown}}}" if shown else name
