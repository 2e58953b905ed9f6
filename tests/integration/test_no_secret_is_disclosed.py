"""Marked secrets, signatures, credentials and bodies appear in no log, metric, answer or command output."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from doubles import providers
from doubles.destination import ScriptedDestination, raw, reset, status
from gatehouse.cli import main
from gatehouse.delivery import forwarder
from gatehouse.ingest.source import Source
from gatehouse.operator import responses
from gateways import CONFIG as SMALL
from gateways import RunGateway
from processes import GatewayProcess, serving


def planted(name: str) -> str:
    """Make a text that can't occur by chance."""
    return f"Canary-{name}-7f3Qz91LmX"


SIGNING = b"Canary-signing-key-of-32-bytes--"
ENVIRONMENT = {
    "MANDO": planted("provider-secret"),
    "HEADER": planted("header-token"),
    "QUERY": planted("query-token"),
    "BASIC": "user:" + planted("basic-password"),
    "SIGNING": "whsec_" + base64.b64encode(SIGNING).decode(),
    "OPERATOR": planted("operator-token"),
}
FILED = planted("secret-in-a-file")
CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0", token: env:OPERATOR}}
store: {{min_free: 0}}
sources:
  mando: {{provider: mando, secrets: [env:MANDO, "file:secret"]}}
  header: {{verify: {{type: token, header: X-Shop-Token}}, secrets: env:HEADER, event: {{type: a}}}}
  query: {{verify: {{type: token, query: key}}, secrets: env:QUERY, event: {{type: a}}}}
  basic: {{verify: {{type: basic}}, secrets: env:BASIC, event: {{type: a}}}}
destinations:
  app:
    url: "{url}"
    secret: env:SIGNING
    format: raw
    headers: ["*"]
    timeout: 1s
    concurrency: 1
    retry: {{first: 10ms, max: 10ms, give_up_after: 2s}}
  tls: {{url: "{tls}", retry: {{first: 10ms, max: 10ms, give_up_after: 100ms}}}}
routes: [{{from: "*", to: [app, tls]}}]
"""
BODY = planted("body")
#: Unverified parts of requests: unrelated credentials, and a trace.
CREDENTIALS = {
    "Authorization": "Bearer " + planted("authorization"),
    "Proxy-Authorization": "Basic " + planted("proxy-authorization"),
    "Cookie": "session=" + planted("cookie"),
    "X-Api-Key": planted("api-key"),
    "X-Auth-Token": planted("auth-token"),
}
REFERER = f"https://user:{planted('referer-password')}@hooks.example.com/?token={planted('referer-token')}"
IN_URLS = f"https://user:{planted('url-password')}@hooks.example.com/?token={planted('url-token')}"
REPLY = planted("reply")
WRONG_SIGNATURE = "c0ffee" * 10 + "beef"
#: Values in a config that is refused.
WRITTEN = planted("written-out")


def canaries(signatures: list[str]) -> list[str]:
    values = [*ENVIRONMENT.values(), FILED, BODY, REPLY, REFERER, IN_URLS, WRITTEN, WRONG_SIGNATURE]
    values += [value.partition(" ")[2] or value for value in CREDENTIALS.values()]
    values += [planted(name) for name in ("basic-password", "referer-password", "referer-token", "cookie")]
    values += [planted(name) for name in ("url-password", "url-token", "head", "destination-url")]
    values += [SIGNING.decode(), base64.b64encode(SIGNING).decode(), *signatures]
    values += [base64.b64encode(ENVIRONMENT["BASIC"].encode()).decode()]
    return values


def hits(said: dict[str, str], looked_for: list[str]) -> list[tuple[str, str]]:
    """Find the marked values in the outputs, in any encoding."""
    return [
        (where, text)
        for where, output in said.items()
        for text in looked_for
        if text.lower() in output.lower()
        or text.encode().hex() in output.lower()
        or base64.b64encode(text.encode()).decode().rstrip("=")[:-2] in output
    ]


class Sent:
    """Sends requests to a gateway, and keeps every answer and every signature."""

    def __init__(self, gateway: GatewayProcess, client: aiohttp.ClientSession) -> None:
        self.gateway, self.client = gateway, client
        self.said: dict[str, str] = {}
        self.signatures: list[str] = []

    async def post(self, target: str, body: bytes, **headers: str) -> int:
        headers = CREDENTIALS | {"Referer": REFERER} | headers
        async with self.client.post(
            self.gateway.url + target, data=io.BytesIO(body), headers=headers
        ) as answer:
            self.said[f"answer {len(self.said)} to {target.partition('?')[0]}"] = (
                f"{answer.headers} {await answer.text()}"
            )
            return answer.status

    async def event(self, number: int, **headers: str) -> int:
        body = providers.body(id=str(number), type="sale.created", data={"text": BODY})
        signed = providers.mando(body, secret=ENVIRONMENT["MANDO"])
        self.signatures.append(signed["X-Mando-Signature"].removeprefix("sha256="))
        return await self.post("/webhooks/mando", body, **signed, **headers)

    async def exchange(self, sent: bytes) -> None:
        host, port = self.gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(15):
            self.said[f"answer {len(self.said)} to bytes"] = (await reader.read()).decode(errors="replace")
        writer.close()
        await writer.wait_closed()

    async def operator(self, method: str, path: str, token: str | None = None, **given: Any) -> Any:
        headers = {"Authorization": f"Bearer {token or ENVIRONMENT['OPERATOR']}"}
        url = self.gateway.operator_url + path
        async with self.client.request(method, url, headers=headers, **given) as answer:
            text = await answer.text()
            self.said[f"operator {len(self.said)}: {method} {path}"] = f"{answer.headers} {text}"
            return json.loads(text) if answer.content_type == "application/json" else text


async def send_all_kinds(sent: Sent) -> None:
    """Send accepted requests, duplicates, and requests that are refused for every possible reason."""
    assert await sent.event(1) == 200
    assert await sent.event(1) == 200
    assert [await sent.event(number) for number in range(2, 8)] == [200] * 6
    signed = {"X-Shop-Token": ENVIRONMENT["HEADER"]}
    assert await sent.post("/webhooks/header", b'{"text": "%s"}' % BODY.encode(), **signed) == 200
    assert await sent.post(f"/webhooks/query?key={ENVIRONMENT['QUERY']}", BODY.encode()) == 200
    basic = base64.b64encode(ENVIRONMENT["BASIC"].encode()).decode()
    assert await sent.post("/webhooks/basic", BODY.encode(), Authorization=f"Basic {basic}") == 200
    wrong = {"X-Mando-Signature": f"sha256={WRONG_SIGNATURE}"}
    assert await sent.post("/webhooks/mando", BODY.encode(), **wrong) == 401
    # Signed with an unknown secret and with that of another source, which the diagnosis tries.
    body = BODY.encode()
    for secret in (FILED, ENVIRONMENT["HEADER"]):
        headers = providers.mando(body + b"\n", secret=secret)
        sent.signatures.append(headers["X-Mando-Signature"].removeprefix("sha256="))
        assert await sent.post("/webhooks/mando", body, **headers) == 401
    assert await sent.post("/webhooks/header", body, **{"X-Shop-Token": planted("api-key")}) == 401
    assert await sent.post(f"/webhooks/query?key={planted('url-token')}", body) == 401
    assert await sent.post("/webhooks/basic", body) == 401
    assert await sent.post("/webhooks/mando", BODY.encode() * 60_000) == 413
    assert await sent.post("/webhooks/mando", body, **{"Content-Encoding": "gzip"}) == 415
    assert await sent.post(f"/{BODY}?token={planted('url-token')}", body) == 404
    async with sent.client.put(f"{sent.gateway.url}/webhooks/mando?token={planted('url-token')}") as answer:
        assert answer.status == 405


async def send_broken(sent: Sent) -> None:
    """Send malformed HTTP, URLs with passwords, and heads without their bodies."""
    canary = planted("head").encode()
    await sent.exchange(canary + b"\r\n\r\n")
    await sent.exchange(b"POST /webhooks/mando HTTP/1.1\r\nHost: h\r\n" + canary + b" : x\r\n\r\n")
    await sent.exchange(
        b"POST /webhooks/mando HTTP/1.1\r\nHost: h\r\nContent-Length: " + canary + b"\r\n\r\n"
    )
    await sent.exchange(b"POST " + IN_URLS.encode() + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    await sent.exchange(b"POST /webhooks/mando HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n" + canary)


async def operate(sent: Sent, config: Path) -> None:
    """Read and change everything over the API, reload valid and invalid configs, and lock the store."""
    operator = sent.operator
    for path in ("events", "deliveries", "deliveries?status=dead", "destinations", "sources", "handshakes"):
        await operator("GET", f"/api/v1/{path}")
    for path in ("/metrics", "/healthz", "/readyz", "/api/v1/rejected?limit=500", f"/{BODY}", "/-/reload"):
        await operator("GET", path)
    await operator("GET", f"/metrics?token={ENVIRONMENT['OPERATOR']}", planted("auth-token"))
    for row in (await operator("GET", "/api/v1/rejected"))["rejected"]:
        await operator("GET", f"/api/v1/rejected/{row['id']}")
    (newest, *_) = (await operator("GET", "/api/v1/events"))["events"]
    await operator("POST", f"/api/v1/events/{newest['id']}/replay")
    await operator("POST", "/api/v1/deliveries/retry", json={"all": True})
    await operator("POST", "/api/v1/deliveries/retry", json={BODY: WRITTEN})
    await operator("POST", "/api/v1/deliveries/retry", data=BODY.encode())
    text = config.read_text()
    for bad in (
        f"sources: {{a: {{provider: mando, secrets: {WRITTEN}}}}}",
        f"sources: [{WRITTEN}",
        text + WRITTEN,
    ):
        config.write_text(bad)
        assert (await operator("POST", "/-/reload"))["error"]["code"] == "bad_config"
    config.write_text(text.replace("env:HEADER", "env:NOT_SET"))
    assert "env:NOT_SET" in json.dumps(await operator("POST", "/-/reload"))
    config.write_text(text)
    assert (await operator("POST", "/-/reload"))["status"] == "reloaded"
    with closing(sqlite3.connect(config.parent / "gatehouse.db", isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        assert await sent.event(99) == 503
        await operator("GET", "/api/v1/events")
        lock.execute("ROLLBACK")


async def stored_event(sent: Sent) -> str:
    """Return an event as an operator sees it, without body, plain headers and replies, which belong there."""
    (*_, oldest) = (await sent.operator("GET", "/api/v1/events"))["events"]
    key = f"/api/v1/events/{oldest['id']}"
    event = await sent.operator("GET", key)
    assert BODY in event["body"], "the body is what an operator asks this for"
    sent.said.popitem()
    headers = [pair for pair in event["headers"] if pair[0] != "referer"]
    attempts = [attempt for one in event["deliveries"] for attempt in one["attempts"]]
    assert any(attempt["error"] for attempt in attempts)
    for attempt in attempts:
        attempt["reply"] = None
    return json.dumps(event | {"body": None, "headers": headers})


def command_lines(sent: Sent, folder: Path) -> Iterator[tuple[str, ...]]:
    """List commands that read the config, use the API, or explain a request."""
    at = ("--operator", sent.gateway.operator_url)
    bad = folder / "bad.yaml"
    bad.write_text(
        f"sources: {{a: {{provider: mando, secrets: [{WRITTEN}]}}}}\noperator: {{token: {WRITTEN}}}\n"
        f"destinations: {{b: {{url: '{IN_URLS}', secret: whsec_{WRITTEN}}}}}\n"
        f"server: {{public_url: '{IN_URLS}'}}\n"
    )
    saved = folder / "saved.http"
    head = "".join(f"{name}: {value}\r\n" for name, value in CREDENTIALS.items())
    signature = f"X-Mando-Signature: sha256={WRONG_SIGNATURE}\r\n"
    saved.write_text(f"POST /webhooks/mando HTTP/1.1\r\n{head}{signature}\r\n{BODY}")
    yield from (("check",), ("check", "-c", str(bad)), ("route", "mando", "sale.created"))
    yield from (("verify", "mando", str(saved)), ("verify", "--json", "mando", str(saved)))
    yield from (
        ("events", *at),
        ("dead", *at),
        ("retry", "--all", *at),
        ("reload", *at),
        ("pause", "app", *at),
    )
    yield from (("resume", "app", *at), ("send", "mando", "--url", sent.gateway.url))
    yield ("send", "mando", "--url", "http://127.0.0.1:1")


def run(arguments: tuple[str, ...], config: Path, **environment: str) -> str:
    given = ENVIRONMENT | {"GATEHOUSE_CONFIG": str(config)} | environment
    result = CliRunner(env=given).invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), arguments
    assert "Usage:" not in result.output, result.output
    return result.output


@pytest.mark.case("S-48")
async def test_no_output_contains_a_secret_signature_credential_or_body(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(FILED)
    config = tmp_path / "gateway.yaml"
    # Never enough consecutive failures to open the breaker.
    text = REPLY.encode()
    destination.script(
        *(reset(), status(503, body=text, x_note=REPLY, set_cookie=REPLY, retry_after=REPLY), status(200)),
        *(raw(text * 10), raw(f"HTTP/1.1 200 {REPLY}\r\n{REPLY}\r\n\r\n".encode()), status(200)),
        *(status(302, location=IN_URLS), status(410, body=text), status(200), status(400, body=text)),
    )
    url = f"{destination.url}?key={planted('destination-url')}"
    config.write_text(CONFIG.format(url=url, tls=url.replace("http:", "https:")))
    async with aiohttp.ClientSession() as client, serving(config, **ENVIRONMENT) as gateway:
        sent = Sent(gateway, client)
        await send_all_kinds(sent)
        await send_broken(sent)
        await destination.wait_for(12)
        await operate(sent, config)
        event = await stored_event(sent)
        commands = {
            f"gatehouse {' '.join(line[:2])}": await asyncio.to_thread(run, line, config)
            for line in command_lines(sent, tmp_path)
        }
        gateway.terminate()
        assert await gateway.wait() == 0

    log = {"log": "\n".join(json.dumps(line, ensure_ascii=False) for line in gateway.log)}
    events = {line["event"] for line in gateway.log}
    assert {"request.accepted", "request.duplicate", "request.rejected", "delivery.attempted"} <= events
    assert {"delivery.dead", "config.reload_failed", "event.replayed"} <= events
    assert {"unauthorized", "malformed", "too_large", "unavailable"} <= {
        line.get("outcome") for line in gateway.log
    }
    reasons = {line.get("reason") for line in gateway.log}
    assert {"server_error", "disconnected", "invalid_reply", "redirect", "gone", "tls"} <= reasons
    assert len(sent.said) > 50
    looked_for = canaries(sent.signatures)
    assert len(looked_for) > 30
    assert hits(sent.said | {"an event": event} | commands | log, looked_for) == []


@pytest.mark.case("S-48")
def test_check_does_not_print_the_query_or_fragment_of_a_url(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(FILED)
    config = tmp_path / "gateway.yaml"
    url = f"http://app.internal/events?key={planted('destination-url')}"
    config.write_text(CONFIG.format(url=url, tls=url))
    printed = run(("check",), config)

    assert "http://app.internal/events" in printed
    assert planted("destination-url") not in printed


@pytest.mark.case("S-48")
async def test_files_on_the_disk_contain_no_secret_signature_or_credential(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    """The store contains bodies, as it must, and headers that are known not to be secret."""
    (tmp_path / "secret").write_text(FILED)
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(url=destination.url, tls=destination.url))
    async with aiohttp.ClientSession() as client, serving(config, **ENVIRONMENT) as gateway:
        sent = Sent(gateway, client)
        await send_all_kinds(sent)
        gateway.terminate()
        assert await gateway.wait() == 0

    (file,) = tmp_path.glob("gatehouse.db")
    found = {"the store": file.read_bytes().decode("latin-1")}
    looked_for = [text for text in canaries(sent.signatures) if text not in (BODY, REFERER)]
    assert BODY in found["the store"]
    assert hits(found, [text for text in looked_for if "referer" not in text]) == []


@pytest.mark.case("S-48")
async def test_an_internal_error_is_logged_with_its_place_and_without_values(
    run_gateway: RunGateway,
    destination: ScriptedDestination,
    logged: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A traceback ends with the error's message, which may quote any value."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(BODY)

    async with run_gateway(SMALL.format(url=destination.url)) as running:
        body = providers.body(id="1", type="a", data={"text": BODY})
        with monkeypatch.context() as patched:
            patched.setattr(forwarder, "encode", broken)
            assert (await running.send("mando", body, providers.mando(body)))[0] == 200
            await running.until(("gatehouse_attempts_total", "app", "unsendable"), 1)
        monkeypatch.setattr(Source, "kept_headers", broken)
        code, answer = await running.send("mando", body, providers.mando(body))
        monkeypatch.setattr(responses, "page_answer", broken)
        async with running.client.get(f"{running.operator_url}/api/v1/events") as asked:
            assert asked.status == 500
            answers = [str(answer), await asked.text()]

    assert code == 503
    assert logged.getvalue().count("RuntimeError") >= 3
    assert BODY not in logged.getvalue() + "".join(answers)
