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
@click.option("--openapi", is_flag=True, help="Print the operator API instead, as OpenAPI 3.1.")
def command(openapi: bool) -> None:
    """Print the schema, or the OpenAPI document."""
    if openapi:
        from gatehouse.reference.openapi import text
    else:
        from gatehouse.reference.schema import text

    click.echo(text(), nl=False)
