"""`gatehouse serve`."""

from __future__ import annotations

import click

from gatehouse.cli.options import config_option, load_config

#: Seconds. A busy event loop gives Python's lock up often, and each time takes it back before the store's
#: thread has waited the default of 5 ms and may ask for it: under overload commits then stall for seconds.
_SWITCH_INTERVAL = 20e-6
#: Objects made before the young generation is looked through, and rounds before the older ones are. Hardly
#: anything here is cyclic garbage; at Python's defaults the slowest answers are those that meet a collection.
_GC_THRESHOLDS = (50_000, 20, 50)


@click.command("serve")
@config_option
@click.option("--strict", is_flag=True, help="Refuse to start when a source or destination lacks its secret.")
@click.option(
    "--log",
    "log_format",
    type=click.Choice(["auto", "json", "text"]),
    default="auto",
    show_default=True,
    help="How log lines look. auto: text on a terminal, JSON otherwise.",
)
def command(config: str | None, strict: bool, log_format: str) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    import asyncio
    import gc
    import os
    import sys

    import uvloop

    from gatehouse import app, log
    from gatehouse.errors import GatewayError

    log.configure(json={"auto": None, "json": True, "text": False}[log_format])
    if failpoints := os.environ.get("GATEHOUSE_FAILPOINTS"):
        _arm(failpoints)
    gateway = app.Gateway(load_config(config))
    missing = gateway.not_ready()
    if strict and missing:
        raise GatewayError("; ".join(missing), hint="set these secrets, or start without --strict")
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(app.run(gateway))


def _arm(failpoints: str) -> None:
    """Make this process end where a test of crashes wants it to; see gatehouse.failpoints."""
    from gatehouse.failpoints import arm
    from gatehouse.log import get_logger

    arm(failpoints)
    get_logger().warning("gateway.failpoints", failpoints=failpoints)
