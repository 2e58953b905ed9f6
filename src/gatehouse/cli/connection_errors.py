"""Explains why a request to a server got no answer."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from gatehouse.config.hints import escaped
from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
#: The errors of HTTP libraries for a connection that ended before the answer.
_DISCONNECTED = ("ServerDisconnectedError", "ClientOSError", "RemoteDisconnected")


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
    if _is(error, "InvalidURL") or (isinstance(error, ValueError) and not isinstance(error, OSError)):
        return _Failure("this is not a valid URL", "use http://host:port or https://host:port")
    return _connection_failure(error, url)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk the chain of causes: aiohttp wraps the errors of sockets and TLS."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        # The TLS errors of aiohttp are subclasses of ssl's, without codes.
        if not _is(error, "ClientError"):
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
    if _is(error, "IncompleteRead", "ClientPayloadError"):
        return _Failure(
            "the server closed the connection in the middle of its answer", "run the command again"
        )
    causes = (error, *_causes(error))
    number = next((one.errno for one in causes if isinstance(one, OSError) and one.errno), None)
    if number in _UNREACHABLE:
        return _Failure(
            f"the network is unreachable: {os.strerror(number)}",
            "check the address in the URL, and the route to it",
        )
    if number in _CLOSED or (number is None and _is(error, *_DISCONNECTED)):
        other = "https://" if url.startswith("http://") else "http://"
        return _Failure(
            "the server closed the connection without an answer",
            f"use {other} if the server expects it, or another port",
        )
    if number is not None:
        return _Failure(os.strerror(number))
    if _is(error, "ClientResponseError", "HTTPException"):
        return _Failure("the answer is not valid HTTP")
    return _Failure(escaped(" ".join(str(error).split())) or type(error).__name__)


def _is(error: BaseException, *names: str) -> bool:
    """Tell whether an error has one of these classes, by name.

    The classes are those of aiohttp and http.client. Importing aiohttp takes longer than most commands.
    """
    return any(kind.__name__ in names for kind in type(error).__mro__)
