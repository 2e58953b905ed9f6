"""Calls the operator API of a running gateway.

It uses only the standard library, so that a command starts quickly.
"""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from gatehouse import __version__
from gatehouse.cli.output import visible
from gatehouse.errors import ConfigError, GatewayError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gatehouse.cli.access import Access

#: Seconds.
TIMEOUT = 15.0
#: The largest answer in bytes. An event with the largest body fits, in JSON; memory does not grow beyond it.
_MAX_ANSWER = 256 * 1024 * 1024
HINT = "start the gateway, or pass the URL of its operator listener with --operator http://host:port"

#: Statuses that concern one name or id only: others in the same command may succeed.
_CONCERNS_ONE_ID = (400, 404)
#: The hint for each status that is not 2xx.
_HINTS = {
    400: "see the command's --help for the values that it takes",
    401: "use the running gateway's operator.token; if you changed it in the config, send the gateway SIGHUP",
    403: "set a token with the role operate where this command runs",
    404: "check the ID and the URL; gatehouse events and gatehouse dead list the IDs of this gateway",
    409: "wait until one of them is done, or stop one: GET /api/v1/replays and /api/v1/retries list them",
    429: "wait a minute, and find out what else sends wrong tokens from this address",
    503: "look for the store's error in the gateway's log, then run the command again",
}
_OK, _ACCEPTED = 200, 202


class RefusedError(GatewayError):
    """The gateway refused a request for one name or id. Requests for others may succeed."""


def fetch(access: Access, path: str, *, within: float = TIMEOUT) -> dict[str, Any]:
    """GET a path of the API. Raises `GatewayError`. `within` is for each step of the request, in seconds."""
    return _request("GET", access, path, within=within)


def change(
    method: str,
    access: Access,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    within: float = TIMEOUT,
) -> dict[str, Any]:
    """POST to a path of the API, or DELETE it. Raises `ConfigError` if the answer lists config problems."""
    return _request(method, access, path, body, within=within)


def for_each(names: Iterable[str], call: Callable[[str], None]) -> None:
    """Make a call for each name, and show the refusals. Exits 1 at the end if there were any."""
    from gatehouse.cli import show_error

    refused = 0
    for name in dict.fromkeys(names):
        try:
            call(name)
        except RefusedError as error:
            error.message = f"{visible(name)}: {error.message}"
            show_error(error)
            refused += 1
    if refused:
        sys.exit(1)


def with_query(path: str, **query: str | int | None) -> str:
    """Add a query to a path of the API, without the parameters that are None."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, safe='*:,')}" if given else path


def open_request(
    method: str,
    access: Access,
    path: str,
    body: bytes | None = None,
    *,
    within: float = TIMEOUT,
    headers: Mapping[str, str] | None = None,
) -> tuple[HTTPConnection, HTTPResponse]:
    """Send a request, and return its connection and the answer without its body.

    The caller closes the connection. Raises `GatewayError` if there is no answer.
    """
    sent = {"User-Agent": f"gatehouse/{__version__}"} | dict(headers or {})
    if access.token is not None:
        sent["Authorization"] = b"Bearer " + access.token.encode("utf-8", "surrogateescape")  # type: ignore[assignment]
    if body is not None:
        sent["Content-Type"] = "application/json"
    connection: HTTPConnection | None = None
    try:
        connection, prefix = _connection(access.url, within)
        connection.request(method, prefix + path, body, sent)
        return connection, connection.getresponse()
    except (HTTPException, OSError, ValueError) as error:
        if connection is not None:
            connection.close()
        raise no_answer(error, access) from error


def no_answer(error: Exception, access: Access) -> GatewayError:
    """Make the error for a request that got no answer."""
    from gatehouse.cli.connection_errors import connection_error

    return connection_error(error, access.url, TIMEOUT, HINT)


def _connection(url: str, within: float) -> tuple[HTTPConnection, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not a URL")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, parts.port, timeout=within), parts.path.rstrip("/")


def _request(
    method: str,
    access: Access,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    within: float = TIMEOUT,
) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    connection, response = open_request(method, access, path, data, within=within)
    try:
        answer = response.read(_MAX_ANSWER + 1)
        if response.length and len(answer) <= _MAX_ANSWER:
            raise IncompleteRead(b"")
    except (HTTPException, OSError) as error:
        raise no_answer(error, access) from error
    finally:
        connection.close()
    return parse_answer(response.status, answer, access.url)


def parse_answer(status: int, body: bytes, base: str) -> dict[str, Any]:
    """Return the JSON of an answer. Raises `GatewayError` for a status that is not 200 or 202."""
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise _other_server(base) from error
    if status in (_OK, _ACCEPTED) and isinstance(answer, dict):
        return answer
    if status in (_OK, _ACCEPTED):
        raise _other_server(base)
    details = answer.get("error", {}) if isinstance(answer, dict) else {}
    if problems := details.get("problems"):
        raise ConfigError([Problem(**problem) for problem in problems])
    message = details.get("message")
    hint = _HINTS.get(status, HINT)
    if status in _CONCERNS_ONE_ID:
        raise RefusedError(f"{message or 'refused'} ({base} answered {status})", hint=hint)
    raise GatewayError(f"{base} answered {status}" + (f": {message}" if message else ""), hint=hint)


def _other_server(base: str) -> GatewayError:
    return GatewayError(f"{base} is not the operator listener of a gateway", hint=HINT)
