"""Access tokens for a destination, from a real token endpoint that works, fails, or is hostile."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

import pytest
from aiohttp import web

from doubles import providers
from doubles.delivery import make_destination, make_event
from doubles.destination import Answer, ScriptedDestination, hang, raw, redirect, status
from doubles.keys import tls_server
from gatehouse.delivery import access_tokens
from gatehouse.delivery.access_tokens import AccessTokens
from gatehouse.delivery.client_tls import ClientTls, TlsFiles
from gatehouse.delivery.credentials import ClientCredentials, basic
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import open_session
from gatehouse.delivery.outcome import Outcome
from gateways import RunGateway, Running

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
LISTEN = 'server: {listen: "127.0.0.1:0"}\noperator: {listen: "127.0.0.1:0"}\n'
SECRET = "Canary/client secret+7f3Qz91LmX"
CREDENTIALS = basic("gatehouse", b"Canary%2Fclient+secret%2B7f3Qz91LmX")

_numbers = itertools.count()


@dataclass
class TokenEndpoint:
    """A token endpoint that issues token-1, token-2 and so on, and keeps what it was asked."""

    url: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    expires_in: object = 3600
    #: Answers instead of a token.
    script: list[Answer] = field(default_factory=list)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = await request.post()
        self.requests.append((request.headers["Authorization"], {key: str(asked[key]) for key in asked}))
        if self.script:
            return await self.script.pop(0)(request)  # type: ignore[arg-type]
        token = f"Canary-token-{len(self.requests)}"
        return web.json_response(
            {"access_token": token, "token_type": "bearer", "expires_in": self.expires_in}
        )


@asynccontextmanager
async def token_endpoint(tls: SSLContext | None = None) -> AsyncIterator[TokenEndpoint]:
    endpoint = TokenEndpoint()
    runner = web.ServerRunner(web.Server(endpoint.serve), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
    endpoint.url = f"{scheme}://{host}:{runner.addresses[0][1]}/oauth2/token"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    async with token_endpoint() as running:
        yield running


def credentials(url: str) -> ClientCredentials:
    return ClientCredentials(url, CREDENTIALS, None)


async def attempts(
    number: int,
    destination: ScriptedDestination,
    token_url: str,
    tls: ClientTls | None = None,
    within: float = 5.0,
) -> list[Outcome]:
    """Make some attempts, one after the other."""
    async with open_session() as session:
        settings = make_destination(
            destination.url, credentials=credentials(token_url), tls=tls, timeout=within
        )
        forwarder = Forwarder(settings, session, clock=time.time)
        return [await forwarder.attempt(make_event(), 1) for _ in range(number)]


async def send(running: Running) -> None:
    body = providers.body(id=f"evt_{next(_numbers)}", type="sale.created")
    assert (await running.send("mando", body, providers.mando(body, secret=providers.SECRET)))[0] == 200


def sent(destination: ScriptedDestination) -> list[str]:
    return [request.headers["Authorization"] for request in destination.requests]


async def test_the_documented_example_shares_one_token_and_shows_no_secret(
    run_gateway: RunGateway, destination: ScriptedDestination, endpoint: TokenEndpoint, logged: io.StringIO
) -> None:
    found = re.search(r"^### oauth2\n.*?^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    text = LISTEN + found[1].replace("https://login.internal/oauth2/token", endpoint.url).replace(
        "https://stock.internal/events", destination.url
    )
    at_once = "concurrency: 100\n    retry: {first: 10ms, max: 10ms}\n    breaker: {failures: 1000}"
    text = text.replace("  stock:\n", f"  stock:\n    {at_once}\n")
    # The first attempts fail, and are retried as usual.
    endpoint.script.append(status(503, body=b"Canary-token-0"))
    async with run_gateway(text, MANDO_SECRET=providers.SECRET, STOCK_CLIENT_SECRET=SECRET) as running:
        await asyncio.gather(*(send(running) for _ in range(100)))
        await destination.wait_for(100)
        shown = json.dumps(
            [await running.ask(f"/api/v1/{one}") for one in ("destinations", "config", "deliveries")]
        )
        async with running.client.get(f"{running.operator_url}/destinations/stock") as answer:
            shown += await answer.text()
        async with running.client.get(f"{running.operator_url}/metrics") as answer:
            shown += await answer.text()

    asked = {"grant_type": "client_credentials", "scope": "events.write"}
    assert endpoint.requests == [(CREDENTIALS, asked)] * 2
    assert set(sent(destination)) == {"Bearer Canary-token-2"}
    assert len({request.event_id for request in destination.requests}) == 100
    assert '"auth": "oauth2"' in shown
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    failed = {(line["reason"], line["error"]) for line in lines if line.get("error")}
    assert failed == {("connect", "no access token: the token endpoint answered 503")}
    assert "Canary" not in shown + logged.getvalue()
    assert base64.b64encode(b"gatehouse:Canary").decode()[:16] not in shown + logged.getvalue()


@pytest.mark.case("S-64")
async def test_after_a_401_the_same_attempt_posts_once_more_with_a_fresh_token(
    destination: ScriptedDestination, endpoint: TokenEndpoint
) -> None:
    destination.script(status(401), status(200), status(401), status(401), status(401))
    outcomes = await attempts(3, destination, endpoint.url)

    # After a fresh token was refused, no other is fetched within a second.
    assert [one.reason for one in outcomes] == ["ok", "rejected", "rejected"]
    assert sent(destination) == [f"Bearer Canary-token-{number}" for number in (1, 2, 2, 3, 3)]
    assert len(endpoint.requests) == 3
    first, again, *_ = destination.requests
    assert (first.event_id, first.attempt, first.body) == (again.event_id, again.attempt, again.body)


@pytest.mark.case("S-64")
async def test_many_refusals_of_one_token_cause_one_fetch(
    destination: ScriptedDestination, endpoint: TokenEndpoint
) -> None:
    async def refuse_the_first(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401 if request.headers["Authorization"].endswith("-1") else 200)

    destination.script(*[refuse_the_first] * 100)
    async with open_session() as session:
        settings = make_destination(destination.url, credentials=credentials(endpoint.url))
        forwarder = Forwarder(settings, session, clock=time.time)
        outcomes = await asyncio.gather(*(forwarder.attempt(make_event(), 1) for _ in range(50)))

    assert {one.reason for one in outcomes} == {"ok"}
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    ("expires_in", "ahead_at", "expired_at"),
    [
        (3600, 3545.0, 3596.0),
        (60, 50.0, 58.0),
        ("60", 50.0, 58.0),
        (None, 250.0, 297.0),
        (10**12, 86345.0, 86396.0),
    ],
)
async def test_a_token_is_replaced_before_it_expires(
    endpoint: TokenEndpoint, expires_in: object, ahead_at: float, expired_at: float
) -> None:
    endpoint.expires_in = expires_in
    now = 0.0
    async with open_session() as session:
        tokens = AccessTokens(credentials(endpoint.url), session, None, clock=lambda: now)
        deadline = asyncio.get_running_loop().time() + 5

        async def until(count: int) -> None:
            async with asyncio.timeout(5):
                while len(endpoint.requests) < count or tokens._fetch:  # noqa: ASYNC110 - no notification
                    await asyncio.sleep(0.001)

        assert await tokens.current(deadline) == "Canary-token-1"
        now = ahead_at - 10
        assert await tokens.current(deadline) == "Canary-token-1"
        assert len(endpoint.requests) == 1
        # While the next one is fetched, the current one is used.
        now = ahead_at
        assert await tokens.current(deadline) == "Canary-token-1"
        await until(2)
        assert await tokens.current(deadline) == "Canary-token-2"
        # Without attempts, nothing is fetched.
        now += expired_at
        assert await tokens.current(deadline) == "Canary-token-3"


def answering(body: bytes, **headers: str) -> Answer:
    return status(200, body=body, **headers)


@pytest.mark.case("S-64")
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(401, body=b'{"error": "invalid_client"}'), "the token endpoint answered 401 invalid_client"),
        (status(400, body=b'{"error": "S3cret"}'), "the token endpoint answered 400"),
        (status(500, body=b"[" * 60_000), "the token endpoint answered 500"),
        (redirect("http://127.0.0.1/S3cret"), "the token endpoint answered 302"),
        (answering(b"S3cret"), "the answer of the token endpoint contains no access_token"),
        (answering(b"[" * 60_000), "the answer of the token endpoint contains no access_token"),
        (answering(b'{"access_token": 5}'), "the answer of the token endpoint contains no access_token"),
        (
            answering(b'{"access_token": ""}'),
            "the access_token of the token endpoint can't be sent in a header",
        ),
        (
            answering(b'{"access_token": "S3cret\\r\\nHost: b"}'),
            "the access_token of the token endpoint can't be sent in a header",
        ),
        (
            answering(b'{"access_token": "S3cret", "token_type": "mac"}'),
            "the token endpoint issues tokens of another type than Bearer",
        ),
        (answering(b" " * 70_000), "the answer of the token endpoint is longer than 64 KiB"),
        (raw(b"S3cret\r\n\r\n"), "at the token endpoint: the answer is not HTTP"),
        (raw(b""), "at the token endpoint: the connection ended before a reply"),
        (hang(), "the token endpoint did not answer in time"),
    ],
)
async def test_without_a_token_nothing_is_sent_and_the_error_says_why(
    destination: ScriptedDestination,
    endpoint: TokenEndpoint,
    answer: Answer,
    error: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access_tokens, "FETCH_TIMEOUT", 0.2)
    endpoint.script.append(answer)
    first, second = await attempts(2, destination, endpoint.url)

    assert (first.reason, first.error) == ("connect", f"no access token: {error}")
    # The next attempt comes at once, and does not ask again.
    assert (second.reason, second.error, len(endpoint.requests)) == (first.reason, first.error, 1)
    assert destination.requests == []


async def test_an_attempt_does_not_wait_for_a_token_longer_than_its_timeout(
    destination: ScriptedDestination, endpoint: TokenEndpoint
) -> None:
    endpoint.script.append(hang())
    (outcome,) = await attempts(1, destination, endpoint.url, within=0.1)

    assert outcome.error == "no access token: the token endpoint did not answer in time"
    assert outcome.duration < 2


async def test_the_authority_of_tls_applies_to_the_token_endpoint(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    server, client = tls_server(tmp_path, "localhost")
    (root,) = client.get_ca_certs(binary_form=True)
    pem = base64.encodebytes(root).decode()
    (tmp_path / "ca.pem").write_text(f"-----BEGIN CERTIFICATE-----\n{pem}-----END CERTIFICATE-----\n")
    tls = ClientTls("billing", TlsFiles(tmp_path / "ca.pem"))
    async with token_endpoint(server) as endpoint:
        (trusted,) = await attempts(1, destination, endpoint.url, tls)
        (other,) = await attempts(1, destination, endpoint.url)

    assert trusted.reason == "ok"
    assert other.reason == "tls"
    assert (other.error or "").startswith("no access token: at the token endpoint: certificate verify failed")
    assert len(destination.requests) == 1
