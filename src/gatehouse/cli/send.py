"""The commands `sign` and `send`: make a request as a provider would, and print or send it."""

from __future__ import annotations

import json
import shlex
import sys
import time
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import config_option, load_source, source_argument
from gatehouse.cli.signed_request import request_options

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

    from gatehouse.cli.signed_request import RequestBuilder, RequestOptions, SignedRequest
    from gatehouse.ingest.source import Source

_TIMEOUT_SECONDS = 15.0
#: How much of an answer is read (bytes). The gateway's own answers are shorter.
_MAX_ANSWER = 4096
#: Linux limits one argument of a command to 128 KiB.
_MAX_ARGUMENT = 100_000

#: The hint for each status that is not 2xx.
_HINTS = {
    401: "run gatehouse verify --rejected ID, with the rejected_id in the gateway's log",
    404: "compare the URL with the paths that gatehouse check lists for the gateway's config",
    405: "pass the address of the gateway with --url http://host:port",
    413: "send a smaller body, or raise max_body in the config",
    503: "run gatehouse check where the gateway runs: a secret may be missing; the gateway's log says more",
}
_OTHER_HINT = "check that a gateway answers there, or pass its address with --url http://host:port"


@click.command("sign")
@source_argument
@request_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON: method, url, headers and body.")
@config_option
def sign(source: str, config: str | None, options: RequestOptions, as_json: bool) -> None:
    """Print a request of SOURCE as a curl command, signed as its provider signs.

    Anyone who has the command can send this one request. If the scheme signs the time, that works for a few
    minutes only.
    """
    from gatehouse.cli.signed_request import RequestBuilder

    compiled, loaded = load_source(config, source)
    builder = RequestBuilder(compiled, loaded.config.server.listen, options)
    request = builder.build()
    if as_json:
        _print_json(request)
        return
    click.echo(_curl(request, _data_option(request, builder, options)))


@click.command("send")
@source_argument
@request_options
@click.option(
    "--count",
    type=click.IntRange(1, 100_000),
    default=1,
    metavar="N",
    help="Send N requests, one after the other.",
)
@click.option("--duplicate", is_flag=True, help="Send each request twice, as a provider's retry does.")
@click.option("--list-types", is_flag=True, help="List the event types that have a sample, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one line for each answer.")
@config_option
def send(
    source: str,
    config: str | None,
    options: RequestOptions,
    *,
    count: int,
    duplicate: bool,
    list_types: bool,
    as_json: bool,
) -> None:
    """Sign a request of SOURCE as its provider signs, send it, and print the answer.

    Exits 0 if every answer is 2xx.
    """
    import asyncio

    from gatehouse.cli.signed_request import RequestBuilder

    compiled, loaded = load_source(config, source)
    if list_types:
        _list_types(compiled, as_json=as_json)
        return
    builder = RequestBuilder(compiled, loaded.config.server.listen, options)
    statuses = asyncio.run(_send_all(builder, count, times=2 if duplicate else 1, as_json=as_json))
    refused = [status for status in statuses if not 200 <= status <= 299]  # noqa: PLR2004
    if refused:
        click.echo(f"Error: {len(refused)} of {len(statuses)} answers are not 2xx", err=True)
        click.echo(f"Try: {_HINTS.get(refused[0], _OTHER_HINT)}", err=True)
        sys.exit(1)


def _list_types(source: Source, *, as_json: bool) -> None:
    from gatehouse.samples.typed import Samples

    types = Samples(source.settings).types()
    if as_json:
        click.echo(json.dumps({"types": types}, indent=2))
    else:
        click.echo("".join(f"{one}\n" for one in types), nl=False)


def _print_json(request: SignedRequest) -> None:
    import base64

    try:
        body = {"body": request.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(request.body).decode()}
    headers = [[name, value] for name, value in request.headers.items()]
    answer = {"method": request.method, "url": request.url, "headers": headers, **body}
    click.echo(json.dumps(answer, indent=2))


def _curl(request: SignedRequest, data: str) -> str:
    headers = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in request.headers.items()]
    curl = "curl" if request.method == "POST" else f"curl -X {request.method}"
    return " \\\n  ".join([curl, *headers, data, shlex.quote(request.url)])


def _data_option(request: SignedRequest, builder: RequestBuilder, options: RequestOptions) -> str:
    """Name the file if its bytes are the body; otherwise write the body out."""
    if options.body not in (None, "-") and request.body == builder.given_body:
        return f"--data-binary {shlex.quote(f'@{options.body}')}"
    return f"--data-raw {shlex.quote(_as_argument(request.body))}"


def _as_argument(body: bytes) -> str:
    from gatehouse.errors import GatewayError

    hint = "save the body in a file and pass it with --body FILE, without --type"
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise GatewayError("the body is not text and can't be part of a command", hint=hint) from error
    if "\0" in text or len(body) > _MAX_ARGUMENT:
        raise GatewayError("the body is too long for a command, or contains a NUL", hint=hint)
    return text


async def _send_all(builder: RequestBuilder, count: int, *, times: int, as_json: bool) -> list[int]:
    import aiohttp

    from gatehouse import __version__

    statuses: list[int] = []
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    agent = {"User-Agent": f"gatehouse-send/{__version__}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=agent) as session:
        for _ in range(count):
            request = builder.build()
            statuses += [await _send(session, request, as_json=as_json) for _ in range(times)]
    return statuses


async def _send(session: ClientSession, request: SignedRequest, *, as_json: bool) -> int:
    import aiohttp

    from gatehouse.cli.connection_errors import connection_error

    started = time.perf_counter()
    try:
        async with session.request(
            request.method, request.url, data=request.body, headers=request.headers, allow_redirects=False
        ) as response:
            answer = await _read(response)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        hint = "run gatehouse serve, or pass the gateway's address with --url http://host:port"
        raise connection_error(error, request.url, _TIMEOUT_SECONDS, hint) from error
    milliseconds = (time.perf_counter() - started) * 1000
    if as_json:
        click.echo(_as_json(response.status, answer, milliseconds))
    else:
        click.echo(f"{response.status}  {_one_line(answer)}  ({milliseconds:.1f} ms)")
    return response.status


async def _read(response: ClientResponse) -> bytes:
    """Read an answer, at most its beginning. Raises `ClientPayloadError` if the connection ends before it."""
    import asyncio

    try:
        return await response.content.readexactly(_MAX_ANSWER)
    except asyncio.IncompleteReadError as whole:
        return whole.partial


def _as_json(status: int, answer: bytes, milliseconds: float) -> str:
    try:
        document = json.loads(answer)
    except ValueError:
        document = answer.decode("utf-8", "replace")
    return json.dumps({"status": status, "answer": document, "duration_ms": round(milliseconds, 1)})


def _one_line(answer: bytes) -> str:
    """Make an answer one line without control characters, which a terminal would act on."""
    text = " ".join(answer.decode("utf-8", "replace").split()) or "(no body)"
    return "".join(character if character.isprintable() else "?" for character in text)
