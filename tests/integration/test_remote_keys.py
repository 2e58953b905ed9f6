"""Keys fetched from a real TLS server: bounded in every direction, known keys whatever happens to it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from multidict import CIMultiDict

from doubles.destination import ScriptedDestination
from doubles.keys import certificate, ec_key, rsa_key, tls_server
from gatehouse.config.load import parse
from gatehouse.errors import UnavailableError, VerificationError
from gatehouse.gateway.app import Gateway
from gatehouse.language.request import Request
from gatehouse.language.times import rfc3339
from gatehouse.verify.base import Facts, KnownKeys, NoKeys, RemoteVerifier, Verification, fetched_key
from gatehouse.verify.key_cache import NEW_URLS_PER_MINUTE
from gatehouse.verify.remote_keys import MAX_BYTES, MAX_FETCHES_PER_HOST, RemoteKeys
from gateways import SIGNING_SECRET, Running

HOST = "sns.eu-west-1.amazonaws.com"
URL = f"https://{HOST}/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Elsewhere(AbstractResolver):
    """Resolves every name to one port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the one address."""
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=self.port, family=socket.AF_INET, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        """There is nothing to close."""


class KeyServer:
    """Serves keys over TLS as the provider's host does: by script, then the last answer again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self.headers: list[CIMultiDict[str]] = []
        self.open = self.most_open = 0
        self.answer: Answer = key(b"the key")
        #: For answers that do not come: what they wait for happens when the server stops.
        self.stopping = asyncio.Event()

    async def handle(self, asked: web.BaseRequest) -> web.StreamResponse:
        """Note the request and answer it."""
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


def after(gate: asyncio.Event) -> Answer:
    async def answer(asked: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        return await key(b"the key")(asked)

    return answer


class Asking:
    """A verifier that asks for the address in a request's header, whatever it is."""

    def __init__(self) -> None:
        self.keys: KnownKeys = NoKeys()
        self.remote: tuple[RemoteVerifier, ...] = (self,)
        self.wants_another = False

    def key_url(self, request: Request) -> str | None:
        return request.headers.get("url")

    def is_outdated(self, request: Request, key: bytes) -> bool:
        return self.wants_another

    def verify(self, request: Request, now: float) -> Facts:
        return {"key": fetched_key(self, request)}

    def sign(self, request: Request, now: float) -> Request:
        return request

    def credential_headers(self) -> frozenset[str]:
        return frozenset()


class Setting:
    """Remote keys, the server that they come from, and a clock that the test moves."""

    def __init__(self, server: KeyServer, keys: RemoteKeys) -> None:
        self.server = server
        self.keys = keys
        self.verifier = Asking()
        self.now = 0.0

    async def key_of(self, url: str | None = URL, source: str = "s") -> bytes:
        """Do as the pipeline does."""
        verification = Verification((self.verifier,))
        asked = Request("POST", "/", "", CIMultiDict({"url": url} if url else {}), b"")
        prepared = await self.keys.prepare(source, verification.needing_keys(asked, 0), asked)
        if prepared.unavailable is not None:
            raise prepared.unavailable
        return verification.verify(asked, 0).facts["key"]

    async def reason_of(self, url: str | None = URL, source: str = "s") -> str:
        """Return why there is no key."""
        with pytest.raises((VerificationError, UnavailableError)) as caught:
            await self.key_of(url, source)
        assert isinstance(caught.value, VerificationError | UnavailableError)
        return caught.value.reason


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[KeyServer, RemoteKeys, Setting]]:
    """Serve keys under the names of SNS, and make remote keys that go there."""
    server_tls, client_tls = tls_server(folder, HOST, "sns.us-east-1.amazonaws.com")
    server = KeyServer(0)
    runner = web.ServerRunner(web.Server(server.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls)
    await site.start()
    server.port = runner.addresses[0][1]
    setting: Setting
    keys = RemoteKeys(clock=lambda: setting.now, resolver=Elsewhere(server.port), tls=client_tls, timeout=1.0)
    setting = Setting(server, keys)
    try:
        yield server, keys, setting
    finally:
        server.stopping.set()
        await keys.close()
        # Closing a TLS connection takes a turn on either side.
        await asyncio.sleep(0)
        await runner.cleanup()


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    """Run a key server, and remote keys that ask it."""
    async with serving(tmp_path) as (_, _, made):
        yield made


async def test_a_key_is_fetched_once_and_then_known(setting: Setting) -> None:
    assert await setting.key_of() == b"the key"
    assert await setting.key_of() == b"the key"

    assert setting.server.asked == ["/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"]
    (headers,) = setting.server.headers
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("Gatehouse/")
    assert "Cookie" not in headers


async def test_nothing_is_fetched_for_a_request_without_an_address(setting: Setting) -> None:
    assert await setting.reason_of(None) == "missing_signature"
    assert setting.server.asked == []


async def test_who_wants_the_same_key_at_the_same_time_waits_for_one_fetch(setting: Setting) -> None:
    gate = asyncio.Event()
    setting.server.answer = after(gate)
    wanters = [asyncio.create_task(setting.key_of()) for _ in range(20)]
    await until(lambda: setting.server.open == 1)
    wanters[0].cancel()
    gate.set()

    found = await asyncio.gather(*wanters, return_exceptions=True)
    assert found[1:] == [b"the key"] * 19
    assert len(setting.server.asked) == 1


async def test_only_a_few_fetches_are_under_way_at_a_time(setting: Setting) -> None:
    gate = asyncio.Event()
    setting.server.answer = after(gate)
    wanters = [
        asyncio.create_task(setting.key_of(f"{URL}/{n}", f"s{n}")) for n in range(3 * MAX_FETCHES_PER_HOST)
    ]
    await until(lambda: setting.server.open == MAX_FETCHES_PER_HOST)
    gate.set()

    await asyncio.gather(*wanters)
    assert setting.server.most_open == MAX_FETCHES_PER_HOST


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_an_address_without_a_key_is_remembered_for_a_minute(setting: Setting, status: int) -> None:
    setting.server.answer = key(b"no", status)

    assert await setting.reason_of() == "wrong_signature"
    setting.server.answer = key(b"the key")
    assert await setting.reason_of() == "wrong_signature"
    assert len(setting.server.asked) == 1
    setting.now = 60
    assert await setting.key_of() == b"the key"


@pytest.mark.parametrize("status", [204, 301, 302, 307, 429, 500, 503])
async def test_an_answer_that_says_nothing_of_the_key_is_our_shortage(
    setting: Setting, status: int, logged: io.StringIO
) -> None:
    setting.server.answer = key(b"", status, Location=f"https://{HOST}/elsewhere")

    assert await setting.reason_of() == "keys"
    assert await setting.reason_of() == "keys"
    assert len(setting.server.asked) == 1, "asked again at once, or followed a redirect"
    assert [json.loads(line)["event"] for line in logged.getvalue().splitlines()] == ["keys.unavailable"]
    setting.now = 5
    setting.server.answer = key(b"the key")
    assert await setting.key_of() == b"the key"


async def test_a_body_longer_than_a_key_is_not_read_to_its_end(setting: Setting) -> None:
    setting.server.answer = key(b"x" * (MAX_BYTES + 1))
    assert await setting.reason_of() == "wrong_signature"

    setting.server.answer = key(b"x" * MAX_BYTES)
    assert len(await setting.key_of(f"{URL}/2")) == MAX_BYTES


@pytest.mark.alone
async def test_a_fetch_that_takes_too_long_is_our_shortage(setting: Setting) -> None:
    setting.server.answer = after(setting.server.stopping)
    started = time.monotonic()

    assert await setting.reason_of() == "keys"
    assert 0.9 < time.monotonic() - started < 3


async def test_a_host_that_can_not_prove_its_name_is_not_believed(setting: Setting) -> None:
    assert await setting.reason_of("https://sns.ap-south-1.amazonaws.com/x.pem") == "keys"
    assert setting.server.asked == []


async def test_an_address_without_tls_is_not_asked(setting: Setting) -> None:
    assert await setting.reason_of(URL.replace("https", "http")) == "wrong_signature"
    assert setting.server.asked == []


async def test_a_source_may_ask_for_a_few_new_addresses_a_minute(setting: Setting) -> None:
    setting.server.answer = key(b"no", 404)
    for number in range(NEW_URLS_PER_MINUTE):
        assert await setting.reason_of(f"{URL}/{number}") == "wrong_signature"

    assert await setting.reason_of(f"{URL}/more") == "keys"
    assert await setting.reason_of(f"{URL}/more", "another source") == "wrong_signature"
    setting.now = 60
    assert await setting.reason_of(f"{URL}/one-more") == "wrong_signature"


async def test_a_known_key_is_asked_for_again_whatever_else_was_asked(setting: Setting) -> None:
    await setting.key_of()
    setting.now = 3600
    setting.server.answer = key(b"no", 404)
    for number in range(NEW_URLS_PER_MINUTE + 1):
        await setting.reason_of(f"{URL}/{number}")
    setting.server.answer = key(b"the next key")

    assert await setting.key_of() == b"the next key"


async def test_a_known_key_goes_on_when_its_address_is_down(setting: Setting) -> None:
    await setting.key_of()
    setting.now = 3600
    setting.server.answer = key(b"", 503)

    assert await setting.key_of() == b"the key"
    assert await setting.key_of() == b"the key"
    assert len(setting.server.asked) == 2
    setting.now = 86_400
    assert await setting.reason_of() == "keys"


async def test_a_key_that_will_not_do_is_asked_for_again(setting: Setting) -> None:
    await setting.key_of()
    setting.verifier.wants_another = True
    setting.server.answer = key(b"the next key")

    assert await setting.key_of() == b"the key"
    setting.now = 60
    assert await setting.key_of() == b"the next key"


async def test_closing_gives_up_what_is_under_way(setting: Setting) -> None:
    setting.server.answer = after(setting.server.stopping)
    wanter = asyncio.create_task(setting.key_of())
    await until(lambda: setting.server.open == 1)

    await setting.keys.close()

    with pytest.raises(asyncio.CancelledError):
        await wanter


CONFIG = """
server: {{listen: "127.0.0.1:0", trusted_proxies: [127.0.0.1]}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  orders:
    verify: {{type: aws-sns, topic_arn: "{topic}"}}
    event: {{id: "{{body:MessageId}}", type: "{{body:Type}}", data: "{{body}}"}}
    dedupe: {{by: ["{{body:MessageId}}"]}}
destinations:
  app: {{url: "{url}", secret: env:SIGNING}}
routes:
  - {{from: "*", to: app}}
"""


@asynccontextmanager
async def gateway(folder: Path, keys: RemoteKeys, url: str, text: str = "") -> AsyncIterator[Running]:
    loaded = parse(text or CONFIG.format(topic=TOPIC, url=url), directory=folder)
    async with (
        Gateway(loaded, environment={"SIGNING": SIGNING_SECRET}, remote_keys=keys) as running,
        aiohttp.ClientSession() as client,
    ):
        yield Running(running, client)
    await asyncio.sleep(0)


def notification(message_id: str = "m1", url: str = URL) -> bytes:
    """Sign a notification as SNS does."""
    members = {"Message": "hello", "MessageId": message_id, "Timestamp": rfc3339(time.time())}
    members |= {"TopicArn": TOPIC, "Type": "Notification"}
    text = "".join(f"{name}\n{value}\n" for name, value in members.items())
    signature = rsa_key().sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    members |= {
        "Signature": base64.b64encode(signature).decode(),
        "SignatureVersion": "2",
        "SigningCertURL": url,
    }
    return json.dumps(members).encode()


async def test_a_gateway_accepts_what_a_fetched_certificate_vouches_for(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    now = time.time()
    pem = certificate(
        rsa_key().public_key(),
        "sns.amazonaws.com",
        issuer=ec_key("authority"),
        since=now - 99,
        until=now + 99,
    )
    async with (
        serving(tmp_path) as (server, keys, _),
        gateway(tmp_path, keys, destination.url) as running,
    ):
        server.answer = key(pem)
        assert (await running.send("orders", notification(), {}))[0] == 200
        assert (await running.send("orders", notification("m2"), {}))[0] == 200
        assert len(server.asked) == 1
        await destination.wait_for(2)

        forged = notification().replace(b"hello", b"hullo")
        assert (await running.send("orders", forged, {}))[0] == 401
        elsewhere = notification("m3", "https://evil.example/SimpleNotificationService-1.pem")
        assert (await running.send("orders", elsewhere, {}))[0] == 401
        assert len(server.asked) == 1

        scraped = await running.metrics()
        assert scraped["gatehouse_verification_failures_total", "wrong_credentials", "orders"] == 1


async def test_a_gateway_that_can_not_fetch_a_certificate_answers_503(
    tmp_path: Path, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    async with (
        serving(tmp_path) as (server, keys, _),
        gateway(tmp_path, keys, destination.url) as running,
    ):
        server.answer = key(b"", 500)
        status, answer = await running.send("orders", notification(), {})

        assert (status, answer["error"]["code"]) == (503, "unavailable")
        assert (await running.metrics())["gatehouse_events_total", "orders"] == 0
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert [line["reason"] for line in lines if line["event"] == "request.rejected"] == ["keys"]
    assert [line["host"] for line in lines if line["event"] == "keys.unavailable"] == [HOST]


def made_up(number: int) -> str:
    return f"https://{HOST}/SimpleNotificationService-{number:032x}.pem"


@pytest.mark.case("F-09")
@pytest.mark.parametrize("sender", ["198.51.100.1", "203.0.113.9"], ids=["the flood's", "another"])
async def test_a_flood_of_made_up_addresses_keeps_no_request_from_its_key(
    sender: str, tmp_path: Path, destination: ScriptedDestination
) -> None:
    """61 a second of them, and one genuine request, also when all seem to be from one sender."""
    now = time.time()
    made = partial(certificate, issuer=ec_key("authority"), since=now - 99, until=now + 99)
    pem = made(rsa_key().public_key(), "sns.amazonaws.com")

    async def answer(asked: web.BaseRequest) -> web.StreamResponse:
        return await (key(pem) if URL.endswith(asked.path) else key(b"no", 404))(asked)

    async with (
        serving(tmp_path) as (server, keys, setting),
        gateway(tmp_path, keys, destination.url) as running,
    ):
        server.answer = answer
        genuine, junk = [], []
        for number in range(1, 15 * 61):
            setting.now += 1 / 61
            forged = notification(f"j{number}", made_up(number))
            junk.append((await running.send("orders", forged, {"X-Forwarded-For": "198.51.100.1"}))[0])
            if number % 61 == 0:
                sent = notification(f"m{number}")
                genuine.append((await running.send("orders", sent, {"X-Forwarded-For": sender}))[0])

    assert set(junk) == {401, 503}
    # As soon as the address is named by another sender, or again after a few seconds.
    assert genuine.index(200) <= (4 if sender == "198.51.100.1" else 0)
    assert set(genuine[genuine.index(200) :]) == {200}
    assert len(server.asked) < 90


@pytest.mark.alone
@pytest.mark.case("F-09")
async def test_a_host_that_hangs_keeps_no_key_of_another_waiting(setting: Setting) -> None:
    other = "https://sns.us-east-1.amazonaws.com/x.pem"
    setting.server.answer = after(setting.server.stopping)
    hanging = [
        asyncio.create_task(setting.reason_of(f"{URL}/{n}", f"s{n}")) for n in range(3 * MAX_FETCHES_PER_HOST)
    ]
    await until(lambda: setting.server.open == MAX_FETCHES_PER_HOST)
    setting.server.answer = key(b"the key")

    began = time.monotonic()
    assert await setting.key_of(other) == b"the key"
    assert time.monotonic() - began < 0.5
    await asyncio.gather(*hanging, return_exceptions=True)


@pytest.mark.alone
@pytest.mark.case("F-09")
async def test_a_known_key_is_refreshed_while_new_addresses_hang(setting: Setting) -> None:
    assert await setting.key_of() == b"the key"
    setting.now = 3600
    setting.server.answer = after(setting.server.stopping)
    hanging = [
        asyncio.create_task(setting.reason_of(f"{URL}/{n}", f"s{n}")) for n in range(3 * MAX_FETCHES_PER_HOST)
    ]
    await until(lambda: setting.server.open == MAX_FETCHES_PER_HOST)
    setting.server.answer = key(b"the next key")

    began = time.monotonic()
    assert await setting.key_of() == b"the next key"
    assert time.monotonic() - began < 0.5
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_key_that_can_not_be_fetched_does_not_keep_out_what_another_verifier_lets_in(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    sns = f'{{type: aws-sns, topic_arn: "{TOPIC}"}}'
    basic = "{type: basic, secrets: env:SIGNING, username: sns}"
    with_key: dict[str, str] = {}
    without = {"Authorization": "Basic " + base64.b64encode(f"sns:{SIGNING_SECRET}".encode()).decode()}
    for order in (f"[{sns}, {basic}]", f"[{basic}, {sns}]"):
        text = CONFIG.format(topic=TOPIC, url=destination.url)
        text = text.replace(sns, f"{{type: any, of: {order}}}")
        async with serving(tmp_path) as (server, keys, _), gateway(tmp_path, keys, "", text) as running:
            server.answer = key(b"", 500)
            assert (await running.send("orders", notification("m1"), with_key))[0] == 503
            assert (await running.send("orders", notification("m2"), without))[0] == 200
            assert (await running.send("orders", b"{}", with_key))[0] == 401


async def until(holds: Callable[[], bool], within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in the server's handlers
            await asyncio.sleep(0.005)
