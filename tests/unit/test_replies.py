"""Nothing of a reply affects another reply, and its status decides the outcome."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from doubles.delivery import RunningDispatcher, make_destination, make_event
from doubles.peer import OK, Peer, Pieces
from gatehouse.delivery import reply_head
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import HttpClient, Reply, open_session
from gatehouse.delivery.outcome import Outcome

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
#: A reply without headers of its own, so that any header in it comes from elsewhere.
BARE = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
#: Headers that would matter if they became headers of the next reply.
TRAILERS = [
    b"Retry-After: 3000",
    b"Content-Type: text/html",
    b"Content-Encoding: gzip",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Content-Length: 1",
    b"Transfer-Encoding: chunked",
]


@asynccontextmanager
async def client_to_peer(*answers: Pieces, **fields: Any) -> AsyncIterator[tuple[Peer, HttpClient]]:
    async with Peer(answers) as peer, open_session() as session:
        destination = make_destination(peer.url, **fields)
        yield peer, HttpClient(destination, session, clock=time.time)


async def outcomes_of(*answers: Pieces, count: int = 1) -> list[Outcome]:
    """Attempt events one after the other."""
    async with Peer(answers) as peer, open_session() as session:
        forwarder = Forwarder(make_destination(peer.url), session, clock=time.time)
        return [await forwarder.attempt(make_event(), 1) for _ in range(count)]


def is_bare(reply: Reply) -> bool:
    return reply == Reply(503, None, b"busy", None, None)


#: Replies that leave nothing in a parser. They come before the others, so that the parser was used before.
after_others = pytest.mark.parametrize("before", [0, 2], ids=["at first", "after others"])


async def post_first_replies(client: HttpClient, count: int) -> None:
    """Wait for the first replies."""
    for _ in range(count):
        assert is_bare(await client.post({}, b"{}"))


def one_at_a_time(data: bytes) -> list[bytes | float]:
    return [part for byte in data for part in (bytes([byte]), 0.001)]


@pytest.mark.case("F-01")
@pytest.mark.parametrize("trailer", TRAILERS, ids=lambda trailer: trailer.decode().replace("\r\n", ", "))
@pytest.mark.parametrize("split", [False, True], ids=["whole", "byte by byte"])
@after_others
async def test_a_trailer_of_a_reply_is_not_a_header_of_the_next(
    trailer: bytes, before: int, *, split: bool
) -> None:
    said = CHUNKED + b"Trailer-One: 1\r\n" + trailer + b"\r\n\r\n"
    pieces: Pieces = one_at_a_time(said) if split else said
    async with client_to_peer(*[BARE] * before, pieces, BARE) as (_, client):
        await post_first_replies(client, before)
        first = await client.post({}, b"{}")
        assert (first.status, first.retry_after, first.content_type, first.encoding) == (200, *[None] * 3)

        assert is_bare(await client.post({}, b"{}"))
        assert is_bare(await client.post({}, b"{}"))


@pytest.mark.case("F-01")
async def test_a_reply_with_a_trailer_delays_no_retry(tmp_path: Any) -> None:
    """As observed: a 200 with the trailer `Retry-After: 3000`, then a 503, then no attempt for 50 minutes."""
    async with Peer([CHUNKED + b"Retry-After: 3000\r\n\r\n", BARE, OK]) as peer:
        destination = make_destination(peer.url, concurrency=1)
        async with RunningDispatcher(tmp_path / "gatehouse.db", destination) as gateway:
            await gateway.accept(make_event(received=int(time.time())))
            await gateway.until(1, "deliveries_total", destination="billing", result="delivered")
            await gateway.accept(make_event(received=int(time.time())))
            await gateway.until(2, "deliveries_total", destination="billing", result="delivered")

            assert gateway.value("attempts_total", destination="billing", reason="server_error") == 1


@pytest.mark.case("F-01")
@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\nRetry-After: 3000\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: gzip\r\nRetry-After: 3000\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 199 What\nRetry-After: 3000\n\n",
    ],
)
@pytest.mark.parametrize("split", [False, True], ids=["whole", "byte by byte"])
@after_others
async def test_an_interim_response_does_not_affect_the_reply(
    interim: bytes, before: int, *, split: bool
) -> None:
    said = interim + interim + BARE
    pieces: Pieces = one_at_a_time(said) if split else said
    async with client_to_peer(*[BARE] * before, pieces) as (peer, client):
        await post_first_replies(client, before + 2)
        assert peer.requests == [before + 2]


@pytest.mark.case("F-01")
@pytest.mark.parametrize(
    "more",
    [
        b"H",
        b"HTTP/1.1 200 OK\r\nRetry-After: 3000\r\n",
        b"HTTP/1.1 200 OK\r\nRetry-After: 3000\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\0",
        b"0\r\nRetry-After: 3000\r\n\r\n",
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["in one segment", "later"])
@after_others
async def test_data_after_a_reply_is_not_part_of_the_next(more: bytes, before: int, *, apart: bool) -> None:
    pieces: Pieces = [BARE, 0.02, more] if apart else BARE + more
    async with client_to_peer(*[BARE] * before, pieces, OK) as (peer, client):
        await post_first_replies(client, before + 1)
        if apart:
            async with asyncio.timeout(5):
                while peer.writers:  # noqa: ASYNC110 - the peer gets no notification
                    await asyncio.sleep(0.01)
        reply = await client.post({}, b"{}")

        assert (reply.status, reply.retry_after, peer.requests) == (200, None, [before + 1, 1])


@pytest.mark.case("F-01")
async def test_a_body_that_was_not_read_to_its_end_is_not_part_of_the_next_reply() -> None:
    body = b"HTTP/1.1 410 Gone\r\n\r\n" * 8000
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with client_to_peer(said, BARE) as (peer, client):
        assert (await client.post({}, b"{}")).body is None
        assert is_bare(await client.post({}, b"{}"))
        assert peer.requests == [1, 1]


@pytest.mark.case("F-41")
@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Security-Policy: " + b"x" * 100_000 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(1500)),
    ],
    ids=["100 KB in one", "1500 of them"],
)
async def test_many_or_long_headers_are_read(headers: bytes) -> None:
    said = b"HTTP/1.1 503 Busy\r\n" + headers + b"Retry-After: 7\r\nContent-Length: 0\r\n\r\n"
    async with client_to_peer(said) as (peer, client):
        for _ in range(2):
            reply = await client.post({}, b"{}")
            assert (reply.status, reply.retry_after, reply.body) == (503, 7.0, b"")
        assert peer.requests == [2]


@pytest.mark.case("F-41")
@pytest.mark.parametrize("status", [200, 410, 503])
@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"y" * reply_head.MAX_HEAD + b"\r\n\r\n",
        b"X: y\r\n" * (reply_head.MAX_FIELDS + 1) + b"\r\n",
        b"X: y\r\n" * reply_head.MAX_HEAD,
        b"no colon in it\r\n\r\n",
        b"X: \0\r\n\r\n",
        b"Content-Length: many\r\n\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    ],
    ids=[
        *("too long", "too many", "without end", "no colon", "NUL"),
        *("no number", "two lengths", "two framings", "no chunk"),
    ],
)
async def test_a_head_that_cannot_be_parsed_still_has_a_status(status: int, headers: bytes) -> None:
    said = b"HTTP/1.1 %d X\r\n" % status + headers
    for outcome in await outcomes_of(said, count=2):
        assert outcome.http_status == status
        assert outcome.duration < 3


@pytest.mark.case("F-41")
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x16",
        b"HTTP/1.1 103 " + b"x" * 2 * reply_head.MAX_HEAD,
        b"HTTP/1.1 103 X\r\n" + b"X: y\r\n" * reply_head.MAX_HEAD,
    ],
)
async def test_data_without_a_status_line_fails_at_once(said: bytes) -> None:
    (outcome,) = await outcomes_of(said)

    assert (outcome.reason, outcome.http_status) == ("invalid_reply", None)
    assert outcome.duration < 3


@pytest.mark.case("F-42")
@pytest.mark.parametrize("way", ["closed", "reset"])
async def test_a_reused_connection_that_closes_without_a_reply_is_not_a_failed_attempt(way: str) -> None:
    async with Peer([OK, [b"", None], OK]) as peer, open_session() as session:
        forwarder = Forwarder(make_destination(peer.url), session, clock=time.time)
        assert (await forwarder.attempt(make_event(), 1)).reason == "ok"
        if way == "reset":
            peer.say([0.02], OK)
            asyncio.get_running_loop().call_later(0.02, peer.drop_all)
        outcome = await forwarder.attempt(make_event(), 1)

        assert (outcome.reason, outcome.http_status) == ("ok", 200)
        assert peer.requests == [2, 1]
        first, again = (head.lower().partition(b"webhook-id: ")[2][:26] for head in peer.heads[1:])
        assert first == again
        assert b"gatehouse-attempt: 1" in peer.heads[2].lower()


@pytest.mark.case("F-42")
@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 X\r\n\r\n", b"\r\n"])
async def test_after_any_part_of_a_reply_nothing_is_resent(part: bytes) -> None:
    async with Peer([OK, [part, 0.02, None], OK]) as peer, open_session() as session:
        forwarder = Forwarder(make_destination(peer.url), session, clock=time.time)
        outcomes = [await forwarder.attempt(make_event(), 1) for _ in range(2)]

        assert [outcome.reason for outcome in outcomes] == ["ok", "disconnected"]
        assert peer.requests == [2]


@pytest.mark.case("F-42")
async def test_a_new_connection_that_closes_is_a_failed_attempt() -> None:
    async with Peer([None]) as peer, open_session() as session:
        forwarder = Forwarder(make_destination(peer.url), session, clock=time.time)
        assert (await forwarder.attempt(make_event(), 1)).reason == "disconnected"
        assert peer.requests == [1]

        peer.say(OK, None)
        outcomes = [await forwarder.attempt(make_event(), 1) for _ in range(2)]
        assert [outcome.reason for outcome in outcomes] == ["ok", "disconnected"]
        # Once more, and no more often.
        assert peer.requests == [1, 2, 1]


@pytest.mark.alone
@pytest.mark.case("F-42")
async def test_a_resent_request_gets_the_rest_of_the_timeout() -> None:
    async with Peer([OK, [0.3, None], [60.0]]) as peer, open_session() as session:
        forwarder = Forwarder(make_destination(peer.url, timeout=0.6), session, clock=time.time)
        assert (await forwarder.attempt(make_event(), 1)).reason == "ok"
        outcome = await forwarder.attempt(make_event(), 1)

        assert outcome.reason == "timeout"
        assert 0.55 < outcome.duration < 0.85


@pytest.mark.alone
@pytest.mark.case("F-40")
async def test_a_busy_connection_is_replaced_when_it_is_old() -> None:
    async with client_to_peer(OK, max_connection_age=0.3) as (peer, client):
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            assert (await client.post({}, b"{}")).status == 200

        assert 4 <= len(peer.requests) <= 7
        assert len(peer.writers) == 1


def block_event_loop(seconds: float) -> None:
    """Block the event loop, as if the process were suspended."""
    time.sleep(seconds)


@pytest.mark.case("F-10")
@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_reply_that_came_while_the_gateway_was_suspended_counts(factory: Any) -> None:
    async def ask() -> list[str]:
        async with Peer([[0.05, OK]]) as peer, open_session() as session:
            forwarder = Forwarder(make_destination(peer.url, timeout=0.2), session, clock=time.time)
            loop = asyncio.get_running_loop()
            reasons: list[str] = []
            # Once for a new connection, once for a reused one.
            for _ in range(2):
                loop.call_later(0.1, block_event_loop, 0.4)
                attempt = asyncio.create_task(forwarder.attempt(make_event(), 1))
                reasons.append((await attempt).reason)
            return reasons

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(ask()) == ["ok", "ok"]


MUTE = """
import os, signal, socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
def answer(connection):
    while data := connection.recv(65536):
        status = b"200"
        if b"stand still" in data:
            status = b"410"
            os.kill(os.getpid(), signal.SIGSTOP)
        connection.sendall(b"HTTP/1.1 %s X\\r\\nContent-Length: 0\\r\\n\\r\\n" % status)
while True:
    try:
        answer(listening.accept()[0])
    except ConnectionError:
        pass
"""


@pytest.mark.case("F-01", "F-42")
async def test_a_late_reply_of_a_suspended_peer_is_not_used() -> None:
    """Its kernel accepts connections and requests all the time, also on a reused connection."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", MUTE, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    url = f"http://127.0.0.1:{int(await process.stdout.readline())}/"
    try:
        async with open_session() as session:
            forwarder = Forwarder(make_destination(url, timeout=0.5), session, clock=time.time)
            assert (await forwarder.attempt(make_event(), 1)).http_status == 200
            while_suspended = [await forwarder.attempt(make_event(b'"stand still"'), 1) for _ in range(2)]
            assert [(one.reason, one.error) for one in while_suspended] == [
                ("timeout", "no reply in time")
            ] * 2
            process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                while (outcome := await forwarder.attempt(make_event(), 1)).http_status is None:
                    process.send_signal(signal.SIGCONT)
            assert outcome.http_status == 200
    finally:
        process.kill()
        await process.wait()


async def test_after_a_silent_timeout_no_other_idle_connection_is_trusted() -> None:
    async with client_to_peer([0.05, OK], timeout=0.3) as (peer, client):
        await asyncio.gather(*[client.post({}, b"{}") for _ in range(4)])
        assert len(peer.writers) == 4
        peer.say([60.0], OK)
        with pytest.raises(TimeoutError):
            await client.post({}, b"{}")

        assert (await client.post({}, b"{}")).status == 200
        assert len(peer.requests) == 5
