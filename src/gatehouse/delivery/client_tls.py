"""TLS towards one destination, with a private authority or a certificate of the gateway.

The files are read when the config is compiled. Before a connection opens, a thread checks whether they have
changed, at most once a second. If a new file can't be used, the last usable files stay in use.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Seconds between two checks of the files.
CHECK_INTERVAL: Final = 1.0
#: No certificate or key is longer. Bundles of authorities are.
_MAX_BYTES: Final = 1024 * 1024
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"
_ENCRYPTED: Final = b"ENCRYPTED"

#: What a change of a file changes: device, inode, time of modification in nanoseconds, size.
_Stamp = tuple[int, int, int, int] | None


class TlsFileError(ValueError):
    """A file of `tls` that can't be used. The message names the file, never its content."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        #: The key of `tls` that names the file.
        self.key = key


class TlsFiles(NamedTuple):
    """The files that `tls` names. The authorities of this machine are trusted if there is no `ca`."""

    ca: Path | None = None
    cert: Path | None = None
    #: None if `cert` also contains the key.
    key: Path | None = None

    def read(self) -> ssl.SSLContext:
        """Read the files into a context. Raises `TlsFileError`."""
        context = ssl.create_default_context() if self.ca is None else _trusting(self.ca)
        context.set_alpn_protocols(("http/1.1",))
        if self.cert is not None:
            self._load_certificate(context, self.cert)
        return context

    def stamps(self) -> tuple[_Stamp, ...]:
        """Return what changes with each change of a file."""
        return tuple(None if path is None else _stamp(path) for path in self)

    def _load_certificate(self, context: ssl.SSLContext, cert: Path) -> None:
        if _CERTIFICATE not in _content(cert, "cert"):
            raise TlsFileError("cert", f"{cert.name} contains no certificate in PEM")
        key, name = (cert, "cert") if self.key is None else (self.key, "key")
        content = _content(key, name)
        if _KEY not in content:
            raise TlsFileError(name, f"{key.name} contains no private key in PEM")
        if _ENCRYPTED in content:
            raise TlsFileError(name, f"the private key in {key.name} is encrypted; remove its passphrase")
        try:
            # With an empty passphrase, OpenSSL never asks for one at the terminal.
            context.load_cert_chain(cert, key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                message = f"the key in {key.name} does not belong to the certificate in {cert.name}"
                raise TlsFileError(name, message) from None
            raise TlsFileError("cert", f"{cert.name} and its key can't be used: {_reason(error)}") from None
        except OSError as error:
            raise TlsFileError("cert", f"{cert.name} can't be read: {error.strerror}") from None


class ClientTls:
    """The context for connections to one destination. It equals another one with the same paths."""

    def __init__(self, name: str, files: TlsFiles, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the files. Raises `TlsFileError`."""
        self._name = name
        self._files = files
        self._clock = clock
        # Before the files are read, so that a change in between is noticed later.
        self._stamps = files.stamps()
        self._context = files.read()
        self._checked_at = clock()

    async def context(self) -> ssl.SSLContext:
        """Return a context with the current files, or with the last that could be used. Raises nothing."""
        now = self._clock()
        if now - self._checked_at >= CHECK_INTERVAL:
            # Others use the current context meanwhile.
            self._checked_at = now
            await asyncio.to_thread(self._check)
        return self._context

    def _check(self) -> None:
        stamps = self._files.stamps()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._context = self._files.read()
        except TlsFileError as error:
            get_logger().warning("destination.tls_unusable", destination=self._name, reason=str(error))
        else:
            get_logger().info("destination.tls_reloaded", destination=self._name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientTls) and self._files == other._files

    def __hash__(self) -> int:
        return hash(self._files)


def _trusting(ca: Path) -> ssl.SSLContext:
    if _CERTIFICATE not in _content(ca, "ca"):
        raise TlsFileError("ca", f"{ca.name} contains no certificate in PEM")
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        # This includes `ssl.SSLError`.
        raise TlsFileError("ca", f"{ca.name} can't be used: {_reason(error)}") from None


def _content(path: Path, key: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TlsFileError(key, f"{path.name} can't be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise TlsFileError(key, f"{path.name} is longer than {_MAX_BYTES} bytes")
    return content


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _reason(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or "not valid").lower().replace("_", " ")
