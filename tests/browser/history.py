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
from browser.traffic import send_duplicates, send_refused
from doubles.destination import ScriptedDestination, status
from gatehouse.config.load import load
from gatehouse.gateway.app import Gateway
from gatehouse.store.clock import elapsed
from gatehouse.telemetry import log

_MINUTES = 60.0
_HOURS = 3600.0
#: How many rounds of events arrive in each hour of the day: few at night, most in the evening.
_ROUNDS = (2, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 7, 6, 6, 7, 8, 9, 10, 11, 9, 7, 5, 3)
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
        self.behind = 24 * _HOURS

    def set_to(self, behind: float, gateway: Gateway) -> None:
        """Set the clocks to so many seconds before now. The lanes wait in real time, so they are woken."""
        self.behind = behind
        for lane in gateway._dispatcher._lanes.values():
            lane._leaser._wakeup.set()

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
                Providers(loaded, ENVIRONMENT, clock.wall),
                app,
                client,
            )
            await _live(deployment, partial(clock.set_to, gateway=gateway))
            yield deployment


async def _live(deployment: Deployment, set_clock: Callable[[float], None]) -> None:
    """Live through a day. The problems begin in its last hour, and a shorter one is long over."""
    broken, answers = dict(deployment.app.answers), deployment.app.answers
    healthy = {"/crm": status(200), "/search": status(200), "/ledger": status(200)}
    answers.update(healthy)
    for hour, rounds in enumerate(_ROUNDS):
        is_last = hour == len(_ROUNDS) - 1
        answers["/search"] = broken["/search"] if hour in (9, 10) else status(200)
        for number in range(rounds):
            set_clock((len(_ROUNDS) - hour) * _HOURS - (number + 0.5) / rounds * _HOURS)
            if is_last and number == rounds - 1:
                break
            await _send(deployment, number)
    set_clock(25 * _MINUTES)
    answers.update({"/ledger": broken["/ledger"]})
    await deployment.ask("POST", "/api/v1/destinations/warehouse/pause")
    await _send_problems(deployment)
    set_clock(3 * _MINUTES)
    answers.update({"/crm": broken["/crm"]})
    for _ in range(4):
        await deployment.accept(deployment.providers.request("shop", "customers/create"))
    await send_refused(deployment)
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
