"""The certificate of a destination is verified: its host, its dates and its authority."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import aiohttp.connector
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from doubles.delivery import RunningDispatcher, make_destination, make_event
from doubles.keys import certificate, ec_key
from doubles.peer import Peer
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import open_session
from gatehouse.delivery.outcome import Outcome

HOUR = 3600.0
#: OpenSSL's description depends on its version.
SIGNED_BY_NONE_WE_TRUST = (
    "unable to get local issuer certificate|self.signed certificate|invalid CA certificate"
)


class PresentedCertificate(NamedTuple):
    """The certificate that a destination presents."""

    hosts: tuple[str, ...] = ("localhost",)
    since: float = -HOUR
    until: float = HOUR
    issuer: str = "authority"
    has_leaf_signed_by_itself: bool = False
    lacks: str = ""


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the test's authority like those of the machine. Nothing else changes."""
    now, authority = time.time(), ec_key("authority")
    made = partial(certificate, issuer=authority, since=now - HOUR, until=now + HOUR)
    root = made(authority.public_key(), "test authority", is_authority=True)
    used = aiohttp.connector._SSL_CONTEXT_VERIFIED
    assert (used.verify_mode, used.check_hostname) == (ssl.CERT_REQUIRED, True)
    context = ssl.create_default_context(cadata=root.decode())
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context)


def context_of(folder: Path, presented: PresentedCertificate) -> ssl.SSLContext:
    now, key = time.time(), ec_key("server")
    leaf = certificate(
        key.public_key(),
        presented.hosts[0],
        issuer=key if presented.has_leaf_signed_by_itself else ec_key(presented.issuer),
        since=now + presented.since,
        until=now + presented.until,
        hosts=presented.hosts,
        lacks=presented.lacks,
    )
    file = folder / "server.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@asynccontextmanager
async def destination(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Run a destination over TLS. Yields its port and the data it gets."""
    got: list[bytes] = []

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        got.append(await request.read())
        return web.Response()

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1], got
    finally:
        await runner.cleanup()


async def attempt(port: int, host: str = "localhost") -> Outcome:
    async with open_session() as session:
        settings = make_destination(f"https://{host}:{port}/events")
        return await Forwarder(settings, session, clock=time.time).attempt(make_event(), 1)


@pytest.mark.case("S-58")
async def test_a_certificate_of_a_trusted_authority_is_accepted(tmp_path: Path) -> None:
    async with destination(context_of(tmp_path, PresentedCertificate())) as (port, got):
        outcome = await attempt(port)

    assert (outcome.reason, outcome.http_status, len(got)) == ("ok", 200, 1)


@pytest.mark.case("S-58", "F-61")
@pytest.mark.parametrize(
    ("presented", "host", "error"),
    [
        (PresentedCertificate(has_leaf_signed_by_itself=True), "localhost", SIGNED_BY_NONE_WE_TRUST),
        (PresentedCertificate(issuer="another authority"), "localhost", SIGNED_BY_NONE_WE_TRUST),
        (PresentedCertificate(since=-2 * HOUR, until=-HOUR), "localhost", "certificate has expired"),
        (PresentedCertificate(since=HOUR, until=2 * HOUR), "localhost", "certificate is not yet valid"),
        (
            PresentedCertificate(hosts=("other.example", "localhost.other.example", "*.localhost")),
            *("localhost", "Hostname mismatch, certificate is not valid for 'localhost'."),
        ),
        (
            PresentedCertificate(),
            "127.0.0.1",
            "IP address mismatch, certificate is not valid for '127.0.0.1'.",
        ),
        # Required by Python 3.13 and later.
        (
            PresentedCertificate(lacks="authority key identifier"),
            "localhost",
            "Missing Authority Key Identifier",
        ),
    ],
    ids=[
        *("signed by itself", "of another authority", "expired", "not valid yet", "of another host"),
        *("of a name, for an address", "without an extension"),
    ],
)
async def test_any_other_certificate_is_a_tls_failure_and_nothing_is_sent(
    tmp_path: Path, presented: PresentedCertificate, host: str, error: str
) -> None:
    aiohttp.connector._SSL_CONTEXT_VERIFIED.verify_flags |= ssl.VERIFY_X509_STRICT
    async with destination(context_of(tmp_path, presented)) as (port, got):
        outcome = await attempt(port, host)

    assert (outcome.reason, outcome.http_status, got) == ("tls", None, [])
    said = (outcome.error or "").removeprefix("certificate verify failed: ")
    assert re.fullmatch(error, said), outcome.error


@pytest.mark.case("S-58")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_protocol_versions_are_refused(tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = context_of(tmp_path, PresentedCertificate())
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    async with destination(context) as (port, got):
        outcome = await attempt(port)
        assert outcome.reason in ("tls", "connect")
        assert got == []

        # A client that speaks the protocol succeeds, so nothing else caused the failure.
        old = aiohttp.connector._SSL_CONTEXT_VERIFIED
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        old.minimum_version = version
        assert (await attempt(port)).reason == "ok"


@pytest.mark.case("F-61")
async def test_the_log_names_the_fault_of_a_certificate(tmp_path: Path) -> None:
    used = aiohttp.connector._SSL_CONTEXT_VERIFIED
    used.verify_flags |= ssl.VERIFY_X509_STRICT
    presented = PresentedCertificate(lacks="authority key identifier")
    async with destination(context_of(tmp_path, presented)) as (port, _):
        settings = make_destination(f"https://user:password@localhost:{port}/events?token=secret")
        async with RunningDispatcher(tmp_path / "gatehouse.db", settings) as gateway:
            with capture_logs() as lines:
                await gateway.accept(make_event(received=int(time.time())))
                await gateway.until(1, "attempts_total", destination="billing", reason="tls")

    attempted = [line for line in lines if line["event"] == "delivery.attempted"]
    assert {line["error"] for line in attempted} == {
        "certificate verify failed: Missing Authority Key Identifier"
    }
    assert not re.search("password|secret", repr(lines))


@pytest.mark.case("F-61")
async def test_dns_and_connection_errors_are_described_too() -> None:
    async def said(url: str) -> tuple[str, str | None]:
        async with open_session() as session:
            settings = make_destination(url, timeout=0.3)
            outcome = await Forwarder(settings, session, clock=time.time).attempt(make_event(), 1)
            return outcome.reason, outcome.error

    async with Peer([b"no HTTP: user:password\r\n", None]) as peer, Peer([[60.0]]) as mute:
        address = f"user:password@127.0.0.1:{peer.port}/?token=secret"
        assert await said(f"http://{address}") == ("invalid_reply", "the reply is not HTTP")
        assert await said(f"http://{address}") == (
            "disconnected",
            "the connection ended before a reply",
        )
        assert await said(mute.url) == ("timeout", "no reply in time")
    assert await said(f"http://{address}") == ("connect", "Connection refused")
    reason, error = await said("http://user:password@nowhere.invalid/")
    assert reason == "dns"
    assert error is not None
    assert "password" not in error
    assert await said("http://user:password@169.254.169.254/") == (
        "connect",
        "link-local addresses are not connected to",
    )


@pytest.mark.case("F-61")
async def test_the_error_of_a_destination_without_tls_names_the_cause() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        outcome = await attempt(server.sockets[0].getsockname()[1])

    assert (outcome.reason, outcome.error) == ("tls", "wrong version number")
