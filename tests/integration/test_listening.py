"""The gateway listens on IPv4 and IPv6, on several addresses, and on Unix sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from pathlib import Path

import aiohttp
import pytest

from doubles import providers
from gatehouse.errors import GatewayError
from gatehouse.network.sockets import bind_unix
from gateways import RunGateway

CONFIG = """
server: {{listen: {listen}}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET]}}
  inside:
    verify: [{{type: token, header: X-Token, secrets: env:TOKEN}}, {{type: allowlist, networks: [192.0.2.7]}}]
    event: {{type: made.up}}
"""
BODY = providers.body(id="evt_1", type="sale.created")


async def post(url: str, *, unix: Path | None = None, path: str = "mando", **headers: str) -> int:
    connector = aiohttp.UnixConnector(str(unix)) if unix else aiohttp.TCPConnector()
    given = (providers.mando(BODY) if path == "mando" else {}) | headers
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.post(f"{url}/webhooks/{path}", data=BODY, headers=given) as answer,
    ):
        return answer.status


@pytest.mark.case("F-32")
async def test_a_port_without_a_host_listens_on_ipv4_and_ipv6(run_gateway: RunGateway) -> None:
    async with run_gateway(CONFIG.format(listen='":0"'), TOKEN="t" * 20) as running:
        port = running.gateway.ingest.port
        families = {one.family for one in running.gateway.ingest._listener._sockets}  # type: ignore[union-attr]
        assert await post(f"http://127.0.0.1:{port}") == 200
        if socket.AF_INET6 in families:  # a machine may have no IPv6
            assert await post(f"http://[::1]:{port}") == 200


@pytest.mark.case("F-32")
async def test_the_gateway_listens_on_every_address_of_a_list(
    run_gateway: RunGateway, tmp_path: Path
) -> None:
    path = tmp_path / "ingest.sock"
    listen = json.dumps(["127.0.0.1:0", "127.0.0.2:0", f"unix:{path}"])
    async with run_gateway(CONFIG.format(listen=listen), TOKEN="t" * 20) as running:
        first, second = running.gateway.ingest.ports
        assert await post(f"http://127.0.0.1:{first}") == 200
        assert await post(f"http://127.0.0.2:{second}") == 200
        assert await post("http://gateway", unix=path) == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


@pytest.mark.case("F-32", "S-55")
@pytest.mark.parametrize(
    ("trusted", "forwarded", "status"),
    [
        ("unix", "192.0.2.7", 200),
        ("unix", "192.0.2.7, 198.51.100.1", 401),
        ("127.0.0.1", "192.0.2.7", 401),
        ("unix", "", 401),
    ],
)
async def test_a_peer_on_a_unix_socket_may_name_the_client_when_configured(
    run_gateway: RunGateway, tmp_path: Path, trusted: str, forwarded: str, status: int
) -> None:
    path = tmp_path / "ingest.sock"
    config = CONFIG.format(listen=f'"unix:{path}", trusted_proxies: [{trusted}]')
    async with run_gateway(config, TOKEN="t" * 20):
        headers = {"X-Token": "t" * 20, "X-Forwarded-For": forwarded}
        assert await post("http://gateway", unix=path, path="inside", **headers) == status


@pytest.mark.case("F-32")
async def test_a_stale_socket_is_replaced_and_a_served_one_is_not(
    run_gateway: RunGateway, tmp_path: Path
) -> None:
    path = tmp_path / "ingest.sock"
    bind_unix(str(path)).close()
    assert path.exists()
    config = CONFIG.format(listen=f'"unix:{path}"')
    async with run_gateway(config, TOKEN="t" * 20):
        with pytest.raises(GatewayError, match="listen on unix:"):
            async with run_gateway(config.replace("sources:", "store: {url: sqlite:///b.db}\nsources:")):
                pass
        assert await post("http://gateway", unix=path) == 200

    path.write_text("somebody's file")
    with pytest.raises(GatewayError, match="Address already in use"):
        async with run_gateway(config, TOKEN="t" * 20):
            pass
    assert path.read_text() == "somebody's file"


@pytest.mark.case("F-32")
async def test_an_unavailable_address_closes_the_other_listeners(
    run_gateway: RunGateway, tmp_path: Path
) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    path = tmp_path / "ingest.sock"
    config = CONFIG.format(listen=json.dumps([f"unix:{path}", "127.0.0.1:0", f"127.0.0.1:{port}"]))
    with pytest.raises(GatewayError, match="Address already in use"):
        async with run_gateway(config, TOKEN="t" * 20):
            pass
    assert not path.exists()
    taken.close()
    await taken.wait_closed()
