"""Hostile HTTP gets the right answer, in bounded memory and time, and never reaches the log."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from doubles import providers
from doubles.ambiguous import CANARY, SHAPES
from doubles.destination import ScriptedDestination
from doubles.raw import connected, exchange, head, request
from gateways import RunGateway, Running
from growth import growing
from raw_requests import BODY, CLOSE, MIB, SIGNED, legitimate, lines, seen, stored, with_server


def rss() -> int:
    """Return the resident memory of this process, gateway and test together (bytes)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.fixture
async def impatient(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway that waits half a second for a head, and as long for a body."""
    config = with_server("idle_timeout: 500ms, request_deadline: 500ms")
    async with run_gateway(config.format(url=destination.url)) as running:
        yield running


@pytest.mark.case("S-06")
@pytest.mark.parametrize(
    "value", [b"\xe9\xff", b"\xed\xa0\x80", "\N{SNOWMAN}".encode(), b"\x01\x02\x1b[31m", b"x" * 8000, b"\t\t"]
)
async def test_a_signature_of_odd_bytes_is_401(running: Running, value: bytes) -> None:
    """Control characters may be refused as malformed HTTP."""
    sent = request(BODY, CLOSE).replace(b"Host", b"X-Mando-Signature: " + value + b"\r\nHost")

    answer = await exchange(running, sent)

    assert answer[9:12] in {b"401", b"400"}
    assert await stored(running) == 0


@pytest.mark.case("S-07")
@pytest.mark.parametrize("order", ["good bad", "bad good", "good good"])
async def test_a_repeated_signature_is_401(running: Running, order: str) -> None:
    signature = providers.mando(BODY)["X-Mando-Signature"]
    values = {"good": signature, "bad": "sha256=" + "0" * 64}
    twice = [f"X-Mando-Signature: {values[each]}" for each in order.split()]

    assert (await exchange(running, request(BODY, *twice, CLOSE))).startswith(b"HTTP/1.1 401 ")


@pytest.mark.case("S-17")
async def test_an_unknown_source_and_an_unknown_path_get_the_same_answer(running: Running) -> None:
    """Paths are not secret: unknown ones are 404. The failed check of a known path stays secret."""
    unknown = {
        await exchange(running, request(b"{}", CLOSE, target=path)) for path in ("/webhooks/nobody", "/x")
    }
    refused = {
        await exchange(running, request(BODY, CLOSE, *headers))
        for headers in ([], ["X-Mando-Signature: x"], ["X-Mando-Signature: sha256=" + "0" * 64])
    }

    def without_date(answers: set[bytes]) -> set[bytes]:
        return {
            b"\n".join(part for part in each.split(b"\n") if not part.startswith(b"Date")) for each in answers
        }

    assert len(without_date(unknown)) == len(without_date(refused)) == 1


@pytest.mark.case("S-30")
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
async def test_a_body_at_the_limit_is_accepted_and_one_byte_more_is_413(
    run_gateway: RunGateway, destination: ScriptedDestination, chunked: bool
) -> None:
    async with run_gateway(with_server("max_body: 4KiB").format(url=destination.url)) as running:
        for over, status in ((0, b"200"), (1, b"413")):
            body = BODY + b" " * (4096 + over - len(BODY))
            lines = [f"{name}: {value}" for name, value in providers.mando(body).items()]
            sent = request(body, *lines, CLOSE)
            if chunked:
                sent = head("Transfer-Encoding: chunked", *lines, CLOSE)
                sent += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

            assert (await exchange(running, sent))[9:12] == status
            assert await stored(running) == 1


@pytest.mark.case("S-30")
async def test_a_wrong_length_stores_nothing(impatient: Running) -> None:
    """With a longer length the gateway waits in vain; with a shorter one the body differs, and
    no request follows.
    """
    long = head(f"Content-Length: {len(BODY) + 5}", *SIGNED) + BODY
    short = head(f"Content-Length: {len(BODY) - 5}", *SIGNED) + BODY

    assert (await exchange(impatient, long)).startswith(b"HTTP/1.1 408 ")
    answers = await exchange(impatient, short)

    assert answers[9:12] in {b"401", b"400"}
    assert b" 200 " not in answers
    assert answers.count(b"HTTP/1.") <= 2
    assert await stored(impatient) == 0


@pytest.mark.case("S-31")
async def test_a_chunk_costs_the_same_however_many_precede_it(running: Running) -> None:
    for chunks in growing(MIB):
        sent = head("Transfer-Encoding: chunked", CLOSE) + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n"

        assert (await exchange(running, sent, within=20))[9:12] in {b"401", b"413"}


@pytest.mark.alone
@pytest.mark.case("S-31")
@pytest.mark.parametrize(
    "end",
    [
        b"2;" + b"x" * 65_536 + b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"".join(b"T%d: x\r\n" % number for number in range(10_000)) + b"\r\n",
        b"2\r\n{}\r\n0\r\nT: " + b"x" * 100_000 + b"\r\n\r\n",
        b"ffffffffffffffffff\r\n{}",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["extension", "trailers", "long trailer", "huge", "negative", "hex prefix"],
)
async def test_malicious_chunks_are_refused_quickly(running: Running, end: bytes) -> None:
    started = time.monotonic()
    answer = await exchange(running, head("Transfer-Encoding: chunked", CLOSE) + end)

    assert answer[9:10] == b"4"
    assert time.monotonic() - started < 3
    assert await stored(running) == 0


@pytest.mark.case("S-32")
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate, gzip", "GZIP", "x-gzip"])
async def test_compressed_bodies_are_415_and_never_decompressed(running: Running, coding: str) -> None:
    """200 bombs of 1:1000 at once. The process grows by less than 10 MB plus the sent bytes."""
    bomb = gzip.compress(bytes(8 * MIB))
    sent = request(bomb, f"Content-Encoding: {coding}", CLOSE)
    await exchange(running, sent)
    before = rss()

    answers = await asyncio.gather(*(exchange(running, sent) for _ in range(200)))

    assert {answer[9:12] for answer in answers} == {b"415"}
    assert rss() - before < 10 * MIB + 200 * len(sent)


@pytest.mark.alone
@pytest.mark.case("S-33")
async def test_slow_and_idle_connections_are_closed_and_do_not_delay_others(
    impatient: Running,
) -> None:
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(impatient)) for _ in range(400)]
        slow = [b"", b"POST /webhooks/mando HTTP/1.1\r\nHost: ", head("Content-Length: 1000") + b"{"]
        for number, wire in enumerate(wires):
            wire.writer.write(slow[number % 3])
        slowest = max([await legitimate(impatient, number) for number in range(50)])
        async with asyncio.timeout(5):
            ends = await asyncio.gather(*(wire.reader.read() for wire in wires))

    assert slowest < 1
    assert {end[9:12] for end in ends} == {b"", b"408"}


@pytest.mark.case("S-33")
@pytest.mark.parametrize(
    ("begun", "ending"),
    [(b"POST /webhooks/mando HTTP/1.1\r\nX: ", b""), (head("Content-Length: 100000"), b"408")],
    ids=["head", "body"],
)
async def test_a_trickling_request_is_cut_off(impatient: Running, begun: bytes, ending: bytes) -> None:
    """A further byte does not extend the deadline."""
    async with connected(impatient) as wire, asyncio.timeout(5):
        wire.writer.write(begun)
        ended = asyncio.create_task(wire.reader.readline())
        while not ended.done():
            wire.writer.write(b"X")
            await asyncio.wait([ended], timeout=0.02)

        assert (await ended)[9:12] == ending


@pytest.mark.case("S-34")
@pytest.mark.parametrize("sent", SHAPES.values(), ids=SHAPES)
async def test_an_ambiguous_request_is_400_and_closes_the_connection(
    running: Running, logged: io.StringIO, sent: bytes
) -> None:
    """The gateway reads no second request from it."""
    before = await seen(running)
    answer = await exchange(running, sent)

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert answer.count(b"HTTP/1.") == await seen(running) - before == 1
    assert CANARY not in logged.getvalue()


@pytest.mark.case("S-35")
@pytest.mark.parametrize(
    "sent",
    [
        head(*[f"X-{number}: y" for number in range(129)]),
        head(target="/" + "x" * 8191),
        head("X: " + "y" * 16_385),
        head(*[f"X-{number}: " + "y" * 8000 for number in range(9)]),
        head(*[f"X-{number}: " + "y" * 8000 for number in range(60)]),
        b"POST /webhooks/mando HTTP/1.1\r\n"
        + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 8000) for n in range(60)),
    ],
    ids=["129 headers", "long target", "long header", "72 KB", "480 KB", "480 KB without an end"],
)
async def test_an_oversized_head_is_400(running: Running, sent: bytes) -> None:
    assert (await exchange(running, sent))[9:12] == b"400"


@pytest.mark.case("S-35")
async def test_a_hundred_pipelined_requests_are_answered_in_order(running: Running) -> None:
    sent = request(BODY, *SIGNED) + request(b"{}", target="/x") * 98 + request(b"{}", CLOSE, target="/y")

    answers = (await exchange(running, sent)).split(b"HTTP/1.1 ")[1:]

    assert [answer[:3] for answer in answers] == [b"200"] + [b"404"] * 99


@pytest.mark.case("S-35")
async def test_a_client_that_never_reads_its_answers_is_disconnected(impatient: Running) -> None:
    """It keeps neither memory nor a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient.gateway.ingest.port, limit=1024)
    before = rss()
    async with asyncio.timeout(20):
        while not writer.transport.is_closing():
            writer.write(request(b"{}", target="/x") * 500)
            try:
                await asyncio.wait_for(writer.drain(), 0.05)
            except (TimeoutError, ConnectionError):
                await asyncio.sleep(0)

    assert rss() - before < 32 * MIB
    assert not reader.at_eof()
    with pytest.raises(ConnectionError):
        await writer.wait_closed()


async def test_the_end_of_a_long_body_does_not_count_as_a_long_head(running: Running) -> None:
    body = BODY + b" " * 300_000
    sent = request(body, *[f"{name}: {value}" for name, value in providers.mando(body).items()])
    async with connected(running) as wire, asyncio.timeout(10):
        for _ in range(10):
            wire.writer.write(sent)
            assert (await wire.answer())[9:12] == b"200"


@pytest.mark.case("S-39")
async def test_twenty_thousand_random_paths_add_no_series_and_stay_out_of_the_log(
    running: Running, logged: io.StringIO
) -> None:
    """S-39, and the limit on the number of series."""
    dice = random.Random(39)  # noqa: S311 - the same paths each time
    before = set(await running.metrics())

    async def batch() -> None:
        async with connected(running) as wire:
            for _ in range(50):
                paths = [f"/{CANARY}/{dice.randbytes(8).hex()}" for _ in range(25)]
                wire.writer.write(b"".join(request(b"", target=path) for path in paths))
                for _ in paths:
                    assert (await wire.answer()).startswith(b"HTTP/1.1 404 ")

    await asyncio.gather(*(batch() for _ in range(16)))
    scraped = await running.metrics()

    assert scraped["gatehouse_requests_total", "not_found", "_unknown"] == 20_000
    assert set(scraped) == before
    assert CANARY not in logged.getvalue()


@pytest.mark.case("S-47")
@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\nevent: forged", "\x1b[2J\x1b[31m", "\N{LINE SEPARATOR}x", "x" * MIB, "\x00", "\x9b2J"],
)
async def test_text_from_a_sender_is_one_short_log_line(
    run_gateway: RunGateway, destination: ScriptedDestination, logged: io.StringIO, text: str
) -> None:
    """The type is the only text of the request in its line. It is signed, but still not trusted."""
    async with run_gateway(with_server("max_body: 3MiB").format(url=destination.url)) as running:
        body = providers.body(id=text, type=text, data={})
        status, _ = await running.send("mando", body, providers.mando(body))

    assert status == 200
    (line,) = [each for each in logged.getvalue().splitlines() if '"request.accepted"' in each]
    assert len(line) < 2048
    assert line.isprintable()
    assert len(str(json.loads(line)["type"])) <= 512


@pytest.mark.case("S-55")
async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(
    running: Running, logged: io.StringIO
) -> None:
    """No proxy is trusted here."""
    spoofs = ["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2", "X-Real-IP: 10.0.0.3"]
    await exchange(running, request(BODY, *spoofs, "Forwarded: for=10.0.0.4", CLOSE))

    (line,) = [each for each in lines(logged) if each["event"] == "request.rejected"]
    assert line["client"] == "127.0.0.1"
    assert "10.0.0." not in logged.getvalue()


@pytest.mark.case("S-33")
async def test_a_connection_above_the_limit_replaces_the_longest_idle_one(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    """A client that holds unused connections does not block others."""
    config = with_server("max_connections: 20").format(url=destination.url)
    async with run_gateway(config) as running, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(running)) for _ in range(40)]
        wires[-1].writer.write(request(b"{}", target="/x"))
        async with asyncio.timeout(5):
            assert (await wires[-1].answer()).startswith(b"HTTP/1.1 404 ")
            assert await wires[0].reader.read() == b""
        assert await legitimate(running, 1) < 1
