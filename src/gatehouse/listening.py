"""What is said when an address can't be listened on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def listening(starting: Awaitable[T], key: str, address: object) -> T:
    """Start to listen; `key` is where the config has the address. Raises `GatewayError`."""
    try:
        return await starting
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        message = f"{key}: can't listen on {address}: {why}"
        raise GatewayError(message, hint="is another process there? choose another address") from error
