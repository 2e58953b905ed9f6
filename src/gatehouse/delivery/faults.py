"""Explains an error of a POST: a reason from a closed set, and one line for the person who fixes it.

The line is what TLS, the name service or the system reported. It never contains bytes of a request or a
reply, or a URL, because those may contain credentials.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from gatehouse.network.forbidden_addresses import ForbiddenAddressError
from gatehouse.telemetry.log import clean

if TYPE_CHECKING:
    from gatehouse.errors import OutcomeReason

_MAX_LENGTH: Final = 500

#: The reason of each kind of error. The first match counts.
_REASONS: tuple[tuple[type[Exception], OutcomeReason], ...] = (
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "dns"),
    (aiohttp.ClientSSLError, "tls"),
    (aiohttp.ServerFingerprintMismatch, "tls"),
    (ssl.SSLError, "tls"),
    (aiohttp.ClientConnectorError, "connect"),
    # The answer of a proxy to CONNECT. The parser of this package reads the replies of destinations.
    (aiohttp.ClientResponseError, "connect"),
    (aiohttp.InvalidURL, "unsendable"),
    (aiohttp.ClientConnectionError, "disconnected"),
    (aiohttp.ClientError, "invalid_reply"),
    (HttpProcessingError, "invalid_reply"),
    (OSError, "connect"),
)


class DeadlineError(TimeoutError):
    """Something took too long. The text says what."""


class TokenError(Exception):
    """There is no access token for the destination, so nothing was sent. The text says why."""

    def __init__(self, text: str, reason: OutcomeReason) -> None:
        super().__init__(text, reason)
        self.reason = reason


def reason_for_error(error: Exception) -> OutcomeReason:
    """Return the reason for an error of `HttpClient.post`; `unsendable` if it is not a network error."""
    if isinstance(error, TokenError):
        return error.reason
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "unsendable")


def describe_error(error: Exception) -> str | None:
    """Describe in one line what was reported; None if nothing can be shown."""
    description = _description(error)
    return clean(" ".join(description.split()))[:_MAX_LENGTH] or None if description else None


def _description(error: Exception) -> str | None:
    if isinstance(error, DeadlineError | TokenError):
        return str(error.args[0])
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _system_message(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        place = "at the proxy: " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        return f"{place}{_system_message(error.os_error)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection ended before a reply"
    if isinstance(error, HttpProcessingError):
        return "the reply is not HTTP"
    return _other_description(error)


def _other_description(error: Exception) -> str | None:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not HTTP"
    return _system_message(error) if isinstance(error, OSError) else None


def _system_message(error: Exception) -> str | None:
    """Return the system's description of an error, without addresses."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return error.reason.lower().replace("_", " ") if error.reason else "the TLS handshake failed"
    if isinstance(error, socket.gaierror | ForbiddenAddressError):
        return str(error.args[-1])
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
