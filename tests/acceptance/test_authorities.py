"""A gateway reads the authorities that the machine trusts when its config has connections with TLS."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from doubles import providers
from doubles.keys import tls_server
from gatehouse.config.load import load
from gatehouse.gateway import compiled
from processes import WITHIN, serving

CONFIG = """\
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: env:SECRET}
"""
TO_APP = """\
destinations:
  app: {url: "%s"}
routes: [{from: "*", to: app}]
"""
SOURCE = "  other: {%s}\n"
CONFIRMED = "{name: a, when: {'{header:X-A}': a}, confirm: '{body:url}', confirm_hosts: a}"
PUBLISHED = "algorithm: RS256, header: X-Jwt, body_hash: {claim: a}, jwks: 'https://keys.example/jwks.json'"
SECRETS = {"SECRET": providers.SECRET}


@pytest.mark.case("S-58")
async def test_a_destination_that_a_reload_moves_to_https_is_trusted(tmp_path: Path) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        got.put_nowait(await request.read())
        return web.Response()

    server, client = tls_server(tmp_path, "localhost")
    (root,) = client.get_ca_certs(binary_form=True)
    authority = tmp_path / "authority.pem"
    authority.write_text(ssl.DER_cert_to_PEM_cert(root))
    runner = web.ServerRunner(web.Server(take), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
    address = f"localhost:{runner.addresses[0][1]}/events"
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG + TO_APP % f"http://{address}")
    try:
        async with serving(config, **SECRETS, SSL_CERT_FILE=str(authority)) as gateway:
            config.write_text(CONFIG + TO_APP % f"https://{address}")
            gateway.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(WITHIN), aiohttp.ClientSession() as session:
                while not any(line["event"] == "config.reloaded" for line in gateway.log):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                body = providers.body(id="evt_1", type="sale.created")
                url = f"{gateway.url}/webhooks/mando"
                async with session.post(url, data=body, headers=providers.mando(body)) as answer:
                    assert answer.status == 200
                assert b"sale.created" in await got.get()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("more", "reads"),
    [
        (TO_APP % "http://app.example/events", False),
        (TO_APP % "https://app.example/events", True),
        (
            SOURCE
            % "verify: {type: aws-sns, topic_arn: 'arn:aws:sns:eu-west-1:123456789012:a'}, event: {type: a}",
            True,
        ),
        (SOURCE % f"provider: mando, secrets: env:SECRET, handshakes: [{CONFIRMED}]", True),
        (SOURCE % f"verify: {{type: jwt, {PUBLISHED}}}, event: {{type: a}}", True),
    ],
    ids=["http", "https", "published certificates", "confirmation", "published keys"],
)
def test_only_a_config_with_tls_reads_the_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, reads: bool
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG + more)
    calls: list[bool] = []
    monkeypatch.setattr(compiled, "read_authorities", lambda: calls.append(True))
    compiled.CompiledConfig(load(config), SECRETS, None)
    assert calls == [True] * reads
