"""One attempt, against a real server on a real socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from urllib.parse import unquote

import pytest
from aiohttp import ClientSession, encode_basic_auth
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from doubles.delivery import make_destination, make_event
from doubles.destination import (
    Answer,
    ScriptedDestination,
    after,
    endless,
    hang,
    raw,
    redirect,
    reset,
    status,
)
from gatehouse import __version__
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.http_client import HttpClient, open_session
from gatehouse.delivery.outcome import Outcome
from gatehouse.delivery.signing import signing_key
from gatehouse.events.event import Event
from gatehouse.network.forbidden_addresses import is_forbidden

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXACT = b'{"big":12345678901234567890123,"price":45.50}'
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def destination() -> AsyncIterator[ScriptedDestination]:
    async with ScriptedDestination() as server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with open_session() as opened:
        yield opened


async def attempt(
    session: ClientSession, url: str, event: Event | None = None, number: int = 1, **fields: object
) -> Outcome:
    forwarder = Forwarder(make_destination(url, **fields), session, clock=time.time)
    return await forwarder.attempt(event or make_event(), number)


async def test_a_structured_event_arrives_signed_and_byte_for_byte(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    event = make_event(EXACT)
    keys = (signing_key(SECRET),)
    outcome = await attempt(session, destination.url, event, keys=keys)
    (request,) = destination.requests
    assert (outcome.reason, outcome.http_status) == ("ok", 200)
    assert (request.method, request.path) == ("POST", "/events")
    assert request.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert EXACT in request.body
    assert request.event_id == event.id
    Webhook(SECRET).verify(request.body, dict(request.headers))
    lower = {name.lower(): value for name, value in request.headers.items()}
    assert from_http_event(HTTPMessage(lower, request.body)).get_id() == "evt_1"


async def test_a_binary_event_carries_its_attributes_in_headers(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    await attempt(session, destination.url, make_event(EXACT), format="cloudevents-binary")
    (request,) = destination.requests
    assert request.body == EXACT
    assert request.headers["ce-type"] == "invoice.accepted"


@pytest.mark.case("S-45")
async def test_raw_headers_cannot_be_forged(destination: ScriptedDestination, session: ClientSession) -> None:
    forged = (
        ("x-note", "a\r\nwebhook-id: forged"),
        ("webhook-id", "forged"),
        ("gatehouse-attempt", "99"),
        ("user-agent", "forged"),
        ("authorization", "Basic x"),
        ("transfer-encoding", "chunked"),
        ("content-type", "forged/forged"),
        ("connection", "close"),
        ("x-kept", "yes"),
    )
    event = make_event(EXACT, headers=forged, content_type="application/json")
    await attempt(session, destination.url, event, format="raw", allowed=("*",), keys=(b"k" * 32,))
    (request,) = destination.requests
    assert request.body == EXACT
    assert {name.lower(): value for name, value in request.headers.items()}.keys() == {
        "host",
        "content-type",
        "content-length",
        "user-agent",
        "x-note",
        "x-kept",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "gatehouse-attempt",
    }
    assert len(request.headers) == 10
    assert request.headers["webhook-id"] == event.id
    assert request.headers["user-agent"] == f"Gatehouse/{__version__}"
    assert request.headers["content-type"] == "application/json"


@pytest.mark.case("S-45")
async def test_attributes_cannot_become_separate_headers(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    forged = "a\r\nwebhook-id: forged\r\n\r\nPOST /x HTTP/1.1\0\u2028é"
    event = make_event(EXACT, external_id=forged, type=forged, subject=forged, account=forged)
    await attempt(session, destination.url, event, format="cloudevents-binary")
    (request,) = destination.requests
    assert request.body == EXACT
    assert request.headers.getall("webhook-id") == [event.id]
    for name in ("ce-id", "ce-type", "ce-subject", "ce-account"):
        assert unquote(request.headers[name]) == forged


async def test_without_a_secret_there_are_no_signature_headers(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    await attempt(session, destination.url)
    assert "webhook-signature" not in destination.requests[0].headers
    assert "webhook-timestamp" not in destination.requests[0].headers


async def test_each_attempt_has_the_same_idempotency_key_and_a_higher_number(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    event = make_event()
    for number in (1, 2, 3):
        await attempt(session, destination.url, event, number)
    assert [request.attempt for request in destination.requests] == [1, 2, 3]
    assert {request.event_id for request in destination.requests} == {event.id}


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        (TRACE, TRACE),
        (TRACE.upper(), None),
        ("ff" + TRACE[2:], None),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", None),
        (TRACE + "\n", None),
        ("junk", None),
    ],
)
async def test_a_valid_traceparent_is_forwarded(
    sent: str, passed: str | None, destination: ScriptedDestination, session: ClientSession
) -> None:
    await attempt(session, destination.url, make_event(headers=(("traceparent", sent),)))
    assert destination.requests[0].headers.get("traceparent") == passed


@pytest.mark.parametrize(
    ("answer", "reason", "code"),
    [
        (status(204), "ok", 204),
        (status(400), "rejected", 400),
        (status(410), "gone", 410),
        (status(429), "throttled", 429),
        (status(500), "server_error", 500),
        (reset(), "disconnected", None),
        (raw(b""), "disconnected", None),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "invalid_reply", None),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000 + b"\r\n"), "ok", 200),
        (raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"), "ok", 200),
        (raw(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), "invalid_reply", 101),
        (raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 202 OK\r\n\r\n"), "ok", 202),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.case("S-44")
async def test_every_reply_is_one_outcome(
    answer: Answer, reason: str, code: int | None, destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(answer)
    outcome = await attempt(session, destination.url)
    assert (outcome.reason, outcome.http_status) == (reason, code)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.case("S-42")
async def test_a_redirect_is_not_followed(
    code: int, destination: ScriptedDestination, session: ClientSession
) -> None:
    async with ScriptedDestination() as elsewhere:
        destination.script(redirect(elsewhere.url, code))
        outcome = await attempt(session, destination.url)
        assert (outcome.reason, outcome.http_status) == ("redirect", code)
        assert elsewhere.requests == []
        assert len(destination.requests) == 1


@pytest.mark.case("S-43")
async def test_an_endless_reply_is_read_up_to_a_limit(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(endless())
    outcome = await attempt(session, destination.url, timeout=30.0)
    assert outcome.reason == "ok"
    assert outcome.duration < 5
    assert open_connections(session) == 0


@pytest.mark.case("S-43")
async def test_a_trickling_reply_is_abandoned_at_the_timeout(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(endless(503, chunk=b"x", pause=0.05))
    outcome = await attempt(session, destination.url, timeout=0.2)
    assert (outcome.reason, outcome.http_status) == ("server_error", 503)
    assert 0.2 <= outcome.duration < 2
    assert open_connections(session) == 0


@pytest.mark.case("S-43")
async def test_a_compressed_reply_is_not_unpacked(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(status(200, body=b"not gzip at all", content_encoding="gzip"))
    assert (await attempt(session, destination.url)).reason == "ok"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
@pytest.mark.case("S-44")
async def test_data_after_a_200_does_not_change_the_outcome(
    reply: bytes, destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(raw(reply))
    outcome = await attempt(session, destination.url)
    assert outcome.reason == "ok"


async def test_a_failed_attempt_keeps_the_start_of_the_reply(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(*[status(500, body=b"<h1>Server Error</h1>")] * 3)
    assert (await attempt(session, destination.url)).reply == b"<h1>Server Error</h1>"
    assert (await attempt(session, destination.url, keep_replies=4)).reply == b"<h1>"
    assert (await attempt(session, destination.url, keep_replies=0)).reply is None


async def test_a_success_keeps_its_reply_only_after_a_failure(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.always(status(200, body=b"done"))
    assert (await attempt(session, destination.url, number=1)).reply is None
    assert (await attempt(session, destination.url, number=2)).reply == b"done"


@pytest.mark.parametrize("size", [60_000, 70_000, 500_000])
async def test_the_start_of_a_long_reply_is_kept(
    destination: ScriptedDestination, session: ClientSession, size: int
) -> None:
    page = b"<title>Error</title>" + b"x" * size
    destination.script(status(500, body=page))
    outcome = await attempt(session, destination.url)
    assert (outcome.reason, outcome.reply) == ("server_error", page[:1024])


async def test_the_received_part_of_an_endless_reply_is_kept_by_the_forwarder(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(endless(503, chunk=b"busy;", pause=0.05))
    outcome = await attempt(session, destination.url, timeout=0.3)
    assert outcome.http_status == 503
    assert outcome.reply is not None
    assert outcome.reply.startswith(b"busy;")


@pytest.mark.case("S-44")
async def test_a_slow_reply_is_a_timeout(destination: ScriptedDestination, session: ClientSession) -> None:
    destination.script(hang())
    outcome = await attempt(session, destination.url, timeout=0.1)
    assert (outcome.reason, outcome.http_status) == ("timeout", None)
    assert 0.1 <= outcome.duration < 2


async def test_dns_connect_and_tls_errors_have_their_reasons(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    assert (await attempt(session, "http://no-such-host.invalid/")).reason == "dns"
    assert (await attempt(session, f"https://127.0.0.1:{destination.port}/")).reason == "tls"
    await destination.stop()
    assert (await attempt(session, destination.url)).reason == "connect"


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]"])
@pytest.mark.case("S-40")
async def test_the_metadata_address_is_not_connected_to(host: str, session: ClientSession) -> None:
    outcome = await attempt(session, f"http://{host}/latest/meta-data")
    assert outcome.reason == "connect"
    assert outcome.duration < 0.1


@pytest.mark.parametrize(
    ("host", "forbidden"),
    [
        ("169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("::ffff:a9fe:a9fe", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("::1", False),
        ("fd12::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
    ],
)
@pytest.mark.case("S-40")
def test_link_local_addresses_in_every_spelling(host: str, *, forbidden: bool) -> None:
    assert is_forbidden(host) is forbidden


async def test_retry_after_is_passed_on(destination: ScriptedDestination, session: ClientSession) -> None:
    destination.script(status(503, retry_after="17"), status(429, retry_after="rubbish"))
    assert (await attempt(session, destination.url)).retry_after == 17
    assert (await attempt(session, destination.url)).retry_after is None


async def test_connections_are_reused_and_cookies_are_not(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    destination.script(status(200, body=b"x" * 60_000, set_cookie="a=b"))
    forwarder = Forwarder(make_destination(destination.url), session, clock=time.time)
    await forwarder.attempt(make_event(), 1)
    assert open_connections(session) == 1
    await forwarder.attempt(make_event(), 2)
    assert open_connections(session) == 1
    assert "Cookie" not in destination.requests[1].headers


async def test_the_environments_proxy_is_not_used(
    destination: ScriptedDestination, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await attempt(session, destination.url)).reason == "ok"


async def test_a_large_body_arrives_complete(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    body = json.dumps("x" * 3_000_000).encode()
    outcome = await attempt(session, destination.url, make_event(body))
    assert outcome.reason == "ok"
    assert body in destination.requests[0].body


async def test_an_event_that_cannot_be_sent_is_an_outcome_and_one_log_line(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    event = make_event(subject="\ud800 secret subject")
    with capture_logs() as logs:
        outcome = await attempt(session, destination.url, event)
    assert outcome.reason == "unsendable"
    assert destination.requests == []
    assert logs == [
        {
            "event": "delivery.failed",
            "event_id": event.id,
            "destination": "billing",
            "error": "UnicodeEncodeError",
            "log_level": "error",
        }
    ]


@pytest.mark.parametrize("text", ["a\r\nb: c", "a\nb: c", "a\rb", "a\x00b"])
async def test_a_line_break_in_a_header_does_not_start_another_header(
    text: str, destination: ScriptedDestination, session: ClientSession
) -> None:
    client = HttpClient(make_destination(destination.url), session, clock=time.time)
    for headers in ({"name": text}, {text: "value"}):
        with pytest.raises(ValueError, match="control character"):
            await client.post(headers, b"")
    assert destination.requests == []


async def test_credentials_in_the_url_are_sent(
    destination: ScriptedDestination, session: ClientSession
) -> None:
    url = destination.url.replace("127.0.0.1", "me:s%40cret@127.0.0.1") + "?a=b%20c#part"
    assert (await attempt(session, url)).reason == "ok"
    (request,) = destination.requests
    assert request.path == "/events"
    assert request.headers["Host"] == f"127.0.0.1:{destination.port}"
    assert request.headers["Authorization"] == encode_basic_auth("me", "s@cret")


async def test_only_cancellation_is_raised(destination: ScriptedDestination, session: ClientSession) -> None:
    destination.always(after(30, status(200)))
    under_way = asyncio.create_task(attempt(session, destination.url))
    await destination.wait_for(1)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert open_connections(session) == 0


def open_connections(session: ClientSession) -> int:
    assert session.connector is not None
    return len(session.connector._acquired)
