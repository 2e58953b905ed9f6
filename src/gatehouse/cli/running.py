"""What a running gateway can't see of a config yet: `check` compares, when there is one to be asked."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.config.load import LoadedConfig

#: Nobody waits longer than this for a check (seconds).
_PATIENCE = 2.0
_EVERY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to recognise them


def restart_notes(loaded: LoadedConfig) -> list[str]:
    """Name the variables of the config that are set here, and not in the gateway that runs.

    Nothing, when no gateway answers where the config has its operator listener.
    """
    from gatehouse.gateway.compiled import secret_references

    config = loaded.config
    parts = [config.operator, config.store, *config.sources.values(), *config.destinations.values()]
    references = secret_references(parts)
    names = sorted({one.name for one in references if one.kind == "env" and one.name in os.environ})
    if not names or not _is_open(loaded):
        return []
    known: dict[str, Any] = {}
    # Whatever is wrong there, this is a check of the file.
    with contextlib.suppress(Exception):
        known = _asked(loaded, names)
    return [
        f"restart needed: env:{name} is set here and not in the running gateway: it sees it after a restart"
        for name in names
        if known.get(name) is False
    ]


def _asked(loaded: LoadedConfig, names: Iterable[str]) -> dict[str, Any]:
    import asyncio

    from gatehouse.cli.operator_client import ask

    async def found() -> Any:  # noqa: ANN401 - JSON
        async with asyncio.timeout(_PATIENCE):
            query = urlencode([("name", name) for name in names])
            return await ask(loaded, f"/api/v1/environment?{query}", None)

    return dict(asyncio.run(found())["set"])


def _is_open(loaded: LoadedConfig) -> bool:
    """Tell whether something listens there, before more is loaded to ask it."""
    listen = loaded.config.operator.listen
    host = _EVERY.get(listen.host, listen.host)
    try:
        with socket.create_connection((host, listen.port), timeout=_PATIENCE):
            return True
    except OSError:
        return False
