"""Calls the operator API of a running gateway, and explains why a request got no answer."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec

from gatehouse import __version__
from gatehouse.cli.output import visible
from gatehouse.config.addresses import Address
from gatehouse.config.hints import escaped
from gatehouse.config.secrets import SecretError, Secrets
from gatehouse.errors import ConfigError, GatewayError, Problem
from gatehouse.network.sockets import client_host
from gatehouse.operator.tokens import configured_tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from gatehouse.config.load import LoadedConfig

_TIMEOUT_SECONDS = 15.0
#: The largest answer in bytes. An event with the largest body fits, in JSON; memory does not grow beyond it.
_MAX_ANSWER = 256 * 1024 * 1024
_HINT = "start the gateway, or pass the URL of its operator listener with --operator http://host:port"

#: Statuses that concern one name or id only: others in the same command may succeed.
_CONCERNS_ONE_ID = (400, 404)
#: The hint for each status that is not 2xx.
_HINTS = {
    400: "see the command's --help for the values that it takes",
    401: "use the running gateway's operator.token; if you changed it in the config, send the gateway SIGHUP",
    403: "set a token with the role operate where this command runs",
    404: "check the ID and the URL; gatehouse events and gatehouse dead list the IDs of this gateway",
    429: "wait a minute, and find out what else sends wrong tokens from this address",
    503: "look for the store's error in the gateway's log, then run the command again",
}

#: OpenSSL's codes (X509_V_ERR_…) for certificates that no trusted authority has signed.
_UNTRUSTED = (18, 19, 20, 21)
_EXPIRED = (9, 10)
_OTHER_NAME = (62, 64)
#: OpenSSL's reasons when the server's bytes are not TLS.
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
)
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_CLOSED = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_TRUST = "set SSL_CERT_FILE=/path/to/its/ca.pem for the command, or use a certificate of a public authority"


class RefusedError(GatewayError):
    """The gateway refused a request for one name or id. Requests for others may succeed."""


async def ask(loaded: LoadedConfig, path: str, url: str | None) -> Any:  # noqa: ANN401 - JSON
    """GET a path of the API, at `url` or at the config's operator listener. Raises `GatewayError`."""
    return await _request("GET", loaded, path, url)


async def post(
    loaded: LoadedConfig, path: str, url: str | None, body: Mapping[str, Any] | None = None
) -> Any:  # noqa: ANN401 - JSON
    """POST to a path of the API, like `ask`. Raises `ConfigError` if the answer lists config problems."""
    return await _request("POST", loaded, path, url, body)


async def for_each(names: Iterable[str], call: Callable[[str], Awaitable[None]]) -> None:
    """Make a call for each name, and show the refusals. Exits 1 at the end if there were any."""
    from gatehouse.cli import show_error

    refused = 0
    for name in dict.fromkeys(names):
        try:
            await call(name)
        except RefusedError as error:
            error.message = f"{visible(name)}: {error.message}"
            show_error(error)
            refused += 1
    if refused:
        sys.exit(1)


def with_query(path: str, **query: str | int | None) -> str:
    """Add a query to a path of the API, without the parameters that are None."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


async def _request(
    method: str,
    loaded: LoadedConfig,
    path: str,
    url: str | None,
    body: Mapping[str, Any] | None = None,
) -> Any:  # noqa: ANN401 - JSON
    base = url or _configured_url(loaded)
    headers = {"User-Agent": f"gatehouse/{__version__}"} | _authorization(loaded)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.request(
                method, f"{base.rstrip('/')}{path}", json=body, allow_redirects=False
            ) as response,
        ):
            status, answer = response.status, await _read(response)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise connection_error(error, base, _TIMEOUT_SECONDS, _HINT) from error
    return _parse(status, answer, base)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    answer = b""
    while len(answer) <= _MAX_ANSWER and (chunk := await response.content.readany()):
        answer += chunk
    return answer


def _parse(status: int, body: bytes, base: str) -> Any:  # noqa: ANN401 - JSON
    try:
        answer = msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise _other_server(base) from error
    if status == 200 and isinstance(answer, dict):  # noqa: PLR2004 - OK
        return answer
    if status == 200:  # noqa: PLR2004 - as above
        raise _other_server(base)
    details = answer.get("error", {}) if isinstance(answer, dict) else {}
    if problems := details.get("problems"):
        raise ConfigError(msgspec.convert(problems, list[Problem]))
    message = details.get("message")
    hint = _HINTS.get(status, _HINT)
    if status in _CONCERNS_ONE_ID:
        raise RefusedError(f"{message or 'refused'} ({base} answered {status})", hint=hint)
    raise GatewayError(f"{base} answered {status}" + (f": {message}" if message else ""), hint=hint)


def _other_server(base: str) -> GatewayError:
    return GatewayError(f"{base} is not the operator listener of a gateway", hint=_HINT)


def _configured_url(loaded: LoadedConfig) -> str:
    listen = loaded.config.operator.listen
    if listen.port == 0:
        raise GatewayError(
            "the config's operator listener takes any free port",
            hint="pass its URL with --operator http://host:port",
        )
    return f"http://{Address(client_host(listen.host), listen.port)}"


def _authorization(loaded: LoadedConfig) -> dict[str, str]:
    """Use the first token of the config that is set here: those with the role `operate` come first."""
    problems: list[str] = []
    secrets, tokens = Secrets(loaded.directory), configured_tokens(loaded.config.operator)
    for token in sorted(tokens, key=lambda token: token.identity.role != "operate"):
        try:
            secret = secrets.resolve(token.reference)
        except SecretError as error:
            problems.append(f"{'.'.join(map(str, token.path))}: {error}")
        else:
            return {"Authorization": "Bearer " + secret.decode("utf-8", "surrogateescape")}
    if problems:
        raise GatewayError(problems[0], hint="set the token where this command runs")
    return {}


class _Failure(NamedTuple):
    reason: str
    #: None: the caller's hint for a server that does not listen.
    hint: str | None = None


def connection_error(error: Exception, url: str, timeout: float, hint: str) -> GatewayError:
    """Make the error for a request to `url` that got no answer within `timeout` seconds.

    `hint` is for a server that does not listen there; other failures have their own.
    """
    failure = _failure(error, url, timeout)
    return GatewayError(f"no answer from {escaped(url, 300)}: {failure.reason}", hint=failure.hint or hint)


def _failure(error: Exception, url: str, timeout: float) -> _Failure:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return _tls_failure(cause)
        if isinstance(cause, socket.gaierror):
            return _dns_failure(cause, escaped(urlsplit(url).hostname or "") if "://" in url else "")
    if isinstance(error, TimeoutError):
        return _Failure(
            f"timed out after {timeout:.0f} s", "check the address; a firewall may drop the traffic"
        )
    if isinstance(error, aiohttp.InvalidURL) or not isinstance(error, OSError | aiohttp.ClientError):
        return _Failure("this is not a valid URL", "use http://host:port or https://host:port")
    return _connection_failure(error, url)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk the chain of causes: aiohttp wraps the errors of sockets and TLS."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if not isinstance(
            error, aiohttp.ClientError
        ):  # its TLS errors are subclasses of ssl's, without codes
            yield error
        seen.append(error)
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        error = inner if isinstance(inner, BaseException) and inner not in seen else error.__cause__


def _tls_failure(error: ssl.SSLError) -> _Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"TLS: its certificate is not accepted: {escaped(str(error.verify_message))}"
        if error.verify_code in _UNTRUSTED:
            return _Failure(reason, _TRUST)
        if error.verify_code in _EXPIRED:
            return _Failure(reason, "renew the certificate, and compare the clocks with date -u")
        if error.verify_code in _OTHER_NAME:
            return _Failure(reason, "use the name that the certificate is for in the URL")
        return _Failure(reason, "run openssl s_client -connect host:port to see the certificate")
    if error.reason in _NOT_TLS:
        return _Failure(
            "TLS: the server does not speak TLS", "use http:// instead of https://, or another port"
        )
    reason = (error.reason or "handshake failed").lower().replace("_", " ")
    return _Failure(f"TLS: {escaped(reason)}", "run openssl s_client -connect host:port to see the handshake")


def _dns_failure(error: socket.gaierror, host: str) -> _Failure:
    if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL):
        return _Failure(
            f"DNS: the name server does not answer for {host}",
            "check this machine's name server, or use an IP address",
        )
    return _Failure(f"DNS: the name {host} is unknown", "check the name in the URL, or use an IP address")


def _connection_failure(error: Exception, url: str) -> _Failure:
    causes = (error, *_causes(error))
    number = next((one.errno for one in causes if isinstance(one, OSError) and one.errno), None)
    if number in _UNREACHABLE:
        return _Failure(
            f"the network is unreachable: {os.strerror(number)}",
            "check the address in the URL, and the route to it",
        )
    if number in _CLOSED or (
        number is None and isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
    ):
        other = "https://" if url.startswith("http://") else "http://"
        return _Failure(
            "the server closed the connection without an answer",
            f"use {other} if the server expects it, or another port",
        )
    if number is not None:
        return _Failure(os.strerror(number))
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return _Failure("the answer is not valid HTTP")
    return _Failure(escaped(" ".join(str(error).split())) or type(error).__name__)
