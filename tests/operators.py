"""Gateways whose operators have tokens with names and roles, alone and behind a supervisor."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import aiohttp

from doubles import providers
from gatehouse.config.addresses import Address
from gatehouse.config.load import LoadedConfig, parse
from gatehouse.config.secrets import Secrets
from gatehouse.gateway.app import Gateway
from gatehouse.operator.reload_result import LastReload
from gatehouse.operator.server import OperatorServer
from gatehouse.operator.tokens import OperatorTokens
from gatehouse.telemetry.metrics import SupervisorMetrics
from gatehouse.workers.api import WorkersApi
from gatehouse.workers.process import WorkerClient
from gateways import BASIC, CONFIG, SIGNING_SECRET, Running

VALUES = {
    "OPERATOR": "token-of-the-operator",
    "CI_TOKEN": "token-of-the-pipeline",
    "ALICE": "token-of-alice-herself",
}
OPERATOR, CI, ALICE = ({"Authorization": f"Bearer {value}"} for value in VALUES.values())
TOKENS = (
    'operator: {{listen: "127.0.0.1:0", token: env:OPERATOR, tokens: '
    "[{{name: ci, token: env:CI_TOKEN, role: read}}, {{name: alice, token: env:ALICE, role: operate}}]}}"
)
WITH_TOKENS = CONFIG.replace('operator: {{listen: "127.0.0.1:0"}}', TOKENS)


async def ask(
    running: Running, method: str, path: str, headers: dict[str, str], body: Any = None, url: str = ""
) -> tuple[int, Any]:
    """Send a request to the operator listener. Return the status and the JSON."""
    target = (url or running.operator_url) + path
    async with running.client.request(method, target, headers=headers, json=body) as answer:
        return answer.status, json.loads(await answer.text() or "null")


class Assignment(NamedTuple):
    """What a supervisor gives to a worker."""

    socket: Path
    loaded: LoadedConfig

    @property
    def ports(self) -> tuple[int, ...]:
        """Any free port."""
        return (0,)

    def load(self) -> LoadedConfig:
        """Return the config in use."""
        return self.loaded


class Serving:
    """A worker that serves, as the supervisor sees it."""

    is_serving = True

    def __init__(self, client: WorkerClient) -> None:
        self.client = client


class Supervised(Running):
    """A worker, and what its supervisor knows of it."""

    def __init__(self, gateway: Gateway, client: aiohttp.ClientSession, workers: Any) -> None:
        super().__init__(gateway, client)
        self.workers = workers


@asynccontextmanager
async def supervised(url: str, tmp_path: Path) -> AsyncIterator[tuple[Supervised, str]]:
    """Run a worker, and the operator server of a supervisor in front of it. Yield the URL of the latter."""
    loaded = parse(WITH_TOKENS.format(url=url), directory=tmp_path)
    environment = {
        "SECRET": providers.SECRET,
        "EINVOICE": "secret",
        "SIGNING": SIGNING_SECRET,
        "BASIC": BASIC,
    } | VALUES
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket must be short
        socket = Path(folder, "1.sock")
        client = WorkerClient(socket)
        tokens = OperatorTokens(loaded.config.operator, Secrets(tmp_path, environment))
        workers = cast("Any", [Serving(client)])
        async with (
            Gateway(loaded, environment=environment, worker=Assignment(socket, loaded)) as gateway,
            aiohttp.ClientSession() as session,
        ):
            server = OperatorServer(
                Address("127.0.0.1", 0),
                tokens,
                SupervisorMetrics(1),
                {},
                WorkersApi(workers, lambda: LastReload(successful=True, at=0.0)).routes(),
                reload=gateway.reload,
            )
            await server.start()
            try:
                yield Supervised(gateway, session, workers), f"http://127.0.0.1:{server.port}"
            finally:
                await server.stop()
                await client.close()
