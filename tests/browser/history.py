"""A day in the life of a deployment, lived within seconds: for pictures of the operator page."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp

from browser.deployment import CONFIG, ENVIRONMENT, App, Deployment
from browser.providers import Providers
from browser.traffic import refused_requests, send_duplicates
from doubles.destination import ScriptedDestination, status
from gatehouse.config.load import load
from gatehouse.gateway.app import Gateway
from gatehouse.store.clock import elapsed
from gatehouse.telemetry import log

_MINUTES = 60.0
_DAY = 24 * 60 * _MINUTES
#: As long as a bar of a chart.
_STEP = 5 * _MINUTES
_STEPS_PER_HOUR = 12
#: How many rounds of events arrive in each hour of the day: few at night, most in the evening.
_ROUNDS = (2, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 7, 6, 6, 7, 8, 9, 10, 11, 9, 7, 5, 3)
#: The hours of the day in which search was too slow, and in which billing was deployed.
_SLOW, _DEPLOYED = (9, 10), (16,)
#: How long ago the problems began that an operator sees (seconds).
_BEGIN = 25 * _MINUTES
_ROUND = (
    ("shop", "orders/create"),
    ("payments", "payment_intent.succeeded"),
    ("shop", "orders/paid"),
    ("payments", "charge.succeeded"),
    ("repos", "push"),
    ("shop", "customers/create"),
    ("shop", "products/update"),
    ("payments", "invoice.paid"),
    ("repos", "pull_request.opened"),
    ("shop", "orders/fulfilled"),
)


class Clock:
    """The clocks of a gateway that lives in the past until they are set to now."""

    def __init__(self) -> None:
        self.behind = _DAY

    def set_to(self, behind: float, gateway: Gateway) -> None:
        """Set the clocks to so many seconds before now. The lanes wait in real time, so they are woken."""
        self.behind = behind
        for lane in gateway._dispatcher._lanes.values():
            lane._leaser._wakeup.set()
        gateway._sampler.sample()

    def wall(self) -> float:
        """Return Unix time."""
        return time.time() - self.behind

    def elapsed(self) -> float:
        """Return monotonic seconds."""
        return elapsed() - self.behind


@asynccontextmanager
async def running_with_history(folder: Path) -> AsyncIterator[Deployment]:
    """Run a gateway that has served for a day, and has some problems now."""
    clock, file = Clock(), folder / "gateway.yaml"
    log.configure(json=True, stream=(folder / "gatehouse.log").open("w"))
    async with ScriptedDestination() as server, aiohttp.ClientSession() as client:
        app = App(server)
        file.write_text(CONFIG.format(app=app.url))
        loaded = load(file)
        async with Gateway(
            loaded, environment=os.environ | ENVIRONMENT, clock=clock.wall, elapsed=clock.elapsed
        ) as gateway:
            deployment = Deployment(
                f"http://127.0.0.1:{gateway.ingest.port}",
                f"http://127.0.0.1:{gateway.operator.port}",
                file,
                Providers(loaded, ENVIRONMENT, clock.wall),
                app,
                client,
            )
            await _live(deployment, partial(clock.set_to, gateway=gateway))
            yield deployment


async def _live(deployment: Deployment, set_clock: Callable[[float], None]) -> None:
    """Live through a day. Most problems begin in its last hour, and one of the morning is long over."""
    broken, answers = dict(deployment.app.answers), deployment.app.answers
    answers.update({"/crm": status(200), "/search": status(200), "/ledger": status(200)})
    for step in range(int(_DAY / _STEP)):
        set_clock(_DAY - step * _STEP)
        hour, position = divmod(step, _STEPS_PER_HOUR)
        answers["/search"] = broken["/search"] if hour in _SLOW else status(200)
        answers["/billing"] = broken["/billing"] if hour in _DEPLOYED else status(200)
        if _DAY - step * _STEP == _BEGIN:
            answers["/ledger"] = broken["/ledger"]
            await deployment.ask("POST", "/api/v1/destinations/warehouse/pause")
            await _send_problems(deployment)
        rounds = _ROUNDS[hour]
        for number in range(position * rounds // _STEPS_PER_HOUR, (position + 1) * rounds // _STEPS_PER_HOUR):
            await _send(deployment, number)
    set_clock(3 * _MINUTES)
    answers["/crm"] = broken["/crm"]
    for _ in range(4):
        await deployment.accept(deployment.providers.request("shop", "customers/create"))
    for request in list(refused_requests(deployment).values())[-2:]:
        await deployment.send(request)
    await deployment.settle()
    set_clock(0.0)
    await _send(deployment, 1)
    await send_duplicates(deployment)


async def _send(deployment: Deployment, number: int) -> None:
    """Send a round of events; another part of them each time."""
    for position, event in enumerate(_ROUND):
        if (position + number) % 3:
            await deployment.accept(deployment.providers.request(*event))
    await _until_idle(deployment)


async def _send_problems(deployment: Deployment) -> None:
    """Send events that ledger refuses."""
    for event_type in ("invoice.payment_failed", "charge.refunded", "payment_intent.payment_failed"):
        for _ in range(3):
            await deployment.accept(deployment.providers.request("payments", event_type))
    for _ in range(5):
        await deployment.accept(deployment.providers.request("shop", "orders/create"))


async def _until_idle(deployment: Deployment) -> None:
    """Wait until nothing is pending where deliveries can leave: the clock must not jump while one is sent."""

    async def is_idle() -> bool:
        found = (await deployment.read("destinations"))["destinations"]
        return not any(one["pending"] for one in found if not one["paused"] and one["breaker"] == "closed")

    await deployment.until(is_idle)
