"""`gatehouse resume`."""

from __future__ import annotations

import click

from gatehouse.cli.options import config_option
from gatehouse.cli.records import json_option, operator_option
from gatehouse.cli.turning import destination_arguments, turn


@click.command("resume")
@destination_arguments
@json_option
@operator_option
@config_option
def command(destinations: tuple[str, ...], as_json: bool, operator: str | None, config: str | None) -> None:
    """Deliver to destinations again that were paused, first of all what waits."""
    turn(destinations, "resume", operator, config, as_json=as_json)
