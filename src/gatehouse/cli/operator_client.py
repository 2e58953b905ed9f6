"""Asking a running gateway over its operator API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from gatehouse import __version__
from gatehouse.cli.unanswered import unanswered
from gatehouse.config.addresses import Address
from gatehouse.config.secrets import SecretError, Secrets
from gatehouse.errors import ConfigError, GatewayError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.config.load import LoadedConfig

_TIMEOUT_SECONDS = 15.0
#: An event with the largest body, and what JSON makes of it, fits; memory does not grow beyond it.
_LONGEST_ANSWER = 256 * 1024 * 1024
#: Addresses that mean "every address of this machine", where a client can't connect everywhere.
_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104
_HINT = "is the gateway running? name its operator listener with --operator http://host:port"

#: Answers that are about one name or id.
_OF_WHAT_WAS_ASKED = (400, 404)
#: What to try after an answer that is no 2xx.
_HINTS = {
    401: "operator.token in the config has to be the running gateway's; if that is what changed, send SIGHUP",
    400: "the command's --help says what it takes",
    404: "it is kept for a time only: rejected requests in memory, events as store.keep_events says",
    429: "wait a minute, and look for what else sends a wrong token from here",
    503: "the gateway's log says what is wrong with its store; all that was asked for can be asked again",
}


class RefusedError(GatewayError):
    """The gateway answered, and refused: what was asked for can't be had, while something else may be."""


async def ask(loaded: LoadedConfig, path: str, url: str | None) -> Any:  # noqa: ANN401 - JSON
    """GET a path of the API. Without `url` it is asked where the config says. Raises `GatewayError`."""
    return await _request("GET", loaded, path, url)


async def post(
    loaded: LoadedConfig, path: str, url: str | None, change: Mapping[str, Any] | None = None
) -> Any:  # noqa: ANN401 - JSON
    """POST to a path of the API, otherwise as `ask`. Raises `ConfigError` when that is what it answers."""
    return await _request("POST", loaded, path, url, change)


async def _request(
    method: str,
    loaded: LoadedConfig,
    path: str,
    url: str | None,
    change: Mapping[str, Any] | None = None,
) -> Any:  # noqa: ANN401
    base = url or _address(loaded)
    headers = {"User-Agent": f"gatehouse/{__version__}"} | _authorization(loaded)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.request(
                method, f"{base.rstrip('/')}{path}", json=change, allow_redirects=False
            ) as response,
        ):
            status, body = response.status, await _body(response)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise unanswered(error, base, _TIMEOUT_SECONDS, _HINT) from error
    return _read(status, body, base)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) <= _LONGEST_ANSWER and (chunk := await response.content.readany()):
        body += chunk
    return body


def _read(status: int, body: bytes, base: str) -> Any:  # noqa: ANN401
    try:
        answer = msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise GatewayError(f"{base} is no operator listener of a gateway", hint=_HINT) from error
    if status == 200 and isinstance(answer, dict):  # noqa: PLR2004 - OK
        return answer
    if status == 200:  # noqa: PLR2004 - as above
        raise GatewayError(f"{base} is no operator listener of a gateway", hint=_HINT)
    refusal = answer.get("error", {}) if isinstance(answer, dict) else {}
    message = refusal.get("message")
    if problems := refusal.get("problems"):
        raise ConfigError(msgspec.convert(problems, list[Problem]))
    said = f"{base} answered {status}" + (f": {message}" if message else "")
    kind = RefusedError if status in _OF_WHAT_WAS_ASKED else GatewayError
    raise kind(said, hint=_HINTS.get(status, _HINT))


def _address(loaded: LoadedConfig) -> str:
    listen = loaded.config.operator.listen
    if listen.port == 0:
        raise GatewayError(
            "the config's operator listener takes any free port", hint="--operator http://host:port"
        )
    host = "127.0.0.1" if listen.host in _WILDCARDS else listen.host
    return f"http://{Address(host, listen.port)}"


def _authorization(loaded: LoadedConfig) -> dict[str, str]:
    token = loaded.config.operator.token
    if token is None:
        return {}
    try:
        secret = Secrets(loaded.directory).resolve(token)
    except SecretError as error:
        raise GatewayError(f"operator.token: {error}", hint="set it where this command runs") from error
    return {"Authorization": "Bearer " + secret.decode("utf-8", "surrogateescape")}
