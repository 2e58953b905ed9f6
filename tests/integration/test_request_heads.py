"""Unusual request heads: targets, methods, protocols, interim answers and header values."""

from __future__ import annotations

import asyncio
import hmac
import io
import json

import pytest

from doubles import providers
from doubles.ambiguous import CANARY
from doubles.destination import ScriptedDestination
from doubles.raw import connected, exchange, head, request
from gateways import CONFIG, RunGateway, Running
from raw_requests import BODY, CLOSE, MIB, SIGNED, stored


@pytest.mark.case("S-36")
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "TRACE", "DELETE", "PATCH", "PROPFIND"])
async def test_another_method_is_405_and_echoes_nothing(running: Running, method: str) -> None:
    answer = await exchange(running, head(f"X-Echo: {CANARY}", CLOSE, method=method))

    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: POST" in answer
    assert CANARY.encode() not in answer


@pytest.mark.case("S-36")
@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (head(CLOSE, method="CONNECT", target="evil.example:443"), {b"404", b"405", b"400"}),
        (head("Upgrade: websocket", "Connection: Upgrade, close", method="GET"), {b"405"}),
        (head("Upgrade: h2c", "HTTP2-Settings: AAA", "Connection: Upgrade, HTTP2-Settings, close"), {b"401"}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {b"400"}),
        (head(CLOSE, version="1.0"), {b"401"}),
        (head(CLOSE, version="3.0"), {b"400"}),
        (head(CLOSE, version="0.9"), {b"400", b"401"}),
        (b"GET /\r\n\r\n", {b"400", b"404"}),
        (head(CLOSE, target=f"http://evil.example/{CANARY}"), {b"404"}),
        (head(CLOSE, target="*", method="OPTIONS"), {b"404", b"400"}),
    ],
)
async def test_other_protocols_get_a_plain_answer(
    running: Running, logged: io.StringIO, sent: bytes, statuses: set[bytes]
) -> None:
    answer = await exchange(running, sent)

    assert answer[9:12] in statuses
    assert CANARY not in logged.getvalue()
    assert "http.error" not in logged.getvalue()
    assert await stored(running) == 0


ABSOLUTE = [
    "http://hooks.example.com/webhooks/mando",
    "https://hooks.example.com/webhooks/mando",
    "HTTP://HOOKS.EXAMPLE.COM:8080/webhooks/mando",
    "http://[::1]:8080/webhooks/mando",
    "http://hooks.example.com/webhooks/mando?a=b",
]


@pytest.mark.case("F-27")
@pytest.mark.parametrize("target", ABSOLUTE)
async def test_a_target_may_be_an_absolute_url(running: Running, target: str) -> None:
    answer = await exchange(running, request(BODY, *SIGNED, CLOSE, target=target))

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.case("F-27")
@pytest.mark.parametrize("target", ["http://other.example/in?a=b", "HTTPS://h:1/in?a=b", "/in?a=b"])
async def test_the_signed_part_of_a_target_is_its_path_and_query(
    run_gateway: RunGateway, destination: ScriptedDestination, target: str
) -> None:
    """In any form of the target; a rejected request is kept for the operator with the same values."""
    sources = """
sources:
  acme:
    path: /in
    verify:
      type: hmac
      signature: {{header: X-Signature}}
      signed: "{{method}} {{path}} {{query:a}} {{url}}"
    secrets: env:SECRET
    event: {{type: made}}
"""
    before, _, after = CONFIG.partition("sources:")
    config = f"{before.strip()}{sources}destinations:{after.partition('destinations:')[2]}"
    text = "POST /in b https://hooks.example.com/in?a=b"
    signature = hmac.new(providers.SECRET.encode(), text.encode(), "sha256").hexdigest()
    async with run_gateway(config.format(url=destination.url)) as running:
        taken = await exchange(running, request(b"{}", f"X-Signature: {signature}", CLOSE, target=target))
        refused = await exchange(running, request(b"{}", "X-Signature: 00", CLOSE, target=target))
        async with running.client.get(f"{running.operator_url}/api/v1/rejected") as kept:
            listed = json.dumps(await kept.json())

    assert (taken[9:12], refused[9:12]) == (b"200", b"401")
    assert "other.example" not in listed


@pytest.mark.case("F-27")
@pytest.mark.parametrize(
    ("target", "method"),
    [
        ("*", "OPTIONS"),
        ("hooks.example.com:443", "CONNECT"),
        ("http://user@hooks.example.com/webhooks/mando", "POST"),
        ("ftp://hooks.example.com/webhooks/mando", "POST"),
        ("http:///webhooks/mando", "POST"),
    ],
)
async def test_a_target_that_is_neither_a_path_nor_a_url_is_400(
    running: Running, target: str, method: str
) -> None:
    answer = await exchange(
        running, request(BODY, *SIGNED, target=target).replace(b"POST", method.encode(), 1)
    )

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert await stored(running) == 0


@pytest.mark.case("F-28")
@pytest.mark.parametrize(
    "fields",
    [
        [f"X-DocuSign-Signature-{number}: {'A' * 44}" for number in range(1, 101)],
        ["X-Forwarded-Client-Cert: " + "A" * 16_000],
        [f"X-{number}: {'A' * 8_000}" for number in range(7)],
    ],
    ids=["100 signatures", "a certificate", "56 KB"],
)
async def test_the_heads_of_real_clients_are_accepted(running: Running, fields: list[str]) -> None:
    answer = await exchange(running, request(BODY, *SIGNED, *fields, CLOSE))

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.case("S-38")
@pytest.mark.parametrize(
    ("lines", "target", "method", "status"),
    [
        ([f"Content-Length: {9 * MIB}"], "/webhooks/mando", "POST", b"413"),
        (["Content-Length: 100"], "/webhooks/nobody", "POST", b"404"),
        (["Content-Length: 100"], "/webhooks/mando", "PUT", b"405"),
        (["Content-Length: 100", "Content-Encoding: gzip"], "/webhooks/mando", "POST", b"415"),
        (["Content-Length: 100"], "/webhooks/mando", "POST", b"100"),
    ],
)
async def test_100_continue_is_sent_only_for_an_acceptable_head(
    running: Running, lines: list[str], target: str, method: str, status: bytes
) -> None:
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(head(*lines, "Expect: 100-continue", target=target, method=method))

        assert (await wire.reader.readuntil(b"\r\n"))[9:12] == status


@pytest.mark.case("F-31")
async def test_an_http_1_0_client_gets_no_interim_answer(running: Running) -> None:
    lines = (f"Content-Length: {len(BODY)}", *SIGNED, "Expect: 100-continue")
    async with connected(running) as wire, asyncio.timeout(5):
        wire.writer.write(head(*lines, version="1.0"))
        await wire.writer.drain()
        # In a separate packet, as from a client that would wait if it could.
        await asyncio.sleep(0)
        wire.writer.write(BODY)

        assert (await wire.reader.read()).startswith(b"HTTP/1.0 200 ")


@pytest.mark.case("S-24")
async def test_header_values_that_are_not_text_are_neither_stored_nor_forwarded(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    raw = "format: raw, headers: [X-*], secret: env:SIGNING"
    config = CONFIG.format(url=destination.url).replace("secret: env:SIGNING", raw)
    async with run_gateway(config) as running:
        odd = b"X-Odd: \xe9\xff\xed\xa0\x80\r\nX-Controls: a\tb\r\n"
        sent = request(BODY, *SIGNED, CLOSE).replace(b"Host", odd + b"X-Fine: fine\r\nHost")
        assert (await exchange(running, sent))[9:12] == b"200"
        (received,) = await destination.wait_for(1)

    assert received.body == BODY
    assert received.headers["X-Fine"] == "fine"
    assert "X-Odd" not in received.headers
    assert "X-Controls" not in received.headers


PATHS = [
    "/webhooks/../webhooks/mando",
    "/webhooks/%2e%2e/webhooks/mando",
    "/webhooks%2fmando",
    "//webhooks/mando",
    "/webhooks/mando;x",
    "/webhooks/mando%00",
    "/WEBHOOKS/mando",
    "/webhooks/m\N{CYRILLIC SMALL LETTER A}ndo",
    "/webhooks/mando/..%2f..%2fetc/passwd",
    "/" + "x" * 8000,
]


@pytest.mark.case("S-39")
@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_resembles_a_sources_path_is_404(running: Running, path: str) -> None:
    """Neither a redirect nor a file."""
    answer = await exchange(running, request(BODY, *SIGNED, CLOSE, target=path))

    assert answer[9:12] in {b"404", b"400"}
    assert b"Location" not in answer
    assert await stored(running) == 0
