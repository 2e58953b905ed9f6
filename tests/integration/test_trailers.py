"""Trailers of a chunked request are never headers, neither of the request itself nor of the next one."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import pytest

from doubles import providers
from doubles.ambiguous import READ as TRAILERS
from doubles.destination import ScriptedDestination
from doubles.raw import connected, exchange, head, request
from gateways import RunGateway, Running

CONFIG = """
server: {{listen: "127.0.0.1:0", public_url: "https://hooks.example.com", trusted_proxies: [127.0.0.1]}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  acme:
    verify:
      type: hmac
      signature: {{header: X-Signature}}
      signed: "{{body}}"
    secrets: env:SECRET
    event:
      id: "{{body:id}}"
      type: "{{body:type}}"
      subject: "{{header:X-Subject}}"
      account: "{{header:X-Account}}"
    dedupe: {{by: ["{{header:X-Delivery-Id}}", "{{body:id}}"]}}
  mando: {{provider: mando, secrets: [env:SECRET]}}
  hisab: {{provider: hisab, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}"}}
routes:
  - {{from: "*", to: app}}
"""
BODY = providers.body(id="evt_1", type="sale.created", data={})
SIGNATURE = providers.mando(BODY)["X-Mando-Signature"]
SIGNED = [f"{name}: {value}" for name, value in providers.mando(BODY).items()]
#: Requests with trailers that are answered before, while and after their bodies arrive.
FIRST = {
    "accepted": head("Transfer-Encoding: chunked", *SIGNED) + b"%x\r\n%s\r\n" % (len(BODY), BODY),
    "not verified": head("Transfer-Encoding: chunked") + b"2\r\n{}\r\n",
    "unknown path": head("Transfer-Encoding: chunked", target="/nowhere") + b"2\r\n{}\r\n",
    "another method": head("Transfer-Encoding: chunked", method="PUT") + b"2\r\n{}\r\n",
    "a coding": head("Transfer-Encoding: chunked", "Content-Encoding: gzip") + b"2\r\n{}\r\n",
    "asks first": head("Transfer-Encoding: chunked", "Expect: 100-continue", target="/nowhere")
    + b"2\r\n{}\r\n",
}


@pytest.fixture
async def running(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway whose sources read many kinds of headers."""
    async with run_gateway(CONFIG.format(url=destination.url)) as gateway:
        yield gateway


def unsigned(number: int) -> bytes:
    """Write a request that lacks only what a trailer might add."""
    body = providers.body(id=f"evt_{number}", type="sale.created", data={})
    return request(body, "X-Forwarded-For: 198.51.100.7")


def signed(number: int, *lines: str) -> bytes:
    body = providers.body(id=f"evt_{number}", type="sale.created", data={})
    headers = [f"{name}: {value}" for name, value in providers.mando(body).items()]
    return request(body, *headers, "X-Forwarded-For: 198.51.100.7", *lines)


async def stored(running: Running) -> float:
    metrics = await running.metrics()
    return sum(value for (name, *_), value in metrics.items() if name == "gatehouse_events_total")


async def until_closed(running: Running, *pieces: bytes) -> bytes:
    """Send the pieces one after the other; return all answers until the gateway closes."""
    async with connected(running) as wire, asyncio.timeout(5):
        for piece in pieces:
            wire.writer.write(piece)
            await wire.writer.drain()
            await asyncio.sleep(0.001)  # so that they are read one by one
        return await wire.reader.read()


@pytest.mark.case("F-01")
@pytest.mark.parametrize("trailer", TRAILERS)
async def test_a_trailer_does_not_become_a_header_of_the_next_request(
    running: Running, destination: ScriptedDestination, logged: io.StringIO, trailer: str
) -> None:
    end = f"0\r\n{trailer}: {TRAILERS[trailer]}\r\n\r\n".encode()
    next_ones = signed(2) + unsigned(3)
    for name, first in FIRST.items():
        for pieces in ([first + end + next_ones], [first, end, next_ones], [first, end + next_ones]):
            answers = await until_closed(running, *pieces)

            # Either the first request is answered, or all of them are refused; the rest is never read.
            assert answers.count(b"HTTP/1.1 ") == 1, (name, answers)
            assert b"Connection: close\r\n" in answers
    answer = await exchange(running, signed(4, "Connection: close"))
    arrived = await destination.wait_for(int(await stored(running)))
    (delivered,) = [json.loads(each.body) for each in arrived if b'"evt_4"' in each.body]
    accepted = [json.loads(line) for line in logged.getvalue().splitlines() if '"request.accepted"' in line]

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert await stored(running) <= 2
    assert accepted[-1]["client"] == "198.51.100.7"
    assert "traceparent" not in delivered
    assert "forged" not in json.dumps(delivered)


@pytest.mark.case("F-01")
async def test_a_trailer_does_not_become_a_header_of_the_same_request(
    running: Running, destination: ScriptedDestination
) -> None:
    body = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)
    late = head("Transfer-Encoding: chunked") + body + f"X-Mando-Signature: {SIGNATURE}\r\n\r\n".encode()
    named = head("Transfer-Encoding: chunked", f"X-Signature: {SIGNATURE[7:]}", target="/webhooks/acme")

    assert (await until_closed(running, late)).startswith(b"HTTP/1.1 401 ")
    answer = await until_closed(running, named + body + b"X-Subject: forged\r\nX-Account: forged\r\n\r\n")
    (delivered,) = await destination.wait_for(1)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"forged" not in delivered.body


@pytest.mark.case("F-01")
async def test_a_trailer_verifies_nothing_wherever_it_is_split(running: Running) -> None:
    trailer = f"X-Mando-Signature: {SIGNATURE}\r\n\r\n".encode()
    first, following = FIRST["unknown path"] + b"0\r\n", request(BODY)
    for at in range(len(trailer) + 1):
        answers = await until_closed(running, first + trailer[:at], trailer[at:] + following)

        assert answers.count(b"HTTP/1.1 ") == 1
        assert answers.startswith(b"HTTP/1.1 404 ")
    assert await stored(running) == 0


@pytest.mark.case("F-01")
async def test_each_chunked_request_is_answered_on_its_own_connection(running: Running) -> None:
    """A client that keeps connections sees that this one is closed, and opens another."""
    for number in range(20):
        body = providers.body(id=f"evt_{number}", type="sale.created", data={})
        assert (await running.send("mando", body, providers.mando(body), chunked=True))[0] == 200
    assert await stored(running) == 20
