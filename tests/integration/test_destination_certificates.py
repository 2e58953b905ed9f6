"""A destination with a private authority that requires a client certificate, over real TLS."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
from aiohttp import web
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from doubles import providers
from doubles.delivery import make_destination, make_event
from doubles.keys import certificate, ec_key
from gatehouse.cli import main
from gatehouse.delivery import client_tls
from gatehouse.delivery.client_tls import ClientTls, TlsFileError, TlsFiles
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import open_session
from gatehouse.delivery.outcome import Outcome
from gatehouse.network.event_loop import EventLoop
from gateways import RunGateway, Running

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
LISTEN = 'server: {listen: "127.0.0.1:0"}\noperator: {listen: "127.0.0.1:0"}\n'

_numbers = itertools.count()


def certificate_of(name: str, key: str, *hosts: str, issuer: str = "authority") -> bytes:
    now, is_authority = time.time(), key == issuer
    return certificate(
        *(ec_key(key).public_key(), name),
        issuer=ec_key(issuer),
        since=now - 3600,
        until=now + 3600,
        hosts=hosts,
        is_authority=is_authority,
    )


def private_key(key: str, passphrase: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return ec_key(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def authority(key: str = "authority") -> bytes:
    return certificate_of("test authority", key, issuer=key)


def write_client(folder: Path, name: str) -> None:
    (folder / "client.pem").write_bytes(certificate_of(name, name, f"{name}.internal"))
    (folder / "client.key").write_bytes(private_key(name))


def server_context(folder: Path) -> ssl.SSLContext:
    leaf = certificate_of("server", "server", "localhost")
    (folder / "server.pem").write_bytes(private_key("server") + leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(cadata=authority().decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def refusing_destination(folder: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Run a destination that sends alerts, as asyncio does not. Yields its port, and what it reads."""
    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            encrypted = server_context(folder).wrap_socket(connection, server_side=True)
            got.append(encrypted.recv(1000))

    thread = Thread(target=serve)
    thread.start()
    with listener:
        yield listener.getsockname()[1], got
        thread.join()


@asynccontextmanager
async def destination(folder: Path) -> AsyncIterator[tuple[int, asyncio.Queue[str]]]:
    """Run a destination that requires a client certificate. Yields its port, and the names of its clients."""
    clients: asyncio.Queue[str] = asyncio.Queue()

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        assert request.transport is not None
        clients.put_nowait(request.transport.get_extra_info("peercert")["subject"][0][0][1])
        # The next request needs another connection.
        return web.Response(headers={"Connection": "close"})

    context = server_context(folder)
    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1], clients
    finally:
        await runner.cleanup()


async def send(running: Running) -> None:
    body = providers.body(id=f"evt_{next(_numbers)}", type="sale.created")
    assert (await running.send("mando", body, providers.mando(body, secret=providers.SECRET)))[0] == 200


@pytest.mark.case("S-63")
async def test_the_documented_example_uses_changed_files_and_keeps_the_last_usable_ones(
    run_gateway: RunGateway, tmp_path: Path, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tls, "CHECK_INTERVAL", 0.0)
    found = re.search(r"^### tls\n.*?^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    (tmp_path / "billing-ca.pem").write_text("# Zoë's authority\n" + authority().decode())
    write_client(tmp_path, "gatehouse")
    async with destination(tmp_path) as (port, clients), asyncio.timeout(20):
        text = LISTEN + found[1].replace("file:/run/secrets/", "file:").replace(
            "https://billing.internal", f"https://localhost:{port}"
        )
        (tmp_path / "gateway.yaml").write_text(text)
        async with run_gateway(text, MANDO_SECRET=providers.SECRET) as running:
            await send(running)
            assert await clients.get() == "gatehouse"
            write_client(tmp_path, "renewed")
            await send(running)
            assert await clients.get() == "renewed"
            (tmp_path / "client.key").write_bytes(private_key("gatehouse"))
            for _ in range(2):
                await send(running)
                assert await clients.get() == "renewed"

    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    told = [line for line in lines if line["event"].startswith("destination.tls")]
    mismatch = "the key in client.key does not belong to the certificate in client.pem"
    assert [(line["event"], line["destination"], line.get("reason")) for line in told] == [
        ("destination.tls_reloaded", "billing", None),
        ("destination.tls_unusable", "billing", mismatch),
    ]
    monkeypatch.setenv("MANDO_SECRET", providers.SECRET)
    checked = CliRunner().invoke(main, ["check", str(tmp_path / "gateway.yaml")])
    assert checked.exit_code == 1
    assert f"destinations.billing.tls.key: {mismatch} (serve starts, but" in checked.output
    (tmp_path / "client.key").write_bytes(private_key("renewed"))
    checked = CliRunner().invoke(main, ["check", str(tmp_path / "gateway.yaml")])
    assert "tls        a private authority, with a client certificate, configured" in checked.output
    assert checked.exit_code == 0


@pytest.mark.case("S-63")
@pytest.mark.parametrize(
    ("trusted", "client", "error"),
    [
        ("authority", None, "certificate required"),
        ("authority", "another", "unknown ca|bad certificate|decrypt error"),
        ("another", "authority", "certificate verify failed: .+"),
    ],
    ids=[
        "no client certificate",
        "of an authority that the destination does not trust",
        "of another authority",
    ],
)
def test_a_refused_certificate_is_a_tls_failure_and_nothing_is_accepted(
    tmp_path: Path, trusted: str, client: str | None, error: str
) -> None:
    (tmp_path / "ca.pem").write_bytes(authority(trusted))
    cert = None
    if client is not None:
        cert = tmp_path / "both.pem"
        of_client = certificate_of("client", "client", "client.internal", issuer=client)
        cert.write_bytes(of_client + private_key("client"))
    tls = ClientTls("billing", TlsFiles(tmp_path / "ca.pem", cert))

    async def attempt(port: int) -> Outcome:
        async with open_session() as session:
            settings = make_destination(f"https://localhost:{port}/", tls=tls)
            return await Forwarder(settings, session, clock=time.time).attempt(make_event(), 1)

    with refusing_destination(tmp_path) as (port, got), asyncio.Runner(loop_factory=EventLoop) as runner:
        outcome = runner.run(attempt(port))

    assert (outcome.reason, got) == ("tls", [])
    assert re.search(error, outcome.error or ""), outcome.error


@pytest.mark.parametrize(
    ("file", "content", "key", "message"),
    [
        ("ca.pem", None, "ca", "ca.pem can't be read: No such file or directory"),
        ("ca.pem", b"hello", "ca", "ca.pem contains no certificate in PEM"),
        ("ca.pem", b"-----BEGIN CERTIFICATE-----\nhello", "ca", "ca.pem can't be used: "),
        ("cert.pem", None, "cert", "cert.pem can't be read: No such file or directory"),
        ("cert.pem", b"", "cert", "cert.pem contains no certificate in PEM"),
        ("cert.pem", b"-----BEGIN CERTIFICATE-----\nhello", "cert", "cert.pem and its key can't be used: "),
        ("key.pem", b"S3cret", "key", "key.pem contains no private key in PEM"),
        ("key.pem", private_key("client", b"word"), "key", "the private key in key.pem is encrypted; remove"),
        ("key.pem", private_key("other"), "key", "the key in key.pem does not belong to the certificate in"),
        ("key.pem", b"x" * 2_000_000, "key", "key.pem is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, file: str, content: bytes | None, key: str, message: str
) -> None:
    files = TlsFiles(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    (tmp_path / "ca.pem").write_bytes(authority())
    (tmp_path / "cert.pem").write_bytes(certificate_of("client", "client", "client.internal"))
    (tmp_path / "key.pem").write_bytes(private_key("client"))
    files.read()
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)

    with pytest.raises(TlsFileError) as caught:
        files.read()
    assert (caught.value.key, str(caught.value)[: len(message)]) == (key, message)
    assert "S3cret" not in str(caught.value)
