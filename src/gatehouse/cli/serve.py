"""`gatehouse serve`."""

from __future__ import annotations

import click

from gatehouse.cli.options import config_option, load_config


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

    import uvloop

    from gatehouse import app, log
    from gatehouse.errors import GatewayError

    log.configure(json={"auto": None, "json": True, "text": False}[log_format])
    gateway = app.Gateway(load_config(config))
    missing = gateway.not_ready()
    if strict and missing:
        raise GatewayError("; ".join(missing), hint="set these secrets, or start without --strict")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(app.run(gateway))
