"""The history of a running gateway: what it received and delivered in the last 24 hours."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.gateway import sampling
from gatehouse.language.times import rfc3339
from gatehouse.store.clock import elapsed
from gateways import CONFIG, RunGateway, Running

#: 10:00:00 on some day, where a bucket begins.
TEN = 1_800_000_000.0 // 86400 * 86400 + 36000


class Clocks:
    """The clocks of a machine, which was started at 10:00:00. Tests let time pass."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._started = elapsed()

    def wall(self) -> float:
        return TEN + elapsed() - self._started + self.ahead

    def elapsed(self) -> float:
        return elapsed() + self.ahead


async def history(running: Running, query: str = "", expected: int = 200) -> dict[str, Any]:
    async with running.client.get(f"{running.operator_url}/api/v1/history{query}") as answer:
        assert answer.status == expected
        found: dict[str, Any] = await answer.json()
        return found


async def send(running: Running, event_id: str, **headers: str) -> int:
    body = providers.body(id=event_id, type="sale.created", data={"id": event_id})
    return (await running.send("mando", body, providers.mando(body) | headers))[0]


def last(counts: list[int | None], number: int) -> list[int | None]:
    """Return the last buckets, before which nothing is known."""
    assert len(counts) == 288
    assert set(counts[:-number]) == {None}
    return counts[-number:]


async def test_the_history_shows_what_was_accepted_refused_delivered_and_late(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    clocks, config = Clocks(), CONFIG.format(url=destination.url)
    destination.script(status(503), status(503))
    async with run_gateway(config, clock=clocks.wall, elapsed=clocks.elapsed) as running:
        assert [await send(running, event) for event in ("evt_1", "evt_2", "evt_1")] == [200, 200, 200]
        assert await send(running, "evt_3", **{"X-Mando-Signature": "sha256=" + "0" * 64}) == 401
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), 2)
        async with running.client.post(f"{running.operator_url}/api/v1/destinations/app/pause") as paused:
            assert paused.status == 200
        assert await send(running, "evt_4") == 200
        clocks.ahead = 400
        shown = await history(running)

        assert (shown["from"], shown["until"]) == (rfc3339(TEN + 600 - 86400), rfc3339(TEN + 600))
        assert shown["step_seconds"] == 300
        assert shown["since"] == shown["complete_since"] <= rfc3339(TEN + 5)
        assert [source["name"] for source in shown["sources"]] == list(running.gateway.sources)
        sources = {source["name"]: source for source in shown["sources"]}
        mando = sources["mando"]
        counts = [last(mando[name], 2) for name in ("accepted", "refused", "unavailable")]
        assert counts == [[3, 0], [1, 0], [0, 0]]
        assert 400 <= mando["rate_seconds"] <= 420
        assert mando["accepted_per_minute"] == pytest.approx(3 * 60 / mando["rate_seconds"], abs=0.01)
        assert (last(sources["hisab"]["accepted"], 2), sources["hisab"]["refused_per_minute"]) == ([0, 0], 0)
        (app,) = shown["destinations"]
        assert [last(app[name], 2) for name in ("delivered", "failed")] == [[2, 0], [2, 0]]
        assert {reason: last(counts, 2) for reason, counts in app["reasons"].items()} == {
            "server_error": [2, 0]
        }
        (before, now) = last(app["lag"], 2)
        assert before == 0
        assert now is not None
        assert 400 <= now <= 420

        assert [source["name"] for source in (await history(running, "?source=mando"))["sources"]] == [
            "mando"
        ]
        only = await history(running, "?destination=app")
        assert (only["sources"], [one["name"] for one in only["destinations"]]) == ([], ["app"])
        for query in ("?source=nope", "?destination=mando", "?since=1h", "?source=mando&source=hisab"):
            assert (await history(running, query, 400))["error"]["code"] == "bad_request"

        (tmp_path / "gateway.yaml").write_text(config.replace("hisab:", "hisab2:"))
        assert (await running.gateway.reload()).problems == ()
        body = providers.body(id="inv_1")
        assert (await running.send("hisab2", body, providers.hisab(body, at=clocks.wall())))[0] == 200
        sources = {source["name"]: source for source in (await history(running))["sources"]}
        assert list(sources) == list(running.gateway.sources)
        # It counts from the reload on, and not from the first time that somebody looks.
        assert last(sources["hisab2"]["accepted"], 1) == [1]
        assert sources["hisab2"]["accepted_per_minute"] is None
        assert last(sources["mando"]["accepted"], 2) == [3, 0]


async def test_samples_are_taken_at_each_full_minute_until_the_gateway_stops(
    run_gateway: RunGateway, destination: ScriptedDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks()
    clocks.ahead = 13.0
    async with run_gateway(
        CONFIG.format(url=destination.url), clock=clocks.wall, elapsed=clocks.elapsed
    ) as running:
        sampler = running.gateway._sampler
        assert sampler._next is not None
        due = sampler._next.when() - asyncio.get_running_loop().time()
        assert clocks.wall() + due == pytest.approx(TEN + 60, abs=0.5)

        monkeypatch.setattr(sampling, "EVERY", 0.02)
        sampler.start()
        clocks.ahead = 613.0
        async with asyncio.timeout(5):
            while sampler._history.until < TEN + 900:  # noqa: ASYNC110 - a timer sends no notifications
                await asyncio.sleep(0.01)
    assert sampler._next.cancelled()
