"""Behind nginx, Caddy and HAProxy, as deploy/ configures them, no request hides in another or changes it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from doubles import providers
from doubles.ambiguous import READ, SHAPES
from doubles.destination import ScriptedDestination
from doubles.proxies import HOST, Front, find, proxying
from doubles.raw import Wire, head, request
from gateways import CONFIG, RunGateway, Running
from machine import lacking

#: Seconds until an incomplete exchange through a proxy is given up.
PATIENCE = 5.0
ACCEPTED = b'{"status":"accepted"'
TRUSTING = CONFIG.replace('"127.0.0.1:0", public', '"127.0.0.1:0", trusted_proxies: [127.0.0.1], public')


class Chain(NamedTuple):
    """A gateway behind a proxy."""

    gateway: Running
    front: Front

    async def exchange(self, *sent: bytes) -> bytes:
        """Send bytes unchanged to the proxy; read until it closes or stays silent for long."""
        reader, writer = await self.front.connect()
        received = b""
        try:
            writer.write(b"".join(sent))
            while piece := await asyncio.wait_for(reader.read(65_536), PATIENCE):
                received += piece
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return received

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Wire]:
        """Connect as a client that keeps its connection."""
        reader, writer = await self.front.connect()
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def accepted(self) -> int:
        """Count the stored events."""
        return int((await self.gateway.metrics())["gatehouse_events_total", "mando"])

    async def seen(self) -> int:
        """Count the requests that the gateway received, whatever their outcome."""
        scraped = await self.gateway.metrics()
        return int(sum(value for (name, *_), value in scraped.items() if name == "gatehouse_requests_total"))


@pytest.fixture(params=["nginx", "caddy", "haproxy", "haproxy, http-reuse always"])
async def chain(
    request: pytest.FixtureRequest, run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> AsyncIterator[Chain]:
    """Run each proxy. CI must have all of them; elsewhere, tests of a missing proxy are skipped."""
    name: str = request.param
    if find(name) is None:
        lacking(f"no {name}: run tests/integration/fetch_proxies.sh, or set GATEHOUSE_TEST_…")
    (folder := tmp_path / "proxy").mkdir()
    async with (
        run_gateway(TRUSTING.format(url=destination.url)) as gateway,
        proxying(name, gateway.gateway.ingest.port, folder) as front,
    ):
        yield Chain(gateway, front)


def signed(number: int, *lines: str) -> bytes:
    body = providers.body(id=f"evt_{number}", type="sale.created", data={})
    headers = [f"{name}: {value}" for name, value in providers.mando(body).items()]
    return to_the_host(request(body, *headers, *lines))


def from_the_gateway(answers: bytes) -> int:
    """Count the answers of the gateway; the proxies' own answers differ."""
    return answers.count(b'{"error":{"code":') + answers.count(b'{"status":"')


def to_the_host(sent: bytes) -> bytes:
    return sent.replace(b"Host: h", b"Host: " + HOST.encode(), 1)  # the hidden request keeps its length


@pytest.mark.case("S-34")
async def test_each_answer_goes_to_the_sender_of_its_request(chain: Chain) -> None:
    wrong = {}
    for number, (name, shape) in enumerate(SHAPES.items()):
        seen, accepted = await chain.seen(), await chain.accepted()
        answers = await chain.exchange(to_the_host(shape), signed(number, "Connection: close"))
        seen, accepted = await chain.seen() - seen, await chain.accepted() - accepted
        # Other clients, over the connections that the proxy keeps to the gateway.
        others = [await chain.exchange(signed(100 * number + n, "Connection: close")) for n in (101, 102)]
        *before, last = answers.split(b"HTTP/1.")
        if (
            seen != from_the_gateway(answers)
            or accepted != last.count(ACCEPTED)  # the rest is answered last, or refused together
            or any(ACCEPTED in answer for answer in before)
            or any(answer.count(ACCEPTED) != 1 for answer in others)
        ):
            wrong[name] = (seen, accepted, answers, others)

    assert wrong == {}


@pytest.mark.case("F-01")
async def test_no_client_changes_how_requests_of_others_are_parsed(
    chain: Chain, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    """Not through any header that the gateway reads, as a trailer or as a header, over the
    proxy's connections.
    """
    sent, wrong = 0, {}
    for name, value in READ.items():
        chunked = head("Transfer-Encoding: chunked", "TE: trailers", f"Trailer: {name}")
        trailing = chunked + f"2\r\n{{}}\r\n0\r\n{name}: {value}\r\n\r\n".encode()
        async with AsyncExitStack() as stack:
            for attack in (trailing, request(b"{}", f"{name}: {value}")):
                # It stays connected, so that the proxy keeps its connections.
                mallory = await stack.enter_async_context(chain.client())
                mallory.writer.write(to_the_host(attack))
                # The proxy may wait for the rest of bytes that it cannot parse.
                with contextlib.suppress(ConnectionError, TimeoutError):
                    await asyncio.wait_for(mallory.reader.read(65_536), 0.5)
                other = await stack.enter_async_context(chain.client())
                for _ in range(4):
                    sent += 1
                    other.writer.write(signed(sent))
                    answer = await asyncio.wait_for(other.answer(), PATIENCE)
                    if ACCEPTED not in answer:
                        wrong[name, sent] = answer
    arrived = await destination.wait_for(sent - len(wrong), within=30)
    accepted = [json.loads(line) for line in logged.getvalue().splitlines() if '"request.accepted"' in line]

    assert wrong == {}
    assert {line["client"] for line in accepted} == {"127.0.0.1"}
    assert not [each for each in arrived if b"forged" in each.body or b"traceparent" in each.body]
    assert not [each for each in arrived if "traceparent" in each.headers]


@pytest.mark.case("F-28")
async def test_the_heads_of_real_clients_pass_the_proxies(chain: Chain) -> None:
    heads = [
        [f"X-DocuSign-Signature-{number}: {'A' * 44}" for number in range(1, 101)],
        ["X-Forwarded-Client-Cert: " + "A" * 16_000],
        [f"X-{number}: {'A' * 8_000}" for number in range(6)],
    ]
    for number, fields in enumerate(heads):
        assert ACCEPTED in await chain.exchange(signed(number, *fields, "Connection: close"))


@pytest.mark.case("S-55")
async def test_the_proxy_drops_an_address_that_the_sender_claims(chain: Chain, logged: io.StringIO) -> None:
    claims = ["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2", "X-Real-IP: 10.0.0.3"]
    answer = await chain.exchange(signed(1, *claims, "Forwarded: for=10.0.0.4", "Connection: close"))

    assert ACCEPTED in answer
    accepted = [json.loads(line) for line in logged.getvalue().splitlines() if '"request.accepted"' in line]
    assert [line["client"] for line in accepted] == ["127.0.0.1"]
