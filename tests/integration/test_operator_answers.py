"""Every answer of the operator listener is data that a browser can't run, cache or frame."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.config.load import parse
from gatehouse.errors import ConfigError
from gatehouse.operator import connections, responses
from gateways import CONFIG, RunGateway, Running

TOKEN = "operator-token-of-some-length"
WITH_TOKEN = CONFIG.replace(
    'operator: {{listen: "127.0.0.1:0"}}', 'operator: {{listen: "127.0.0.1:0", token: env:T}}'
)
HTML = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\"' onmouseover=alert(1) javascript:alert(1)<svg/>"
)
#: Every kind of answer: existing paths, refused requests and missing paths.
GETS = (
    *("/healthz", "/readyz", "/metrics", "/api/v1/events", "/api/v1/deliveries", "/api/v1/destinations"),
    *("/api/v1/sources", "/api/v1/rejected", "/api/v1/handshakes", "/api/v1/events/nope"),
    *("/api/v1/events?limit=0", "/-/reload", "/api/nope", "/metrics/nope"),
)
#: What the page answers with HTML, if the client accepts it.
PAGES = ("/events", "/login", "/nope")
DATA = ("application/json", "text/plain")
NOT_THERE = (
    *("/static", "/static/", "/static/x.js", "/static/../gatehouse.db", "/static/%2e%2e/gatehouse.db"),
    *("/static/..%2f..%2fgatehouse.db", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"),
    *("/gateway.yaml", "/gatehouse.db", "/.git/config", "/favicon.ico", "/index.html", "/api/v1/../../x"),
    *("/api", "/api/v1", "/api/v1/", "/metrics/", "/METRICS", "/debug/pprof", "/config", "/static\\..\\x"),
)


@pytest.fixture
async def locked(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway whose operator listener has a token."""
    async with run_gateway(WITH_TOKEN.format(url=destination.url), T=TOKEN) as running:
        yield running


async def ask(
    running: Running, path: str, *, method: str = "GET", **headers: str
) -> tuple[int, str, dict[str, str]]:
    """Send a request with exactly this path. Returns status, body and headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.operator.port)
    given = {"Host": "127.0.0.1", "Connection": "close"} | headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(5):
        answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    return int(first.split()[1]), body, dict(line.lower().split(": ", 1) for line in rest)


def assert_is_inert(headers: dict[str, str], *, kinds: tuple[str, ...] = DATA) -> None:
    assert headers["content-type"].partition(";")[0] in kinds
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'", "sandbox"} == set(policy)
    assert headers["x-frame-options"] == "deny"
    assert headers["server"] == "gatehouse"
    assert not {"set-cookie", "access-control-allow-origin", "location"} & set(headers)


@pytest.mark.case("S-49", "S-52")
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
async def test_no_answer_can_be_run_cached_or_framed(running: Running, accept: str) -> None:
    for path in GETS:
        _, _, headers = await ask(running, path, Accept=accept)
        assert_is_inert(headers)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        _, _, headers = await ask(running, "/api/v1/events/x/replay", method=method, Accept=accept)
        assert_is_inert(headers)


@pytest.mark.case("S-49", "S-52")
async def test_the_page_runs_only_its_own_script_and_cannot_be_framed(running: Running) -> None:
    for path in PAGES:
        _, _, headers = await ask(running, path, Accept="text/html")
        policy = headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'"} < set(
            policy
        )
        assert {"frame-ancestors 'none'", "base-uri 'none'", "trusted-types 'none'"} < set(policy)
        assert headers["cache-control"] == "no-store"
        assert headers["server"] == "gatehouse"
    _, _, headers = await ask(running, "/nope")
    assert_is_inert(headers)


@pytest.mark.case("S-52")
async def test_no_refusal_can_be_run_cached_or_framed(locked: Running) -> None:
    for number in range(12):
        code, _, headers = await ask(locked, "/api/v1/events", Authorization=f"Bearer guess-{number}")
        assert code == (401 if number < 10 else 429)
        assert_is_inert(headers)


@pytest.mark.case("S-49", "S-52")
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
async def test_an_internal_error_quotes_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError(HTML)

    monkeypatch.setattr(responses, "page_answer", broken)
    code, body, headers = await ask(running, "/api/v1/events", Accept=accept)

    assert code == 500
    assert "alert" not in body
    # The fixed texts of aiohttp.
    assert_is_inert(headers, kinds=("text/plain", "text/html"))


@pytest.mark.case("S-49", "S-52")
async def test_a_malformed_request_is_not_quoted(running: Running) -> None:
    for head in ({"Cookie": f"session={TOKEN * 400}"}, {"X-Note": f"{TOKEN}\0"}, {TOKEN + " ": "x"}):
        code, body, headers = await ask(running, "/events", **head)
        assert (code, json.loads(body)["error"]["code"]) == (400, "bad_request")
        assert TOKEN not in body
        assert_is_inert(headers)


@pytest.mark.case("S-50")
async def test_an_opaque_origin_or_a_broken_cookie_is_no_way_in(running: Running) -> None:
    """The origin `null` of a sandboxed page must not match a request without a host."""
    for host in ("", "127.0.0.1"):
        code, *_ = await ask(running, "/destinations/app/pause", method="POST", Host=host, Origin="null")
        assert code == 403
        code, *_ = await ask(
            running, "/api/v1/destinations/app/pause", method="POST", Host=host, Origin="null"
        )
        assert code == 403
    assert not (await running.ask("/api/v1/destinations"))["destinations"][0]["paused"]
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.operator.port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\nCookie: gatehouse_session=\xff\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.case("S-61")
async def test_idle_connections_keep_nobody_out(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 5)
    port = running.gateway.operator.port
    reading = await running.client.get(f"{running.operator_url}/api/v1/stream")
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]

    assert (await ask(running, "/healthz"))[0] == 200
    async with asyncio.timeout(5):
        assert await idle[0][0].read() == b"", "the oldest one was closed"
    assert not reading.content.at_eof(), "a request in progress goes on"
    reading.close()
    for _, writer in idle:
        writer.close()


@pytest.mark.case("S-49")
async def test_markup_in_every_field_comes_back_as_json_text(
    running: Running, destination: ScriptedDestination
) -> None:
    body = providers.body(id=HTML, type=HTML, createdAt=HTML, data={"id": HTML, HTML: HTML})
    sent = providers.mando(body) | {"X-Note": HTML, "User-Agent": HTML, "Content-Type": HTML}
    destination.always(status(410, body=HTML.encode()))
    code, answer = await running.send("mando", body, sent)
    assert code == 200
    assert (await running.send("mando", body, sent | {"X-Mando-Signature": HTML}))[0] == 401
    await running.until(("gatehouse_deliveries_dead", "app"), 1)

    shows = ("events", f"events/{answer['id']}", "deliveries", "rejected", "sources")
    texts = []
    for name in shows:
        code, text, headers = await ask(running, f"/api/v1/{name}", Accept="text/html")
        assert code == 200
        assert headers["content-type"].startswith("application/json")
        assert_is_inert(headers)
        json.loads(text)
        texts.append(text)
    assert any("<script>" in text for text in texts), "nothing was shown, so nothing was tried"


@pytest.mark.case("S-49")
async def test_markup_in_a_request_comes_back_as_json_text(running: Running) -> None:
    asked = "%3Cscript%3Ealert(1)%3C/script%3E"
    for path in ("/api/v1/{}", "/api/v1/events/{}", "/api/v1/events?{}=1", "/api/v1/rejected/{}"):
        code, text, headers = await ask(running, path.format(asked), Accept="text/html")
        assert code in (400, 404)
        assert_is_inert(headers)
        assert "error" in json.loads(text)


@pytest.mark.case("S-54")
async def test_no_files_are_served(running: Running) -> None:
    answers = {path: await ask(running, path) for path in NOT_THERE}

    assert {code for code, *_ in answers.values()} == {404}
    assert {text for _, text, _ in answers.values()} == {answers["/static"][1]}
    for _, _, headers in answers.values():
        assert_is_inert(headers)


@pytest.mark.case("S-54")
async def test_without_the_token_all_paths_look_the_same(locked: Running) -> None:
    answers = [await ask(locked, path) for path in (*NOT_THERE, "/metrics", "/api/v1/events")]

    assert {(code, text) for code, text, _ in answers} == {(401, answers[0][1])}


@pytest.mark.case("S-50")
async def test_a_token_in_the_query_or_a_cookie_or_given_twice_is_refused(locked: Running) -> None:
    right = f"Bearer {TOKEN}"
    assert (await ask(locked, "/metrics", Authorization=right))[0] == 200
    for path, headers in (
        (f"/metrics?token={TOKEN}&access_token={TOKEN}&Authorization=Bearer%20{TOKEN}", {}),
        ("/metrics", {"Cookie": f"token={TOKEN}"}),
        ("/metrics", {"X-Api-Key": TOKEN}),
        ("/metrics", {"Proxy-Authorization": right}),
        ("/metrics", {"Authorization": right, "authorization": right}),
        ("/metrics", {"Authorization": f"Bearer {TOKEN[:-1]}"}),
        ("/metrics", {"Authorization": f"Bearer  {TOKEN}"}),
        ("/metrics", {"Authorization": f"Bearer {TOKEN}\N{LATIN SMALL LETTER E WITH ACUTE}"}),
    ):
        assert (await ask(locked, path, **headers))[0] == 401, (path, headers)


@pytest.mark.case("S-50")
@pytest.mark.parametrize(
    "listen", [":9090", "0.0.0.0:9090", "[::]:9090", "10.0.0.1:9090", "gate.internal:9090"]
)
def test_a_listener_beyond_loopback_requires_a_token(listen: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        parse(f'sources: {{}}\noperator: {{listen: "{listen}"}}')


@pytest.mark.case("S-55")
async def test_guesses_are_counted_by_the_address_of_the_connection_not_by_headers(locked: Running) -> None:
    said = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "CF-Connecting-IP")
    codes = []
    for number in range(20):
        spoofed = dict.fromkeys(said, f"203.0.113.{number}")
        codes.append((await ask(locked, "/metrics", Authorization=f"Bearer guess-{number}", **spoofed))[0])

    assert codes == [401] * 10 + [429] * 10


@pytest.mark.case("S-57")
async def test_a_thousand_wrong_tokens_are_throttled(locked: Running, logged: io.StringIO) -> None:
    guesses = [
        await ask(locked, "/metrics", Authorization=f"Bearer guess-{number}") for number in range(1000)
    ]
    assert [code for code, *_ in guesses] == [401] * 10 + [429] * 990

    # The correct token gets the same answer. Otherwise the answer would reveal the token.
    code, _, headers = await ask(locked, "/metrics", Authorization=f"Bearer {TOKEN}")
    assert code == 429
    assert 1 <= int(headers["retry-after"]) <= 60
    assert (await ask(locked, "/healthz"))[0] == 200
    refused = locked.gateway.metrics.operator_refused
    assert refused["unauthorized"].value == 10
    assert refused["throttled"].value == 991
    assert logged.getvalue().count('"event":"operator.throttled","client":"127.0.0.1"') == 1
