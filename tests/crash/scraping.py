"""The metrics of a gateway, read as Prometheus does."""

from __future__ import annotations

import time
from collections import defaultdict

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from crash.checker import Scrape


async def scrape(
    client: aiohttp.ClientSession, operator_url: str, *, life: int, at_rest: bool = False
) -> Scrape:
    """Read the current metrics of one life."""
    started = time.time()
    async with client.get(f"{operator_url}/metrics") as answer:
        text = await answer.text()
    sums: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("outcome", "accepted") == "accepted":
                sums[sample.name] += sample.value
    return Scrape(
        life,
        started,
        time.time(),
        accepted=int(sums["gatehouse_requests_total"]),
        pending=int(sums["gatehouse_deliveries_pending"]),
        dead=int(sums["gatehouse_deliveries_dead"]),
        at_rest=at_rest,
        lost_leases=int(sums["gatehouse_lost_leases_total"]),
    )
