"""The commands `serve` and `demo`: run a gateway in this process."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import config_option, load_config

if TYPE_CHECKING:
    from gatehouse.gateway.app import Gateway
    from gatehouse.workers.supervisor import Supervisor
    from gatehouse.workers.worker import Worker

#: Seconds. A busy event loop releases Python's lock often, and takes it back each time before the store's
#: thread has waited the default of 5 ms after which it may request the lock: under overload, commits then
#: stall for seconds.
_SWITCH_INTERVAL = 200e-6
#: The number of new objects before the youngest generation is collected, and the number of collections before
#: the older ones are. The gateway makes hardly any cyclic garbage; at Python's defaults the slowest answers
#: are those during a collection.
_GC_THRESHOLDS = (50_000, 20, 50)
#: A larger number is probably a typing mistake.
_MAX_WORKERS = 256
_PORT = click.IntRange(0, 65535)


class _Workers(click.ParamType["int | None"]):
    """A number, or `auto`, which is None."""

    name = "workers"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        return "N|auto"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's own
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int | None:
        return None if value == "auto" else click.IntRange(1, _MAX_WORKERS).convert(value, param, ctx)


@click.command("serve")
@config_option
@click.option("--strict", is_flag=True, help="Refuse to start if a source or destination lacks its secret.")
@click.option(
    "--workers",
    type=_Workers(),
    default="1",
    show_default=True,
    help="Number of processes. They share the port and the store, which must be PostgreSQL."
    " auto: one per core.",
)
@click.option(
    "--log",
    "log_format",
    type=click.Choice(["auto", "json", "text"]),
    default="auto",
    show_default=True,
    help="Format of log lines. auto: text on a terminal, JSON otherwise.",
)
@click.option("--worker", hidden=True, help="What the supervisor passes to a worker.")
def serve(config: str | None, strict: bool, workers: int | None, log_format: str, worker: str | None) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    # By default SIGHUP ends the process: ignore it until the gateway handles it as a reload.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from gatehouse.network.authorities import import_aiohttp

    import_aiohttp()
    from gatehouse.errors import GatewayError
    from gatehouse.telemetry import log
    from gatehouse.workers.worker import Worker

    this_worker = Worker.from_argument(worker) if worker else None
    as_json = {"auto": None, "json": True, "text": False}[log_format]
    log.configure(json=as_json, worker=this_worker.number if this_worker else None)
    serving = _gateway(this_worker) if this_worker else _gateway_or_supervisor(config, workers, log_format)
    missing = serving.not_ready()
    if strict and missing:
        raise GatewayError("; ".join(missing), hint="set these secrets, or start without --strict")
    _run(serving, this_worker)


@click.command("demo")
@click.option(
    "--once/--stay",
    default=None,
    help="Exit after the results (0 if all are as expected, else 1), or run until Ctrl-C."
    "  [default: --stay on a terminal, else --once]",
)
@click.option("--port", type=_PORT, metavar="N", help="Port for providers.  [default: 8080, or a free one]")
@click.option(
    "--operator-port", type=_PORT, metavar="N", help="Port for operators.  [default: 9090, or a free one]"
)
@click.option("--no-color", is_flag=True, help="Print plain text.  [env: NO_COLOR]")
def demo(once: bool | None, port: int | None, operator_port: int | None, no_color: bool) -> None:
    """Run a real gateway with a sample app, and show how it handles good and bad requests.

    Five providers send their documented examples, signed as each of them signs. Everything runs on this
    machine, in a temporary directory with new secrets. The directory is removed at the end.
    """
    import asyncio

    import uvloop

    from gatehouse.demo.run import Options, run
    from gatehouse.demo.screen import Screen

    ends = not sys.stdout.isatty() if once is None else once
    options = Options(
        once=ends,
        hint=ends and once is None,
        server_port=port,
        operator_port=operator_port,
        program=_program(),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        as_expected = runner.run(run(options, Screen(color=not no_color)))
    sys.exit(0 if as_expected else 1)


def _gateway(worker: Worker) -> Gateway:
    from gatehouse.gateway.app import Gateway

    return Gateway(worker.load_initial(), worker=worker)


def _gateway_or_supervisor(config: str | None, workers: int | None, log_format: str) -> Gateway | Supervisor:
    loaded = load_config(config)
    if workers != 1:
        from gatehouse.workers.supervisor import Supervisor, worker_count

        number = worker_count(workers, loaded)
        if number > 1:
            return Supervisor(loaded, number, options=["--log", log_format])
    from gatehouse.gateway.app import Gateway

    return Gateway(loaded)


def _run(serving: Gateway | Supervisor, worker: Worker | None) -> None:
    import asyncio
    import gc

    from gatehouse.gateway import running
    from gatehouse.gateway.app import Gateway
    from gatehouse.network.event_loop import EventLoop

    async def run() -> None:
        stop = asyncio.Event()
        if worker is not None:
            from gatehouse.workers.worker import stop_with_supervisor

            stop_with_supervisor(stop)
        await running.run(serving, stop=stop)

    if isinstance(serving, Gateway):
        _arm_failpoints()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(run())
    finally:
        if worker is not None:
            worker.clean_up()


def _arm_failpoints() -> None:
    """Arm the failpoints that a crash test names, see gatehouse.gateway.failpoints."""
    failpoints = os.environ.get("GATEHOUSE_FAILPOINTS")
    if not failpoints:
        return
    from gatehouse.gateway.failpoints import arm
    from gatehouse.telemetry.log import get_logger

    arm(failpoints)
    get_logger().warning("gateway.failpoints", failpoints=failpoints)


def _program() -> str:
    """Return how this program was called, so that suggested commands work when they are pasted."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m gatehouse"
    found = shutil.which("gatehouse")
    if found and called.exists() and Path(found).samefile(called):
        return "gatehouse"
    return shlex.quote(os.path.relpath(called))
