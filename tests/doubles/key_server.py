"""A TLS server that serves keys as the host of a provider does, and remote keys that connect to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict

from doubles.keys import tls_server
from gatehouse.errors import UnavailableError, VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.base import Facts, KnownKeys, NoKeys, RemoteVerifier, Verification, fetched_key
from gatehouse.verify.remote_keys import RemoteKeys
from gatehouse.verify.verified_by import VerifiedBy

HOST = "sns.eu-west-1.amazonaws.com"
URL = f"https://{HOST}/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class LocalResolver(AbstractResolver):
    """Resolves every name to 127.0.0.1 and one port."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the same address for every name."""
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=self.port, family=socket.AF_INET, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


class KeyServer:
    """Serves keys over TLS as the host of a provider does. Tests set its answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self.headers: list[CIMultiDict[str]] = []
        self.open = self.most_open = 0
        self.answer: Answer = key(b"the key")
        #: Set when the server stops. Answers that must not arrive wait for it.
        self.stopping = asyncio.Event()

    async def handle(self, asked: web.BaseRequest) -> web.StreamResponse:
        """Record the request and answer it."""
        self.asked.append(asked.path)
        self.headers.append(CIMultiDict(asked.headers))
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            return await self.answer(asked)
        finally:
            self.open -= 1


def key(body: bytes, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


def wait_for(gate: asyncio.Event) -> Answer:
    async def answer(asked: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        return await key(b"the key")(asked)

    return answer


class UnpinnedVerifier:
    """A verifier whose key URL is the value of a header, without pinning."""

    def __init__(self) -> None:
        self.keys: KnownKeys = NoKeys()
        self.remote: tuple[RemoteVerifier, ...] = (self,)
        self.outdated = False

    def key_url(self, request: Request) -> str | None:
        return request.headers.get("url")

    def is_outdated(self, request: Request, key: bytes) -> bool:
        return self.outdated

    def verify(self, request: Request, now: float) -> Facts:
        return {"key": fetched_key(self, request)}

    def sign(self, request: Request, now: float) -> Request:
        return request

    def credential_headers(self) -> frozenset[str]:
        return frozenset()


class Setting:
    """Remote keys, the server that they come from, and a clock that the test sets."""

    def __init__(self, server: KeyServer, keys: RemoteKeys) -> None:
        self.server = server
        self.keys = keys
        self.verifier = UnpinnedVerifier()
        self.now = 0.0

    async def key_of(self, url: str | None = URL, source: str = "s") -> bytes:
        """Prepare and verify a request, as the pipeline does."""
        verification = Verification((self.verifier,), VerifiedBy([["RSA"]], []))
        asked = Request("POST", "/", "", CIMultiDict({"url": url} if url else {}), b"")
        prepared = await self.keys.prepare(source, verification.needing_keys(asked, 0), asked)
        if prepared.unavailable is not None:
            raise prepared.unavailable
        return verification.verify(asked, 0).facts["key"]

    async def reason_of(self, url: str | None = URL, source: str = "s") -> str:
        """Return the reason why a request has no key."""
        with pytest.raises((VerificationError, UnavailableError)) as caught:
            await self.key_of(url, source)
        assert isinstance(caught.value, VerificationError | UnavailableError)
        return caught.value.reason


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[KeyServer, RemoteKeys, Setting]]:
    """Serve keys under the host names of SNS, and create remote keys that connect there."""
    server_tls, client_tls = tls_server(folder, HOST, "sns.us-east-1.amazonaws.com")
    server = KeyServer(0)
    runner = web.ServerRunner(web.Server(server.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls)
    await site.start()
    server.port = runner.addresses[0][1]
    setting: Setting
    keys = RemoteKeys(
        clock=lambda: setting.now, resolver=LocalResolver(server.port), tls=client_tls, timeout=1.0
    )
    setting = Setting(server, keys)
    try:
        yield server, keys, setting
    finally:
        server.stopping.set()
        await keys.close()
        # Both sides need one more iteration of the event loop to close a TLS connection.
        await asyncio.sleep(0)
        await runner.cleanup()


async def until(condition: Callable[[], bool], within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - the condition depends on handlers of the server
            await asyncio.sleep(0.005)
