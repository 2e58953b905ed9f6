"""`gatehouse send`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import config_option, load_source, source_argument
from gatehouse.cli.request_options import request_options

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from gatehouse.cli.request_options import Wanted
    from gatehouse.cli.signed_request import Maker, SignedRequest

_TIMEOUT_SECONDS = 15.0
#: More of an answer than this is no answer of a gateway.
_LONGEST_ANSWER = 4096

#: What to try after an answer that is no 2xx.
_HINTS = {
    401: "does the gateway use the same secret and the same time? gatehouse check -c FILE; date -u",
    404: "does the gateway run with this config? its paths are in gatehouse check",
    405: "name the address of the gateway with --url http://host:port",
    413: "a smaller body, or a larger max_body in the config",
    503: "gatehouse check on the gateway's side: a secret may be missing; its log says why",
}
_OTHER_HINT = "does a gateway answer there? name its address with --url http://host:port"


@click.command("send")
@source_argument
@request_options
@click.option(
    "--count", type=click.IntRange(1, 100_000), default=1, metavar="N", help="Send N of them, in turn."
)
@click.option("--duplicate", is_flag=True, help="Send each one twice, as a provider's retry does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one line for each answer.")
@config_option
def command(
    source: str, config: str | None, wanted: Wanted, count: int, duplicate: bool, as_json: bool
) -> None:
    """Sign a request of SOURCE as its provider signs, send it, and print the answer.

    Exits 0 when every answer is 2xx.
    """
    import asyncio

    from gatehouse.cli.signed_request import Maker

    found, loaded = load_source(config, source)
    maker = Maker(found, loaded.config.server.listen, wanted)
    statuses = asyncio.run(_send_all(maker, count, times=2 if duplicate else 1, as_json=as_json))
    refused = [status for status in statuses if not 200 <= status <= 299]  # noqa: PLR2004
    if refused:
        click.echo(f"Error: {len(refused)} of {len(statuses)} answers are not 2xx", err=True)
        click.echo(f"Try: {_HINTS.get(refused[0], _OTHER_HINT)}", err=True)
        sys.exit(1)


async def _send_all(maker: Maker, count: int, *, times: int, as_json: bool) -> list[int]:
    import aiohttp

    from gatehouse import __version__

    statuses: list[int] = []
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    agent = {"User-Agent": f"gatehouse-send/{__version__}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=agent) as session:
        for _ in range(count):
            request = maker.make()
            statuses += [await _send(session, request, as_json=as_json) for _ in range(times)]
    return statuses


async def _send(session: ClientSession, request: SignedRequest, *, as_json: bool) -> int:
    import aiohttp

    from gatehouse.cli.unanswered import unanswered

    started = time.perf_counter()
    try:
        async with session.post(
            request.url, data=request.body, headers=request.headers, allow_redirects=False
        ) as response:
            answer = await response.content.read(_LONGEST_ANSWER)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        hint = "gatehouse serve, or the gateway's address with --url http://host:port"
        raise unanswered(error, request.url, _TIMEOUT_SECONDS, hint) from error
    milliseconds = (time.perf_counter() - started) * 1000
    if as_json:
        click.echo(_as_json(response.status, answer, milliseconds))
    else:
        click.echo(f"{response.status}  {_shown(answer)}  ({milliseconds:.1f} ms)")
    return response.status


def _as_json(status: int, answer: bytes, milliseconds: float) -> str:
    import json

    try:
        said = json.loads(answer)
    except ValueError:
        said = answer.decode("utf-8", "replace")
    return json.dumps({"status": status, "answer": said, "duration_ms": round(milliseconds, 1)})


def _shown(answer: bytes) -> str:
    """Make an answer one line that can do nothing to a terminal."""
    text = " ".join(answer.decode("utf-8", "replace").split()) or "(no body)"
    return "".join(character if character.isprintable() else "?" for character in text)
