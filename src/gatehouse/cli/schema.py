"""`gatehouse schema`."""

from __future__ import annotations

import click

# \b keeps click from folding the lines of a paragraph.
_HELP = """Print the JSON Schema of the config file, for editors and CI.

\b
  gatehouse schema > gateway.schema.json

Then put this line first in the config file:

\b
  # yaml-language-server: $schema=gateway.schema.json

The schema accepts every config that Gatehouse loads. gatehouse check finds more mistakes than the schema.
"""


@click.command("schema", help=_HELP)
def command() -> None:
    """Print the schema."""
    from gatehouse.reference.schema import text

    click.echo(text(), nl=False)
