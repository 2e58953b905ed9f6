"""Every request gets the right answer, a count and one log line, and never a traceback or a 500."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sqlite3
import time
from pathlib import Path

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from gateways import BASIC, CONFIG, SIGNING_SECRET, RunGateway, Running

BODY = providers.body(id="evt_1", type="sale.created", data={})


async def raw(running: Running, sent: bytes, *, within: float = 5.0) -> bytes:
    """Send bytes unchanged, and read until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.ingest.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(within):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def head(*lines: str, target: str = "/webhooks/mando", method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/webhooks",
        "/webhooks/",
        "/webhooks/nobody",
        "/webhooks/mando/",
        "/webhooks/MANDO",
        "//webhooks/mando",
        "/webhooks/../webhooks/mando",
        "/webhooks/%6dando",
        "/webhooks/mando%00",
        "/webhooks/mando;x",
        "/metrics",
    ],
)
async def test_an_unknown_path_is_404(running: Running, path: str) -> None:
    answer = await raw(running, head("Content-Length: 2", "Connection: close", target=path) + b"{}")

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"code":"not_found"' in answer
    assert (await running.metrics())["gatehouse_requests_total", "not_found", "_unknown"] == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_any_method_but_post_is_405(running: Running, method: str) -> None:
    async with running.client.request(method, f"{running.url}/webhooks/mando") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
        assert (await answer.json())["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "gzip, identity", "UTF-8, gzip"])
async def test_a_compressed_body_is_415(running: Running, encoding: str) -> None:
    headers = providers.mando(BODY) | {"Content-Encoding": encoding}

    status, answer = await running.send("mando", BODY, headers)

    assert (status, answer["error"]["code"]) == (415, "unsupported_encoding")


async def test_a_second_content_encoding_counts_as_the_first_does(running: Running) -> None:
    signed = "".join(f"{name}: {value}\r\n" for name, value in providers.mando(BODY).items())
    head = f"POST /webhooks/mando HTTP/1.1\r\nHost: h\r\nContent-Length: {len(BODY)}\r\n{signed}"
    coded = "Content-Encoding: identity\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"

    assert (await raw(running, (head + coded).encode() + BODY)).startswith(b"HTTP/1.1 415 ")


@pytest.mark.case("F-24")
@pytest.mark.parametrize("value", ["identity", "UTF-8", "utf-8, identity", "", "text/plain", "none", "é"])
async def test_a_value_that_is_not_a_content_coding_is_ignored(running: Running, value: str) -> None:
    headers = providers.mando(BODY) | {"Content-Encoding": value}

    assert (await running.send("mando", BODY, headers))[0] == 200


@pytest.mark.alone
@pytest.mark.parametrize("sent", [b'{"i', b""])
async def test_a_missing_body_is_408(
    run_gateway: RunGateway, destination: ScriptedDestination, sent: bytes
) -> None:
    config = CONFIG.replace('"127.0.0.1:0", public', '"127.0.0.1:0", request_deadline: 200ms, public')
    async with run_gateway(config.format(url=destination.url)) as running:
        started = time.monotonic()
        answer = await raw(running, head("Content-Length: 10") + sent)

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 3
        assert (await running.metrics())["gatehouse_requests_total", "timeout", "mando"] == 1


async def test_a_slow_body_is_408(run_gateway: RunGateway, destination: ScriptedDestination) -> None:
    config = CONFIG.replace('"127.0.0.1:0", public', '"127.0.0.1:0", request_deadline: 200ms, public')
    async with run_gateway(config.format(url=destination.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.ingest.port)
        writer.write(head("Content-Length: 1000"))
        # Only the first line: data that arrives while the gateway closes resets the connection.
        answer = asyncio.create_task(reader.readline())
        while not answer.done():
            writer.write(b"x")
            await asyncio.wait([answer], timeout=0.02)
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        writer.transport.abort()


@pytest.mark.case("S-03", "S-05", "S-17")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Mando-Signature": ""},
        {"X-Mando-Signature": "sha256="},
        {"X-Mando-Signature": "sha256=" + "0" * 64},
        {"X-Mando-Signature": "x" * 4000},
    ],
)
async def test_an_unverified_request_is_401_without_a_reason(
    running: Running, headers: dict[str, str]
) -> None:
    status, answer = await running.send("mando", BODY, headers)

    message = "the request could not be verified"
    assert (status, answer) == (401, {"error": {"code": "unauthorized", "message": message}})
    assert (await running.metrics())["gatehouse_events_total", "mando"] == 0


@pytest.mark.case("S-06", "S-24")
async def test_a_signature_header_with_odd_bytes_is_401(running: Running) -> None:
    sent = head("Content-Length: 2", "Connection: close").replace(
        b"Host", b"X-Mando-Signature: \xe9\xff\r\nHost"
    )

    assert (await raw(running, sent + b"{}")).startswith(b"HTTP/1.1 401 ")


@pytest.mark.case("S-07")
async def test_a_repeated_signature_header_is_401(running: Running) -> None:
    signature = providers.mando(BODY)["X-Mando-Signature"]
    lines = [f"X-Mando-Signature: {signature}"] * 2
    sent = head(f"Content-Length: {len(BODY)}", "Connection: close", *lines) + BODY

    assert (await raw(running, sent)).startswith(b"HTTP/1.1 401 ")
    scraped = await running.metrics()
    assert scraped["gatehouse_verification_failures_total", "duplicate_header", "mando"] == 1


@pytest.mark.case("S-14")
async def test_a_request_signed_for_one_source_is_refused_by_another(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.format(url=destination.url).replace(
        "sources:", "sources:\n  shop: {provider: mando, secrets: [env:OTHER]}"
    )
    async with run_gateway(config, OTHER="another-secret-of-some-length") as running:
        assert (await running.send("shop", BODY, providers.mando(BODY)))[0] == 401


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        head("Content-Length: 2", "Content-Length: 3") + b"{}x",
        head("Content-Length: +2") + b"{}",
        head("Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head("Transfer-Encoding: xchunked") + b"0\r\n\r\n",
        head("X : y"),
        head("X: " + "y" * 20_000),
        head(*[f"X-{number}: y" for number in range(200)]),
        head("X: a\0b"),
        head(target="/" + "x" * 10_000),
    ],
)
async def test_bytes_that_are_not_http_are_400_and_close_the_connection(
    running: Running, logged: io.StringIO, sent: bytes
) -> None:
    answer = await raw(running, sent)

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b'"code":"bad_request"' in answer
    assert "Traceback" not in logged.getvalue()
    assert "GARBAGE" not in logged.getvalue()
    assert (await running.metrics())["gatehouse_requests_total", "malformed", "_unknown"] == 1


async def test_a_malformed_chunk_is_400(running: Running) -> None:
    answer = await raw(running, head("Transfer-Encoding: chunked") + b"zz\r\nnope\r\n")

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))


async def test_a_client_that_disconnects_during_its_body_causes_no_traceback(
    running: Running, logged: io.StringIO
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", running.gateway.ingest.port)
    writer.write(head("Content-Length: 1000") + b"secret-looking-bytes")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await running.until(("gatehouse_requests_total", "malformed", "mando"), 1)

    assert "Traceback" not in logged.getvalue()
    assert "secret-looking-bytes" not in logged.getvalue()


async def test_a_client_that_expects_100_continue_gets_it(running: Running) -> None:
    headers = providers.mando(BODY) | {"Expect": "100-continue"}

    assert (await running.send("mando", BODY, headers))[0] == 200


async def test_a_client_that_expects_100_continue_is_refused_before_it_sends_too_much(
    running: Running,
) -> None:
    lines = ("Content-Length: 9000000", "Expect: 100-continue", "Connection: close")
    answer = await raw(running, head(*lines), within=15)

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    one = (
        head(f"Content-Length: {len(BODY)}", *(f"{k}: {v}" for k, v in providers.mando(BODY).items())) + BODY
    )
    last = head("Connection: close", "Content-Length: 0", target="/nobody")

    answer = await raw(running, one * 3 + last)

    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.index(b'"accepted"') < answer.index(b'"duplicate"') < answer.index(b"HTTP/1.1 404 ")


@pytest.mark.case("S-20", "S-21")
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"not json", b"\xff\xfe", b'{"id":1,"id":2}'])
async def test_a_verified_but_unreadable_request_is_stored_and_forwarded(
    running: Running, destination: ScriptedDestination, body: bytes
) -> None:
    status, answer = await running.send("mando", body, providers.mando(body))
    (received,) = await destination.wait_for(1)
    event = json.loads(received.body)

    assert (status, answer["status"]) == (200, "accepted")
    assert event["type"] == "gatehouse.unreadable"
    assert base64.b64decode(event["data_base64"]) == body
    assert (await running.metrics())["gatehouse_unreadable_events_total", "mando"] == 1


async def test_a_source_without_its_secret_answers_503_while_the_others_serve(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.format(url=destination.url).replace(
        "mandato, secrets: [env:SECRET]", "mandato, secrets: [env:NO]"
    )
    async with run_gateway(config) as running:
        body = providers.body(id="1", type="invoice.paid")
        async with running.client.post(
            f"{running.url}/webhooks/mandato", data=body, headers=providers.mandato(body)
        ) as refused:
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
        assert (await running.send("mando", BODY, providers.mando(BODY)))[0] == 200
        scraped = await running.metrics()
        assert scraped["gatehouse_source_ready", "mandato"] == 0
        assert scraped["gatehouse_source_ready", "mando"] == 1


@pytest.mark.alone
async def test_a_locked_store_is_503_within_a_second_writes_nothing_later_and_recovers(
    running: Running, tmp_path: Path
) -> None:
    lock = sqlite3.connect(tmp_path / "gatehouse.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    answers = await asyncio.gather(
        *(running.send("mando", sent, providers.mando(sent)) for sent in map(numbered, range(20)))
    )
    took = time.monotonic() - started
    lock.execute("ROLLBACK")

    assert {status for status, _ in answers} == {503}
    assert took < 1.5
    while (await running.send("mando", BODY, providers.mando(BODY)))[0] != 200:  # noqa: ASYNC110 - as a provider does
        await asyncio.sleep(0.05)
    stored = lock.execute("SELECT count(*) FROM events").fetchone()
    lock.close()
    assert stored == (1,)
    assert {
        (await running.send("mando", numbered(n), providers.mando(numbered(n))))[1]["status"]
        for n in range(20)
    } == {"accepted"}


def numbered(number: int) -> bytes:
    return providers.body(id=f"evt_{number:05}", type="sale.created", data={})


async def test_an_event_without_a_route_is_stored_and_answered(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.format(url=destination.url).replace('from: "*"', "from: hisab")
    async with run_gateway(config) as running:
        status, answer = await running.send("mando", BODY, providers.mando(BODY))

        assert (status, answer["status"]) == (200, "accepted")
        scraped = await running.metrics()
        assert scraped["gatehouse_events_total", "mando"] == 1
        assert scraped["gatehouse_deliveries_pending", "app"] == 0


async def test_an_event_is_delivered_to_every_routed_destination(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with ScriptedDestination() as second:
        config = CONFIG.format(url=destination.url) + '  - {from: mando, types: ["sale.*"], to: other}\n'
        config = config.replace("destinations:", f'destinations:\n  other: {{url: "{second.url}"}}')
        async with run_gateway(config) as running:
            _, answer = await running.send("mando", BODY, providers.mando(BODY))
            (first_got,) = await destination.wait_for(1)
            (second_got,) = await second.wait_for(1)

    assert first_got.event_id == second_got.event_id == answer["id"]
    assert "webhook-signature" not in second_got.headers


async def test_status_codes_that_a_provider_demands(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    answers = "secrets: [env:SECRET], answers: {{accepted: 202, unauthorized: 400}}"
    config = CONFIG.replace("mando, secrets: [env:SECRET]", f"mando, {answers}").format(url=destination.url)
    async with run_gateway(config) as running:
        assert (await running.send("mando", BODY, providers.mando(BODY)))[0] == 202
        assert (await running.send("mando", BODY, {}))[0] == 400


async def test_no_secret_signature_or_body_is_logged_or_scraped(
    running: Running, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    body = providers.body(id="evt_1", type="sale.created", data={"canary": "body-canary-123"})
    headers = providers.mando(body)
    await running.send("mando", body, headers)
    await running.send("mando", body, headers | {"Authorization": "Bearer header-canary-123"})
    await running.send("mando", body + b" ", headers)
    await running.send("nobody", body, headers)
    await destination.wait_for(1)
    async with running.client.get(f"{running.operator_url}/metrics") as scraped:
        seen = logged.getvalue() + await scraped.text()

    signature = headers["X-Mando-Signature"].removeprefix("sha256=")
    canaries = [signature, "body-canary-123", "header-canary-123", providers.SECRET, SIGNING_SECRET, BASIC]
    assert [canary for canary in canaries if canary in seen] == []
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert [line["event"] for line in lines].count("request.accepted") == 1
    assert [line["event"] for line in lines].count("request.duplicate") == 1
    assert [line["event"] for line in lines].count("request.rejected") == 2


async def test_random_paths_add_no_series(running: Running) -> None:
    before = len(await running.metrics())
    for number in range(200):
        async with running.client.post(f"{running.url}/{number}", data=b"") as answer:
            assert answer.status == 404

    assert len(await running.metrics()) == before
