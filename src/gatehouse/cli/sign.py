"""`gatehouse sign`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import config_option, load_source, source_argument
from gatehouse.cli.request_options import request_options

if TYPE_CHECKING:
    from gatehouse.cli.request_options import Wanted
    from gatehouse.cli.signed_request import Maker, SignedRequest

#: Linux takes no longer argument than 128 KiB.
_LONGEST_ARGUMENT = 100_000


@click.command("sign")
@source_argument
@request_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON: method, url, headers and body.")
@config_option
def command(source: str, config: str | None, wanted: Wanted, as_json: bool) -> None:
    """Print a request of SOURCE, signed as its provider signs, as a curl command.

    Whoever has the command can send this one request: for schemes that sign the time, for some minutes.
    """
    from gatehouse.cli.signed_request import Maker

    found, loaded = load_source(config, source)
    maker = Maker(found, loaded.config.server.listen, wanted)
    request = maker.make()
    if as_json:
        _print_json(request)
        return
    click.echo(_curl(request, _data(request, maker, wanted)))


def _print_json(request: SignedRequest) -> None:
    import base64
    import json

    try:
        body = {"body": request.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(request.body).decode()}
    headers = [[name, value] for name, value in request.headers.items()]
    answer = {"method": "POST", "url": request.url, "headers": headers, **body}
    click.echo(json.dumps(answer, indent=2))


def _curl(request: SignedRequest, data: str) -> str:
    headers = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in request.headers.items()]
    return " \\\n  ".join(["curl", *headers, data, shlex.quote(request.url)])


def _data(request: SignedRequest, maker: Maker, wanted: Wanted) -> str:
    """Name the file when its bytes are the body; else write the body out, byte for byte."""
    if wanted.body not in (None, "-") and request.body == maker.given:
        return f"--data-binary {shlex.quote(f'@{wanted.body}')}"
    return f"--data-raw {shlex.quote(_text(request.body))}"


def _text(body: bytes) -> str:
    from gatehouse.errors import GatewayError

    hint = "save the body in a file and name it with --body FILE, without --type"
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise GatewayError("the body is not text, so it can't stand in a command", hint=hint) from error
    if "\0" in text or len(body) > _LONGEST_ARGUMENT:
        raise GatewayError("the body is too long or has a NUL, so it can't stand in a command", hint=hint)
    return text
