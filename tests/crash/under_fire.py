"""D-10, D-09 and D-05 with several gateways on one PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from crash import stored_postgres
from crash.checker import Evidence
from crash.faults import Fire, Step
from crash.ledger import Answer, Reception, read
from crash.replicas import MAX_IN_PROGRESS, clustered
from crash.runs import Findings
from crash.shared_invariants import behind, explained, invariants
from doubles import providers
from postgres_server import PostgresServer

if TYPE_CHECKING:
    from pathlib import Path

    from crash.replicas import Cluster
    from crash.sender import Sender
    from postgres_server import Database

#: The goal for the time from the last fault until every acknowledged event has arrived, and the maximum wait
#: (seconds).
DRAINED_WITHIN = 60.0
_PATIENCE = 150.0
#: The maximum time until the gauges of all gateways agree with the store (seconds).
_AGREE_WITHIN = 40.0

Progress = Callable[["Sender", str], None]


class Plan(NamedTuple):
    """The faults of a run: kills at regular intervals, and a sequence of steps at the same time."""

    kills: int
    every: float
    steps: Sequence[Step]
    #: The approximate time between steps (seconds).
    pause: float
    rate: float = 150.0
    #: Whether to wait at the end until the gauges agree with the store.
    gauges: bool = True


#: D-10 and D-09. Both stops and the outage are longer than a lease.
FULL = Plan(
    kills=60,
    every=5.0,
    steps=(
        Step("restart"),
        Step("stop", 36.0),
        Step("drop", 10.0),
        Step("immediate restart"),
        Step("storm"),
        Step("drop", 30.0),
        Step("restart"),
        Step("refuse", 10.0),
        Step("storm"),
        Step("stop", 36.0),
        Step("immediate restart"),
        Step("refuse", 30.0),
        Step("storm"),
        Step("outage", 35.0),
        Step("restart"),
    ),
    pause=4.0,
)


def silent(_: Sender, __: str) -> None:
    """Print nothing."""


async def replicas(folder: Path, *, kills: int, seed: str, progress: Progress = silent) -> Findings:
    """Execute the full run on its own server."""
    ids = 500
    with PostgresServer() as server:
        (place := folder / "ids").mkdir()
        once = await one_id_everywhere(place, server, server.create_database(), ids=ids)
        (place := folder / "fire").mkdir()
        plan = FULL._replace(kills=kills)
        found = await under_fire(place, server, server.create_database(), plan, seed=seed, progress=progress)
        version = server.sql("SHOW server_version")
    facts = {"PostgreSQL": version, **found.facts, "ids sent on 64 connections at once": ids}
    return replace(found, faults=found.faults + once.faults, facts=facts)


async def under_fire(
    folder: Path,
    server: PostgresServer,
    database: Database,
    plan: Plan,
    *,
    seed: str,
    progress: Progress = silent,
) -> Findings:
    """D-10 and D-09: three gateways, with continuous faults of single gateways and of their database."""
    async with clustered(folder, server, database, seed=seed, rate=plan.rate) as cluster:
        fire = Fire(cluster, Random(seed))
        await cluster.until_all_serve()
        cluster.sender.start()
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_tell(cluster, fire, plan, progress))
            working = [
                group.create_task(fire.kill_often(plan.kills, plan.every)),
                group.create_task(fire.run(plan.steps, plan.pause)),
            ]
            await asyncio.wait(working)
            telling.cancel()
        drained = await _settle(cluster, gauges=plan.gauges)
    return await _findings(cluster, fire, drained)


async def _tell(cluster: Cluster, fire: Fire, plan: Plan, progress: Progress) -> None:
    while True:
        progress(cluster.sender, f"{fire.count('kill')}/{plan.kills} kills, {len(fire.done)} faults")
        await asyncio.sleep(0.5)


async def _settle(cluster: Cluster, *, gauges: bool) -> float:
    """Wait until everything is delivered. Return the time since the last fault (seconds)."""
    since = time.monotonic()
    cluster.sender.stop()
    cluster.calm()
    await cluster.until_all_serve()
    connection = await stored_postgres.connect(cluster.database)
    try:
        async with asyncio.timeout(_PATIENCE):
            while not cluster.sender.idle or await stored_postgres.pending(connection):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        drained = time.monotonic() - since
    except TimeoutError:
        cluster.faults.append(
            f"{await stored_postgres.pending(connection)} still pending after {_PATIENCE} s"
        )
        drained = _PATIENCE
    finally:
        await connection.close()
    if drained > DRAINED_WITHIN:
        cluster.faults.append(f"drained {drained:.1f} s after the last fault")
    await _last_scrapes(cluster, gauges=gauges)
    await cluster.terminate()
    return drained


async def _last_scrapes(cluster: Cluster, *, gauges: bool) -> None:
    """Read the metrics of each idle gateway. Its gauges follow the store with a delay."""
    until = time.monotonic() + _AGREE_WITHIN
    for replica in cluster.replicas:
        while gauges:
            found = await cluster.scrape(replica)
            if (found is not None and not found.pending) or time.monotonic() > until:
                break
            await asyncio.sleep(0.5)
        await cluster.scrape(replica, at_rest=gauges)


async def _findings(cluster: Cluster, fire: Fire, drained: float) -> Findings:
    evidence = Evidence(
        answers=list(read(cluster.folder / "answers", Answer)),
        receptions=list(read(cluster.folder / "receptions", Reception)),
        stored=await stored_postgres.read(cluster.server, cluster.database),
        scrapes=cluster.scrapes,
        kills=fire.count("kill"),
        concurrency=MAX_IN_PROGRESS,
    )
    faults = [*cluster.faults, *(f"{times} x logged: {said}" for said, times in cluster.complaints.items())]
    return Findings(
        evidence,
        faults,
        _facts(cluster, fire, evidence, drained),
        invariants(fire.done, in_progress=MAX_IN_PROGRESS),
    )


def _facts(cluster: Cluster, fire: Fire, evidence: Evidence, drained: float) -> dict[str, object]:
    reasons = explained(evidence, fire.done)
    lost = {scrape.life: scrape.lost_leases for scrape in cluster.scrapes}
    late = sum(len(list(behind(receptions))) for receptions in evidence.by_id.values())
    return {
        "restarts of the database": fire.count("restart", "immediate restart", "outage"),
        "storms of pg_terminate_backend": fire.count("storm"),
        "gateways stopped for a while": fire.count("stop"),
        "gateways cut off from the database": fire.count("drop", "refuse"),
        "duplicates by fault": ", ".join(f"{kind} {number}" for kind, number in reasons.most_common())
        or "none",
        "outcomes after the lease was lost, as far as counted": sum(lost.values()),
        "attempts that arrived after a later one": late,
        "starts that failed without a database": cluster.failed_starts,
        "drained after the last fault": f"{drained:.1f} s",
    }


async def one_id_everywhere(
    folder: Path, server: PostgresServer, database: Database, *, ids: int, connections: int = 64
) -> Findings:
    """D-05: the same event on many connections to all gateways at the same moment, repeatedly."""
    async with clustered(folder, server, database, seed="one id", timeout=20) as cluster:
        cluster.calm()
        await cluster.until_all_serve()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as client:
            faults = [
                text
                for number in range(ids)
                for text in await _send_one(client, cluster, number, connections)
            ]
        drained = await _settle(cluster, gauges=False)
    stored = await stored_postgres.read(server, database)
    arrived = Counter(each.id for each in read(folder / "receptions", Reception))
    expected = Counter({f"evt_{number}": 1 for number in range(ids)})
    faults += [f"stored {stored.rows[name]} times: {name}" for name in expected if stored.rows[name] != 1]
    faults += [f"forwarded {arrived[name]} times: {name}" for name in expected if arrived[name] != 1]
    evidence = Evidence([], [], stored)
    return Findings(evidence, faults, {"ids": ids, "drained": f"{drained:.1f} s"}, {})


async def _send_one(
    client: aiohttp.ClientSession, cluster: Cluster, number: int, connections: int
) -> list[str]:
    name = f"evt_{number}"
    body = providers.body(id=name, type="sale.created", data={"id": name, "padding": ""})
    urls = [replica.gateway.url for replica in cluster.replicas if replica.gateway is not None]

    async def send(url: str) -> tuple[int, str, str]:
        headers = providers.mando(body)
        async with client.post(f"{url}/webhooks/mando", data=body, headers=headers) as answer:
            said = await answer.json()
            return answer.status, said.get("status", ""), said.get("id", "")

    answers = await asyncio.gather(*(send(urls[turn % len(urls)]) for turn in range(connections)))
    counted = Counter((status, said) for status, said, _ in answers)
    if (
        counted == {(200, "accepted"): 1, (200, "duplicate"): connections - 1}
        and len({i for *_, i in answers}) == 1
    ):
        return []
    return [f"{name} was answered with {dict(counted)} and {len({i for *_, i in answers})} ids"]
