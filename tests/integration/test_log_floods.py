"""No request can fill the log, break its lines, or cause errors of the listener itself."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import aiohttp
import msgspec
import pytest

from doubles.raw import exchange
from gatehouse.telemetry import log
from gateways import RunGateway, Running

CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  open:
    verify: {type: none, insecure: true}
    event: {type: "{body:type}", split: "{body:items}"}
"""
REQUESTS = 1000


def lines(logged: io.StringIO, event: str) -> list[dict[str, Any]]:
    found = map(json.loads, logged.getvalue().splitlines())
    return [line for line in found if line["event"] == event]


@pytest.mark.case("F-15")
async def test_a_flood_of_refused_requests_is_a_few_lines_and_a_count(
    running: Running, logged: io.StringIO
) -> None:
    for _ in range(REQUESTS):
        async with running.client.post(f"{running.url}/nowhere", data=b"x") as answer:
            assert answer.status == 404
    async with asyncio.timeout(10):
        while not lines(logged, "log.lines_suppressed"):  # noqa: ASYNC110 - a log is polled
            await asyncio.sleep(0.01)
    await running.gateway.ingest.stop(1)  # it reports the suppressed lines
    log.flush()

    refused, suppressed = lines(logged, "request.rejected"), lines(logged, "log.lines_suppressed")
    assert len(refused) < REQUESTS / 2
    assert {line["of"] for line in suppressed} == {"request.rejected"}
    assert len(refused) + sum(line["count"] for line in suppressed) == REQUESTS


@pytest.mark.case("F-15")
async def test_a_flood_at_one_source_does_not_suppress_the_lines_of_another(
    running: Running, logged: io.StringIO
) -> None:
    for _ in range(100):
        await running.send("mando", b"{}", {})
    await running.send("mandato", b"{}", {})

    assert [line["source"] for line in lines(logged, "request.rejected")].count("mandato") == 1


@pytest.mark.case("F-15")
async def test_the_line_of_a_large_batch_is_short_and_counts_the_events(
    run_gateway: RunGateway, logged: io.StringIO
) -> None:
    body = msgspec.json.encode({"items": [{"type": "made.up", "number": number} for number in range(1000)]})
    async with run_gateway(CONFIG) as running:
        status, answer = await running.send("open", body, {})
        assert (status, len(answer["ids"])) == (200, 1000)

    (line,) = lines(logged, "request.accepted")
    assert line["events"] == 1000
    assert line["event_id"] == [*answer["ids"][:20], "and 980 more"]


@pytest.mark.case("F-15")
@pytest.mark.parametrize(
    "sent",
    [
        b"CONNECT \r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"CONNECT x\r\n\r\n",
        b"CONNECT : HTTP/1.1\r\n\r\n",
        b"\x00" * 64,
    ],
)
async def test_a_parser_error_is_400_and_not_an_error_of_the_gateway(
    running: Running, logged: io.StringIO, sent: bytes
) -> None:
    answer = await exchange(running, sent)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert lines(logged, "http.error") == lines(logged, "request.failed") == []


@pytest.mark.case("F-15")
@pytest.mark.parametrize("limit", ["9" * 5000, "0" * 5000, "-1", "1e3", "٣", ""])
async def test_a_limit_outside_1_to_500_is_400(running: Running, limit: str) -> None:
    for path in ("rejected", "events", "deliveries"):
        url = f"{running.operator_url}/api/v1/{path}"
        async with running.client.get(url, params={"limit": limit}) as answer:
            assert answer.status == 400
            assert "limit" in (await answer.json())["error"]["message"]


@pytest.mark.case("F-15")
@pytest.mark.parametrize("host", ["x:80:80", "127.0.0.1:port", "127.0.0.1:99999", "[", ""])
async def test_an_invalid_host_header_is_refused_by_the_operator_listener(
    running: Running, logged: io.StringIO, host: str
) -> None:
    url = f"{running.operator_url}/metrics"
    async with aiohttp.ClientSession() as client, client.get(url, headers={"Host": host}) as answer:
        assert answer.status in (400, 403)
    assert lines(logged, "http.error") == []
