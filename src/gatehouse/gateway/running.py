"""Runs a gateway, or the supervisor of several, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gatehouse.operator.reload_result import ReloadResult


class Service(Protocol):
    """What `run` can run: a gateway, or the supervisor of several."""

    async def reload(self) -> ReloadResult:
        """Reload the config file."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> None: ...


async def run(gateway: Service, *, stop: asyncio.Event | None = None) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. A second signal ends the process at once. SIGHUP reloads."""
    stop = stop or asyncio.Event()
    hangup = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    async with gateway:
        reloading = asyncio.create_task(_reload_on(hangup, gateway), name="reload on SIGHUP")
        await stop.wait()
        reloading.cancel()


async def _reload_on(hangup: asyncio.Event, gateway: Service) -> None:
    """Reload after each SIGHUP. Signals during a reload lead to one more reload."""
    while True:
        await hangup.wait()
        hangup.clear()
        await gateway.reload()
