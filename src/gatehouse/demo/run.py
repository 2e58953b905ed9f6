"""The order of things: a workspace, an app, the gateway; then the cases; then wait for Ctrl-C, or don't."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import aiohttp

from gatehouse import __version__
from gatehouse.config.load import load
from gatehouse.demo.app import App
from gatehouse.demo.play import Played, Player
from gatehouse.demo.workspace import HOST, Workspace, choose_port, new_app_secret
from gatehouse.gateway.app import Gateway
from gatehouse.telemetry import log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gatehouse.demo.screen import Screen

T = TypeVar("T")

SERVER_PORT = 8080
OPERATOR_PORT = 9090
_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    once: bool
    server_port: int | None
    operator_port: int | None
    #: How this program was called, for commands to paste.
    program: str


@dataclass(frozen=True, slots=True)
class _Stage:
    """Everything that runs, and where."""

    workspace: Workspace
    app: App
    gateway: Gateway
    session: aiohttp.ClientSession
    server: str
    operator: str


async def run(options: Options, screen: Screen) -> bool:
    """Run the demo; tell whether all was as it should be, as far as it got before Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _stage(options) as stage:
        screen.introduce()
        played = await _unless(stop, _play(stage, screen))
        if played is not None:
            screen.conclude(played)
            if not options.once:
                await _stay(stage, options, screen, stop)
    if stop.is_set():
        screen.farewell(stage.workspace)
    if played is None:
        return not options.once
    return not played.differences


@contextlib.asynccontextmanager
async def _stage(options: Options) -> AsyncIterator[_Stage]:
    """Start the app, then the gateway in front of it; stop and remove everything, in reverse."""
    async with contextlib.AsyncExitStack() as running:
        workspace = Workspace(
            Path(running.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-demo-")))
        )
        lines = running.enter_context(workspace.log.open("w", buffering=1, encoding="utf-8"))
        log.configure(json=True, stream=lines)
        # Before its file is closed.
        running.callback(log.reset)
        secret = new_app_secret()
        app = await running.enter_async_context(App(secret).serve())
        server_port = choose_port(options.server_port, SERVER_PORT)
        operator_port = choose_port(options.operator_port, OPERATOR_PORT)
        workspace.write(
            server_port=server_port, operator_port=operator_port, app_url=app.url, app_secret=secret
        )
        gateway = await running.enter_async_context(Gateway(load(workspace.config)))
        session = await running.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
                headers={"User-Agent": f"gatehouse-demo/{__version__}"},
            )
        )
        server, operator = f"http://{HOST}:{server_port}", f"http://{HOST}:{operator_port}"
        yield _Stage(workspace, app, gateway, session, server, operator)


async def _play(stage: _Stage, screen: Screen) -> Played:
    player = Player(stage.session, stage.app, stage.server, stage.operator)
    with screen.progress() as show:
        return await player.play(list(stage.gateway.sources.values()), show)


async def _stay(stage: _Stage, options: Options, screen: Screen, stop: asyncio.Event) -> None:
    """Leave it running, and show what others send."""
    screen.addresses(stage.server, stage.operator, stage.app.url, stage.workspace)
    screen.suggest(options.program, stage.operator, stage.workspace)
    stage.app.on_arrival = screen.arrival
    await stop.wait()


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """Wait for work, or give it up when it is time to stop."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.wait({working})
    return None
