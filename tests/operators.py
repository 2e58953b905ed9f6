"""Gateways whose operators have tokens with names and roles, alone and behind a supervisor."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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

    def __init__(self, number: int, client: WorkerClient) -> None:
        self.number = number
        self.client = client


class Supervised(Running):
    """The first worker of a supervisor, what the supervisor knows of its workers, and all their gateways."""

    def __init__(self, gateways: list[Gateway], client: aiohttp.ClientSession, workers: Any) -> None:
        super().__init__(gateways[0], client)
        self.workers = workers
        self.all = [Running(gateway, client) for gateway in gateways]


@asynccontextmanager
async def supervised(
    url: str, tmp_path: Path, config: str = WITH_TOKENS, *, workers: int = 1
) -> AsyncIterator[tuple[Supervised, str]]:
    """Run workers, and the operator server of a supervisor in front of them. Yield the URL of the latter.

    Each of several workers has a store of its own. Without tokens in the config, nobody needs one.
    """
    environment = {
        "SECRET": providers.SECRET,
        "EINVOICE": "secret",
        "SIGNING": SIGNING_SECRET,
        "BASIC": BASIC,
    } | VALUES
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())  # the path of a socket must be short
        session = await stack.enter_async_context(aiohttp.ClientSession())
        known, gateways = [], []
        for number in range(workers):
            directory = tmp_path / str(number) if number else tmp_path
            directory.mkdir(exist_ok=True)
            loaded = parse(config.format(url=url), directory=directory)
            assignment = Assignment(Path(folder, f"{number}.sock"), loaded)
            gateway = Gateway(loaded, environment=environment, worker=assignment)
            gateways.append(await stack.enter_async_context(gateway))
            client = WorkerClient(assignment.socket)
            stack.push_async_callback(client.close)
            known.append(Serving(number + 1, client))
        tokens = OperatorTokens(loaded.config.operator, Secrets(tmp_path, environment))
        server = OperatorServer(
            Address("127.0.0.1", 0),
            tokens if tokens.required else None,
            SupervisorMetrics(workers),
            {},
            WorkersApi(cast("Any", known), lambda: LastReload(successful=True, at=0.0)).routes(),
            reload=gateways[0].reload,
            page_path=loaded.config.operator.path,
        )
        await server.start()
        stack.push_async_callback(server.stop)
        yield Supervised(gateways, session, known), f"http://127.0.0.1:{server.port}"
