"""Why a request got no answer: TLS, the name, the connection and the time each in words of their own."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from gatehouse.config.hints import shown
from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: OpenSSL's codes for certificates that no known authority has signed (X509_V_ERR_…), and two others.
_UNTRUSTED = (18, 19, 20, 21)
_EXPIRED = (9, 10)
_OTHER_NAME = (62, 64)
#: What OpenSSL says when the bytes that came are no TLS.
_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
)
_REFUSED = (errno.ECONNREFUSED, errno.ENOENT)
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_CUT = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_TRUST = "SSL_CERT_FILE=/path/to/its/ca.pem in front of the command, or a certificate of a public authority"


class _Why(NamedTuple):
    reason: str
    #: What to try; None: what the command suggests when nobody listens.
    hint: str | None = None


def unanswered(error: Exception, url: str, seconds: float, hint: str) -> GatewayError:
    """Make the error for a request to `url` that failed. `hint` is for when nothing answers there at all."""
    why = _why(error, url, seconds)
    return GatewayError(f"no answer from {shown(url, 300)}: {why.reason}", hint=why.hint or hint)


def _why(error: Exception, url: str, seconds: float) -> _Why:
    host = shown(urlsplit(url).hostname or "") if "://" in url else ""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return _tls(cause)
        if isinstance(cause, socket.gaierror):
            return _name(cause, host)
    if isinstance(error, TimeoutError):
        hint = "is it the right address? a firewall may drop what is sent there"
        return _Why(f"nothing within {seconds:.0f} s", hint)
    is_url = isinstance(error, OSError | aiohttp.ClientError) and not isinstance(error, aiohttp.InvalidURL)
    return (
        _of_connection(error, url)
        if is_url
        else _Why("that is no URL", "http://host:port or https://host:port")
    )


def _of_connection(error: Exception, url: str) -> _Why:
    causes = (error, *_causes(error))
    number = next((one.errno for one in causes if isinstance(one, OSError) and one.errno), None)
    if number is not None:
        return _connection(number, url)
    is_cut = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
    return _cut(url) if is_cut else _Why(_said(error))


def _said(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return "what came is no HTTP answer"
    return shown(" ".join(str(error).split())) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk what an error was made of: aiohttp wraps what the socket or TLS said."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if not isinstance(error, aiohttp.ClientError):  # its classes for TLS say that they are ssl's own
            yield error
        seen.append(error)
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        error = inner if isinstance(inner, BaseException) and inner not in seen else error.__cause__


def _tls(error: ssl.SSLError) -> _Why:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"TLS: its certificate is not accepted: {shown(str(error.verify_message))}"
        if error.verify_code in _UNTRUSTED:
            return _Why(said, _TRUST)
        if error.verify_code in _EXPIRED:
            return _Why(said, "renew the certificate, and compare the clocks: date -u")
        if error.verify_code in _OTHER_NAME:
            return _Why(said, "the name that the certificate is for, in the URL")
        return _Why(said, "a certificate that says what is missing; openssl s_client shows it")
    if error.reason in _NO_TLS:
        return _Why(
            "TLS: what answers there does not speak TLS", "http:// instead of https://, or another port"
        )
    reason = (error.reason or "handshake failed").lower().replace("_", " ")
    return _Why(f"TLS: {shown(reason)}", "openssl s_client -connect host:port shows the handshake")


def _name(error: socket.gaierror, host: str) -> _Why:
    if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL):
        return _Why(
            f"DNS: the name server does not answer for {host}",
            "the name server of this machine, or an IP address",
        )
    return _Why(f"DNS: the name {host} is not known", "the name in the URL, or an IP address")


def _connection(number: int, url: str) -> _Why:
    if number in _REFUSED:
        return _Why(os.strerror(number))
    if number in _UNREACHABLE:
        return _Why(
            f"the network does not lead there: {os.strerror(number)}",
            "the address in the URL, and the route to it",
        )
    if number in _CUT:
        return _cut(url)
    return _Why(os.strerror(number))


def _cut(url: str) -> _Why:
    other = "https://" if url.startswith("http://") else "http://"
    return _Why(
        "it closed the connection without an answer", f"{other} if that is what it speaks, or another port"
    )
