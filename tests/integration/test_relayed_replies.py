"""`respond: relay`: the provider gets the destination's reply, or the event is not stored."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from doubles import providers
from doubles.destination import (
    Answer,
    ScriptedDestination,
    after,
    endless,
    hang,
    once,
    raw,
    redirect,
    reset,
    status,
)
from doubles.stream import reading
from gateways import RunGateway, Running

CONFIG = """
server: {listen: "127.0.0.1:0", commit_deadline: 800ms}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: [env:SECRET], respond: relay, answer_deadline: %s}
destinations:
  app: {url: "%s", concurrency: 2, %s}
routes:
  - {from: mando, types: "sale.*", to: app}
"""
TWIML = status(201, body=b"<Response/>", content_type="text/xml; charset=utf-8")


class Got(NamedTuple):
    """The answer that the provider got."""

    status: int
    content_type: str | None
    body: bytes


def config(url: str, *, waits: str = "10s", more: str = "timeout: 5s") -> str:
    return CONFIG % (waits, url, more)


@pytest.fixture
async def running(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway whose only source relays."""
    async with run_gateway(config(destination.url)) as gateway:
        yield gateway


_numbers = itertools.count()


def sale(kind: str = "sale.created") -> bytes:
    return providers.body(id=f"evt_{next(_numbers)}", type=kind)


async def send(running: Running, body: bytes) -> Got:
    url = f"{running.url}/webhooks/mando"
    async with running.client.post(url, data=body, headers=providers.mando(body)) as answer:
        return Got(answer.status, answer.headers.get("Content-Type"), await answer.read())


def code(got: Got) -> tuple[int, str]:
    return got.status, json.loads(got.body)["error"]["code"]


def lines(logged: io.StringIO, event: str) -> list[dict[str, object]]:
    return [line for line in map(json.loads, logged.getvalue().splitlines()) if line["event"] == event]


async def test_the_provider_gets_status_content_type_and_body_of_the_reply(
    running: Running, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    destination.always(TWIML)

    got = await send(running, sale())

    assert got == Got(201, "text/xml; charset=utf-8", b"<Response/>")
    (received,) = destination.requests
    (line,) = lines(logged, "request.accepted")
    assert (line["event_id"], line["status"], line["outcome"]) == (received.event_id, 201, "accepted")
    metrics = await running.metrics()
    assert metrics["gatehouse_requests_total", "accepted", "mando"] == 1
    assert metrics["gatehouse_events_total", "mando"] == 1
    assert metrics["gatehouse_attempts_total", "app", "ok"] == 1
    assert metrics["gatehouse_deliveries_total", "app", "delivered"] == 1
    assert metrics["gatehouse_delivery_lag_seconds_count", "app"] == 1
    assert metrics["gatehouse_deliveries_pending", "app"] == 0


async def test_a_retry_gets_the_same_reply_and_is_not_forwarded_again(
    running: Running, destination: ScriptedDestination
) -> None:
    destination.script(TWIML)
    body = sale()

    first, second = await send(running, body), await send(running, body)

    assert first == second
    assert len(destination.requests) == 1
    assert (await running.metrics())["gatehouse_requests_total", "duplicate", "mando"] == 1


async def test_a_retry_gets_the_same_reply_after_a_restart(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.script(TWIML)
    body = sale()
    async with run_gateway(config(destination.url)) as running:
        first = await send(running, body)
    async with run_gateway(config(destination.url)) as running:
        second = await send(running, body)

    assert first == second
    assert len(destination.requests) == 1


@pytest.mark.parametrize("code", [200, 202, 204])
async def test_a_reply_without_a_body_is_relayed_too(
    running: Running, destination: ScriptedDestination, code: int
) -> None:
    destination.always(status(code))
    body = sale()

    got = [await send(running, body) for _ in range(2)]

    assert [(one.status, one.body) for one in got] == [(code, b"")] * 2


async def test_a_reply_of_nearly_64_kib_is_relayed_completely(
    running: Running, destination: ScriptedDestination
) -> None:
    long = bytes(range(256)) * 255
    destination.always(status(200, body=long, content_type="application/octet-stream"))

    assert (await send(running, sale())).body == long


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(500), "server_error"),
        (status(400), "rejected"),
        (status(410), "gone"),
        (status(429, retry_after="1"), "throttled"),
        (redirect("/elsewhere"), "redirect"),
        (reset(), "disconnected"),
        (raw(b"SMTP ready\r\n\r\n"), "invalid_reply"),
        (endless(), "unusable_reply"),
        (status(200, body=b"x" * (64 * 1024 + 1)), "unusable_reply"),
        (status(200, body=b"\x1f\x8b", content_encoding="gzip"), "unusable_reply"),
        (
            raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/\xff\r\nContent-Length: 0\r\n\r\n"),
            "unusable_reply",
        ),
    ],
    ids=[
        *("500", "400", "410", "429", "302", "reset", "no HTTP"),
        *("endless", "too long", "compressed", "a type that is no text"),
    ],
)
async def test_a_destination_that_fails_is_502_and_the_retry_works(
    running: Running,
    destination: ScriptedDestination,
    logged: io.StringIO,
    fault: Answer,
    reason: str,
) -> None:
    destination.script(fault)
    destination.always(TWIML)
    body = sale()

    assert code(await send(running, body)) == (502, "bad_gateway")
    (line,) = lines(logged, "request.rejected")
    assert (line["outcome"], line["reason"]) == ("relay_failed", reason)
    assert (await running.metrics())["gatehouse_events_total", "mando"] == 0

    assert (await send(running, body)).status == 201
    first, second = destination.requests
    assert first.event_id == second.event_id
    assert (first.attempt, second.attempt) == (1, 2)
    metrics = await running.metrics()
    assert metrics["gatehouse_requests_total", "relay_failed", "mando"] == 1
    assert metrics["gatehouse_events_total", "mando"] == 1
    assert metrics["gatehouse_deliveries_pending", "app"] == 0


@pytest.mark.case("F-42")
async def test_the_stream_shows_no_delivery_for_a_relayed_request(
    running: Running, destination: ScriptedDestination
) -> None:
    destination.script(status(500), status(200))
    async with reading(running.client, running.operator_url, "kinds=attempt") as stream:
        await stream.live()
        assert [(await send(running, sale())).status for _ in range(2)] == [502, 200]
        entries = await stream.take(2)

    assert [entry.data["reason"] for entry in entries] == ["server_error", "ok"]
    assert [(entry.data["status"], entry.data["next"]) for entry in entries] == [(None, None)] * 2


async def test_a_reused_connection_that_the_destination_closes_is_replaced(
    running: Running, destination: ScriptedDestination
) -> None:
    destination.script(TWIML, reset(), TWIML)
    for _ in range(2):
        assert await send(running, sale()) == Got(201, "text/xml; charset=utf-8", b"<Response/>")

    _, dropped, again = destination.requests
    assert (dropped.event_id, dropped.attempt) == (again.event_id, again.attempt)
    metrics = await running.metrics()
    assert metrics["gatehouse_attempts_total", "app", "ok"] == 2
    assert metrics["gatehouse_attempts_total", "app", "disconnected"] == 0


async def test_a_destination_that_refuses_connections_is_502(
    running: Running, destination: ScriptedDestination
) -> None:
    await destination.stop()
    body = sale()

    assert code(await send(running, body)) == (502, "bad_gateway")

    await destination.start()
    assert (await send(running, body)).status == 200


@pytest.mark.parametrize(
    ("waits", "more"),
    [("10s", "timeout: 50ms"), ("850ms", "timeout: 5s")],
    ids=["for the destination's timeout", "for the provider"],
)
@pytest.mark.parametrize("fault", [hang(), endless(pause=0.01, chunk=b"x")], ids=["no answer", "no end"])
async def test_a_destination_that_is_late_is_504_and_the_retry_works(
    run_gateway: RunGateway, destination: ScriptedDestination, waits: str, more: str, fault: Answer
) -> None:
    destination.script(fault)
    body = sale()
    async with run_gateway(config(destination.url, waits=waits, more=more)) as running:
        async with asyncio.timeout(2):
            assert code(await send(running, body)) == (504, "gateway_timeout")
        assert (await running.metrics())["gatehouse_attempts_total", "app", "timeout"] == 1

        assert (await send(running, body)).status == 200

    first, second = destination.requests
    assert first.event_id == second.event_id


async def test_two_requests_with_one_event_at_once_are_forwarded_once(
    running: Running, destination: ScriptedDestination
) -> None:
    open_up = asyncio.Event()
    destination.script(once(open_up, TWIML))
    body = sale()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(send(running, body)) for _ in range(8)]
        await destination.wait_for(1)
        open_up.set()

    assert {task.result() for task in tasks} == {Got(201, "text/xml; charset=utf-8", b"<Response/>")}
    assert len(destination.requests) == 1
    metrics = await running.metrics()
    assert metrics["gatehouse_requests_total", "accepted", "mando"] == 1
    assert metrics["gatehouse_requests_total", "duplicate", "mando"] == 7


async def test_more_at_once_than_the_concurrency_is_503(
    running: Running, destination: ScriptedDestination
) -> None:
    open_up = asyncio.Event()
    destination.script(once(open_up, TWIML), once(open_up, TWIML))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(send(running, sale())) for _ in range(2)]
        await destination.wait_for(2)

        assert code(await send(running, sale())) == (503, "unavailable")

        open_up.set()
    assert [task.result().status for task in tasks] == [201, 201]
    assert destination.most_open == 2


async def test_more_than_the_rate_is_503(run_gateway: RunGateway, destination: ScriptedDestination) -> None:
    async with run_gateway(config(destination.url, more="rate: 1/h")) as running:
        statuses = [(await send(running, sale())).status for _ in range(3)]

    assert statuses == [200, 503, 503]


async def test_nothing_is_sent_while_the_breaker_is_open(
    running: Running, destination: ScriptedDestination
) -> None:
    destination.always(status(500))
    for _ in range(5):
        assert (await send(running, sale())).status == 502
    assert (await running.metrics())["gatehouse_breaker_open", "app"] == 1

    assert (await send(running, sale())).status == 502

    assert len(destination.requests) == 5


async def test_nothing_is_sent_while_the_destination_is_paused(
    running: Running, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    dispatcher = running.gateway._dispatcher
    body = sale()
    await dispatcher.pause("app")
    assert (await send(running, body)).status == 502
    await dispatcher.resume("app")

    assert (await send(running, body)).status == 200

    assert len(destination.requests) == 1
    assert [line["reason"] for line in lines(logged, "request.rejected")] == ["paused"]


async def test_an_event_without_a_route_is_accepted(
    running: Running, destination: ScriptedDestination
) -> None:
    got = await send(running, sale("refund.created"))

    assert got.status == 200
    assert json.loads(got.body)["status"] == "accepted"
    assert not destination.requests


async def test_an_unverified_request_is_not_forwarded(
    running: Running, destination: ScriptedDestination
) -> None:
    body = sale()
    answered, _ = await running.send(
        "mando", body, providers.mando(body, secret="another-secret-of-some-length")
    )

    assert answered == 401
    assert not destination.requests


async def test_a_commit_that_fails_after_the_reply_is_503_and_the_retry_has_the_same_id(
    running: Running, destination: ScriptedDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = sale()
    with monkeypatch.context() as patch:
        patch.setattr(running.gateway._committer, "_deadline", -1.0)  # no commit is in time
        assert code(await send(running, body)) == (503, "unavailable")

    assert (await send(running, body)).status == 200

    first, second = destination.requests
    assert first.event_id == second.event_id
    assert (await running.metrics())["gatehouse_events_total", "mando"] == 1


async def test_after_a_reload_the_new_destination_replies_and_the_old_one_finishes(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    open_up = asyncio.Event()
    destination.script(once(open_up, TWIML))
    async with ScriptedDestination() as other:
        other.always(status(200, body=b"other", content_type="text/plain"))
        text = config(destination.url)
        file = tmp_path / "gateway.yaml"
        async with run_gateway(text) as running:
            under_way = asyncio.create_task(send(running, sale()))
            await destination.wait_for(1)
            file.write_text(text.replace(destination.url, other.url))
            result = await running.gateway.reload()
            assert result.problems == ()

            assert (await send(running, sale())).body == b"other"

            open_up.set()
            assert (await under_way).body == b"<Response/>"


@pytest.mark.parametrize("form", ["cloudevents", "cloudevents-binary", "raw"])
async def test_each_format_is_relayed(
    run_gateway: RunGateway, destination: ScriptedDestination, form: str
) -> None:
    destination.always(after(0.001, TWIML))
    async with run_gateway(config(destination.url, more=f"format: {form}")) as running:
        assert (await send(running, sale())).status == 201


SLACK = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  slack: {provider: slack, secrets: [env:SECRET], respond: relay}
destinations:
  bot: {url: "%s", format: raw}
routes:
  - {from: slack, to: bot}
"""


async def test_a_slash_command_is_answered_by_the_app(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    shown = b'{"response_type": "ephemeral", "text": "It is sunny"}'
    destination.always(status(200, body=shown, content_type="application/json"))
    command = b"command=%2Fweather&text=94070&team_id=T0001&trigger_id=13345224609.738474920.8088930838d8"
    now = str(int(time.time()))
    signed = hmac.new(providers.SECRET.encode(), f"v0:{now}:".encode() + command, hashlib.sha256)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": now,
        "X-Slack-Signature": f"v0={signed.hexdigest()}",
    }
    async with run_gateway(SLACK % destination.url) as running:
        url = f"{running.url}/webhooks/slack"
        async with running.client.post(url, data=command, headers=headers) as answer:
            assert (answer.status, await answer.read()) == (200, shown)

    (received,) = destination.requests
    assert received.body == command
