"""`gatehouse serve`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import config_option, load_config

if TYPE_CHECKING:
    from gatehouse.gateway.app import Gateway
    from gatehouse.workers.supervisor import Supervisor
    from gatehouse.workers.worker import Worker

#: Seconds. A busy event loop gives Python's lock up often, and each time takes it back before the store's
#: thread has waited the default of 5 ms and may ask for it: under overload commits then stall for seconds.
_SWITCH_INTERVAL = 200e-6
#: Objects made before the young generation is looked through, and rounds before the older ones are. Hardly
#: anything here is cyclic garbage; at Python's defaults the slowest answers are those that meet a collection.
_GC_THRESHOLDS = (50_000, 20, 50)
#: More workers than that are a slip of the finger.
_MOST_WORKERS = 256


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
        return None if value == "auto" else click.IntRange(1, _MOST_WORKERS).convert(value, param, ctx)


@click.command("serve")
@config_option
@click.option("--strict", is_flag=True, help="Refuse to start when a source or destination lacks its secret.")
@click.option(
    "--workers",
    type=_Workers(),
    default="1",
    show_default=True,
    help="Processes that share the port and the store, which has to be PostgreSQL. auto: one per core.",
)
@click.option(
    "--log",
    "log_format",
    type=click.Choice(["auto", "json", "text"]),
    default="auto",
    show_default=True,
    help="How log lines look. auto: text on a terminal, JSON otherwise.",
)
@click.option("--worker", hidden=True, help="What the supervisor tells a worker.")
def command(
    config: str | None, strict: bool, workers: int | None, log_format: str, worker: str | None
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    # Until the gateway handles it, a reload would end the process: that is what the signal does by default.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from gatehouse.errors import GatewayError
    from gatehouse.telemetry import log
    from gatehouse.workers.worker import Worker

    place = Worker.of(worker) if worker else None
    as_json = {"auto": None, "json": True, "text": False}[log_format]
    log.configure(json=as_json, worker=place.number if place else None)
    serving = _gateway(place) if place else _gateway_or_supervisor(config, workers, log_format)
    missing = serving.not_ready()
    if strict and missing:
        raise GatewayError("; ".join(missing), hint="set these secrets, or start without --strict")
    _run(serving, place)


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
    import sys

    from gatehouse.gateway import app
    from gatehouse.network.event_loop import EventLoop

    async def run() -> None:
        stop = asyncio.Event()
        if worker is not None:
            from gatehouse.workers.worker import stop_with_supervisor

            stop_with_supervisor(stop)
        await app.run(serving, stop=stop)

    if isinstance(serving, app.Gateway):
        _arm()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(run())
    finally:
        if worker is not None:
            worker.clean_up()


def _arm() -> None:
    """Make this process end where a test of crashes wants it to; see gatehouse.gateway.failpoints."""
    import os

    failpoints = os.environ.get("GATEHOUSE_FAILPOINTS")
    if not failpoints:
        return
    from gatehouse.gateway.failpoints import arm
    from gatehouse.telemetry.log import get_logger

    arm(failpoints)
    get_logger().warning("gateway.failpoints", failpoints=failpoints)
