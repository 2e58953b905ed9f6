"""The certificate authorities that this machine trusts.

aiohttp reads their file twice when it is imported, which takes up to 80 ms and 2 MB. Only connections with
TLS need them, so a gateway reads them with the first config that has such connections.
"""

from __future__ import annotations

import ssl

#: The contexts of aiohttp that have not read the authorities. They trust no certificate.
_waiting: list[ssl.SSLContext] = []


def import_aiohttp() -> None:
    """Import aiohttp without the authorities. Its connections with TLS fail before `read_authorities`.

    It has no effect if something has imported aiohttp before.
    """

    def wait(context: ssl.SSLContext) -> None:
        # aiohttp's other context verifies nothing, so it needs no authorities.
        if context.verify_mode is not ssl.CERT_NONE:
            _waiting.append(context)

    read = ssl.SSLContext.set_default_verify_paths
    ssl.SSLContext.set_default_verify_paths = wait  # type: ignore[method-assign,assignment]
    try:
        import aiohttp  # noqa: F401, PLC0415 - see above
    finally:
        ssl.SSLContext.set_default_verify_paths = read  # type: ignore[method-assign]


def read_authorities() -> None:
    """Let aiohttp trust the authorities of this machine. Only the first call reads the file."""
    while _waiting:
        _waiting.pop().set_default_verify_paths()
