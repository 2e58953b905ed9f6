"""Deliveries through a real HTTP proxy: tunnels for https, whole URLs for http."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from doubles import providers
from doubles.delivery import make_destination, make_event
from doubles.destination import ScriptedDestination
from doubles.keys import tls_server
from gatehouse.delivery.client_tls import ClientTls, TlsFiles
from gatehouse.delivery.credentials import ClientCredentials
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import open_session
from gatehouse.delivery.outcome import Outcome
from gatehouse.network.event_loop import EventLoop
from gateways import RunGateway

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
LISTEN = 'server: {listen: "127.0.0.1:0"}\noperator: {listen: "127.0.0.1:0"}\n'


@dataclass
class Proxy:
    """An HTTP proxy that leads every name to the ports of the test."""

    tunnel_to: int = 0
    forward_to: int = 0
    #: The first lines of its requests, and the address of the proxy.
    asked: list[str] = field(default_factory=list)
    refusal: bytes = b""
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, _, rest = head.partition(b"\r\n")
            self.asked.append(line.decode())
            if self.refusal:
                writer.write(self.refusal)
                writer.close()
                return
            if line.startswith(b"CONNECT"):
                upstream = await asyncio.open_connection("127.0.0.1", self.tunnel_to)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                upstream = await asyncio.open_connection("127.0.0.1", self.forward_to)
                path = URL(line.split()[1].decode()).raw_path_qs
                upstream[1].write(b"POST %b HTTP/1.1\r\n%b" % (path.encode(), rest))
            await asyncio.gather(copied(reader, upstream[1]), copied(upstream[0], writer))


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def running_proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy


@asynccontextmanager
async def destination_with_tls(folder: Path) -> AsyncIterator[tuple[int, asyncio.Queue[str]]]:
    """Run a destination as billing.internal, whose authority is in billing-ca.pem."""
    server, client = tls_server(folder, "billing.internal")
    (root,) = client.get_ca_certs(binary_form=True)
    (folder / "billing-ca.pem").write_text(ssl.DER_cert_to_PEM_cert(root))
    got: asyncio.Queue[str] = asyncio.Queue()

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        got.put_nowait(f"{request.host} {request.path_qs}")
        return web.Response()

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
    try:
        yield runner.addresses[0][1], got
    finally:
        await runner.cleanup()


async def test_the_documented_example_delivers_through_the_proxy(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    found = re.search(r"^### proxy\n.*?^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    async with running_proxy() as proxy, destination_with_tls(tmp_path) as (port, got), asyncio.timeout(20):
        proxy.tunnel_to, proxy.forward_to = port, destination.port
        text = LISTEN + found[1].replace("proxy.internal:3128", f"127.0.0.1:{proxy.port}")
        async with run_gateway(text, MANDO_SECRET=providers.SECRET) as running:
            for number in range(2):
                body = providers.body(id=f"evt_{number}", type="sale.created")
                await running.send("mando", body, providers.mando(body, secret=providers.SECRET))
                assert await got.get() == "billing.internal /events"
                received = await destination.wait_for(number + 1)

    # Both connections are kept: the second event asks for nothing new.
    assert sorted(proxy.asked)[:2] == [
        "CONNECT billing.internal:443 HTTP/1.1",
        "POST http://crm.internal/events HTTP/1.1",
    ]
    assert len(proxy.asked) == 2
    assert [(one.path, one.headers["Host"]) for one in received] == [("/events", "crm.internal")] * 2


async def attempt(proxy: int, url: str = "https://billing.internal/", **fields: object) -> Outcome:
    async with open_session() as session:
        settings = make_destination(url, proxy=URL(f"http://127.0.0.1:{proxy}"), **fields)
        return await Forwarder(settings, session, clock=time.time).attempt(make_event(), 1)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, EventLoop])
def test_a_tunnel_is_verified_and_the_error_of_a_proxy_names_the_proxy(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def outcomes() -> list[Outcome]:
        async with running_proxy() as proxy, destination_with_tls(tmp_path) as (port, _):
            proxy.tunnel_to = port
            tls = ClientTls("billing", TlsFiles(tmp_path / "billing-ca.pem"))
            made = [await attempt(proxy.port, tls=tls), await attempt(proxy.port)]
            proxy.refusal = b"HTTP/1.1 407 S3cret\r\nContent-Length: 0\r\n\r\n"
            made.append(await attempt(proxy.port))
            proxy.refusal = b"S3cret\r\n\r\n"
            made.append(await attempt(proxy.port))
        return [*made, await attempt(proxy.port), await attempt(proxy.port, "http://crm.internal/")]

    with asyncio.Runner(loop_factory=loop) as runner:
        found = runner.run(outcomes())

    assert [(one.reason, one.error) for one in found] == [
        ("ok", None),
        ("tls", "certificate verify failed: unable to get local issuer certificate"),
        ("connect", "the proxy answered 407"),
        ("connect", "the answer is not HTTP"),
        ("connect", "at the proxy: Connection refused"),
        ("connect", "at the proxy: Connection refused"),
    ]


async def test_tokens_are_fetched_through_the_proxy_and_not_for_loopback() -> None:
    async with running_proxy() as proxy:
        proxy.refusal = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
        away = ClientCredentials("https://login.internal/token", "Basic x", None)
        local = ClientCredentials("http://127.0.0.1:1/token", "Basic x", None)
        outcome = await attempt(proxy.port, credentials=away)
        assert proxy.asked == ["CONNECT login.internal:443 HTTP/1.1"]
        assert outcome.error == "no access token: at the token endpoint: the proxy answered 502"
        outcome = await attempt(proxy.port, credentials=local)

    assert outcome.error == "no access token: at the token endpoint: Connection refused"
    assert len(proxy.asked) == 1
