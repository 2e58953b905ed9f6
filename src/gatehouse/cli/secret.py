"""The command `secret` with `new`: makes secrets for the config."""

from __future__ import annotations

import json

import click


@click.group("secret")
def secret() -> None:
    """Make a secret."""


@secret.command("new")
@click.option(
    "--bytes",
    "size",
    type=click.IntRange(24, 64),
    metavar="N",
    default=32,
    show_default=True,
    help="The number of random bytes, from 24 to 64.",
)
@click.option(
    "--prefix",
    default="whsec_",
    show_default=True,
    metavar="TEXT",
    help="What is in front of the base64 text; empty for a token.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new(size: int, prefix: str, as_json: bool) -> None:
    """Print a new random secret in the form of Standard Webhooks, and on stderr how to use it.

    The secret is on stdout alone, so that it can go to a file:

    gatehouse secret new > /run/secrets/billing
    """
    import base64
    import secrets

    made = prefix + base64.b64encode(secrets.token_bytes(size)).decode()
    if as_json:
        click.echo(json.dumps({"secret": made}))
        return
    click.echo(made)
    for line in _USE:
        click.echo(line, err=True)


_USE = (
    "Put it into a file or an environment variable, never into gateway.yaml, and name it there:",
    "  destinations: {billing: {url: …, secret: file:/run/secrets/billing}}   signs what the app receives",
    "  sources: {shop: {…, secrets: [file:/run/secrets/shop]}}                verifies what a sender signs",
    "Then run gatehouse reload. A new environment variable needs a restart.",
)
