"""What an error of a POST means: a reason from a closed set, and one line for whoever has to put it right.

The line is what TLS, the name service or the system reported. It never holds a byte of a request or a
reply, nor a URL, in which there may be credentials.
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

_LONGEST: Final = 200

#: Errors by what they mean; the first that fits counts.
_REASONS: tuple[tuple[type[Exception], OutcomeReason], ...] = (
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "dns"),
    (aiohttp.ClientSSLError, "tls"),
    (aiohttp.ServerFingerprintMismatch, "tls"),
    (aiohttp.ClientConnectorError, "connect"),
    (aiohttp.InvalidURL, "unsendable"),
    (aiohttp.ClientConnectionError, "disconnected"),
    (aiohttp.ClientError, "invalid_reply"),
    (HttpProcessingError, "invalid_reply"),
    (OSError, "connect"),
)


class LateError(TimeoutError):
    """Something took too long; its text says what."""


def reason_of(error: Exception) -> OutcomeReason:
    """Say what an error of `Exchange.post` means; `unsendable` when it is no error of the network."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "unsendable")


def line_of(error: Exception) -> str | None:
    """Say in one line what was reported; None when nothing was that can be shown."""
    said = _said(error)
    return clean(" ".join(said.split()))[:_LONGEST] or None if said else None


def _said(error: Exception) -> str | None:
    if isinstance(error, LateError):
        return str(error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _of_system(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _of_system(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection ended before an answer"
    if isinstance(error, HttpProcessingError):
        return "the reply is not HTTP"
    return _of_system(error) if isinstance(error, OSError) else None


def _of_system(error: Exception) -> str | None:
    """Return the system's own words for an error, without the addresses around them."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return error.reason.lower().replace("_", " ") if error.reason else "the TLS handshake failed"
    if isinstance(error, socket.gaierror | ForbiddenAddressError):
        return str(error.args[-1])
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
