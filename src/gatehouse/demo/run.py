"""Starts the app and the gateway, sends the requests, and then exits or waits for Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import select
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
from gatehouse.demo.cases import CaseRunner, Results
from gatehouse.demo.trouble import TroubleMaker
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
#: Seconds between two looks at whether the terminal is still there.
_HANG_UP_INTERVAL = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command."""

    once: bool
    #: Whether nobody asked for `once`, so that the demo says how to keep it running.
    hint: bool
    server_port: int | None
    operator_port: int | None
    #: How this program was called, for commands to paste.
    program: str


@dataclass(frozen=True, slots=True)
class _Running:
    """Everything that runs, and its addresses."""

    workspace: Workspace
    app: App
    gateway: Gateway
    session: aiohttp.ClientSession
    server: str
    operator: str


async def run(options: Options, screen: Screen) -> bool:
    """Run the demo. Returns whether all results were as expected, up to Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _start(options) as running:
        screen.show_introduction()
        results = await _unless_stopped(stop, _send_requests(running, screen))
        if results is None:
            as_expected = not options.once
        else:
            screen.show_results(results)
            as_expected = not results.differences
            if not options.once:
                as_expected &= await _stay(running, options, screen, stop)
    if _has_hung_up():
        return as_expected
    if stop.is_set():
        screen.show_end(running.workspace)
    elif options.hint:
        screen.show_hint(options.program)
    return as_expected


@contextlib.asynccontextmanager
async def _start(options: Options) -> AsyncIterator[_Running]:
    """Start the app, then the gateway. Afterwards stop them in reverse order, and remove the files."""
    async with contextlib.AsyncExitStack() as stack:
        workspace = Workspace(
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-demo-")))
        )
        lines = stack.enter_context(workspace.log.open("w", buffering=1, encoding="utf-8"))
        log.configure(json=True, stream=lines)
        # This runs before the log file is closed.
        stack.callback(log.reset)
        secret = new_app_secret()
        app = await stack.enter_async_context(App(secret).serve())
        server_port = choose_port(options.server_port, SERVER_PORT)
        operator_port = choose_port(options.operator_port, OPERATOR_PORT)
        workspace.write(
            server_port=server_port, operator_port=operator_port, app_url=app.url, app_secret=secret
        )
        gateway = await stack.enter_async_context(Gateway(load(workspace.config)))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
                headers={"User-Agent": f"gatehouse-demo/{__version__}"},
            )
        )
        server, operator = f"http://{HOST}:{server_port}", f"http://{HOST}:{operator_port}"
        yield _Running(workspace, app, gateway, session, server, operator)


async def _send_requests(running: _Running, screen: Screen) -> Results:
    runner = CaseRunner(running.session, running.app, running.server, running.operator)
    with screen.progress() as show:
        return await runner.run(list(running.gateway.sources.values()), show)


async def _stay(running: _Running, options: Options, screen: Screen, stop: asyncio.Event) -> bool:
    """Keep running, with an operator page worth looking at, and show what the app receives.

    Returns whether the page shows what it should, up to Ctrl-C.
    """
    maker = TroubleMaker(
        running.session, running.app, running.gateway.sources, running.server, running.operator
    )
    trouble = await _unless_stopped(stop, maker.run())
    if trouble is None:
        return True
    screen.show_addresses(running.server, running.operator, running.app.url, running.workspace)
    screen.show_commands(options.program, running.operator, running.workspace)
    screen.show_page(running.operator, trouble)
    running.app.on_received = screen.show_received
    await _until_stopped(stop)
    return not trouble.differences


async def _until_stopped(stop: asyncio.Event) -> None:
    """Wait for a signal, or until the terminal is closed.

    No signal tells about the latter if `make demo` is the only program of the terminal.
    """
    while not stop.is_set() and not _has_hung_up():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _HANG_UP_INTERVAL)


def _has_hung_up() -> bool:
    """Return whether the output goes to a terminal that is closed."""
    output = select.poll()
    output.register(1, 0)
    return any(state & select.POLLHUP for _, state in output.poll(0))


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """Wait for work, or cancel it and return None when `stop` is set."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.wait({working})
    return None
