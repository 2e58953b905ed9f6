"""An operator sees why each attempt failed: the destination's reply, or the error that prevented one."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from doubles import providers
from doubles.destination import ScriptedDestination, endless, hang, status
from gatehouse.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from gateways import RunGateway, Running

CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
store: {{keep_replies: {keep}}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}", timeout: 300ms, retry: {{first: 10ms, max: 10ms, give_up_after: {give_up}}}}}
routes:
  - {{from: mando, to: app}}
"""
BODY = providers.body(id="evt_1", type="sale.created")
TRACEBACK = b"<h1>Server Error (500)</h1>\n<p>KeyError: 'customer' \xe2\x82\xac</p>"
DEAD = ("gatehouse_deliveries_dead", "app")
DELIVERED = ("gatehouse_deliveries_total", "app", "delivered")


def config(url: str, *, keep: str = "1KiB", give_up: str = "72h") -> str:
    return CONFIG.format(url=url, keep=keep, give_up=give_up)


async def send(running: Running) -> str:
    code, answer = await running.send("mando", BODY, providers.mando(BODY))
    assert code == 200
    return str(answer["id"])


async def delivery(running: Running, event_id: str) -> dict[str, Any]:
    async with running.client.get(f"{running.operator_url}/api/v1/events/{event_id}") as answer:
        (only,) = (await answer.json())["deliveries"]
        return dict(only)


async def shown(running: Running, event_id: str, tmp_path: Path) -> list[str]:
    """Return what `gatehouse events ID` prints of the deliveries."""
    file = tmp_path / "shown.yaml"
    file.write_text("sources: {}\n")
    arguments = ["events", event_id, "--operator", running.operator_url, "-c", str(file)]
    # In a thread: the command runs an event loop of its own.
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("delivery"))
    return lines[first : lines.index("", first)]


def free_port() -> int:
    """Return a port on which nothing listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def test_the_reply_of_each_failed_attempt_is_shown(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path, logged: io.StringIO
) -> None:
    destination.script(status(500, body=TRACEBACK), status(503), status(200, body=b"at last"))
    async with run_gateway(config(destination.url)) as running:
        event_id = await send(running)
        await running.until(DELIVERED, 1)
        found = await delivery(running, event_id)
        lines = await shown(running, event_id, tmp_path)
        metrics = await running.metrics()

    failed, empty, accepted = found["attempts"]
    assert found["attempts_made"] == 3
    assert failed.keys() == {"number", "at", "reason", "http_status", "duration_ms", "error", "reply"}
    assert (failed["number"], failed["reason"], failed["http_status"]) == (1, "server_error", 500)
    assert (failed["reply"], failed["error"]) == (TRACEBACK.decode(), None)
    assert 0 <= failed["duration_ms"] < 300
    assert (empty["http_status"], empty["reply"]) == (503, None)
    assert (accepted["number"], accepted["reason"], accepted["reply"]) == (3, "ok", "at last")
    assert failed["at"] <= empty["at"] <= accepted["at"] == found["updated"]
    head, table, first, _, last = lines
    assert head == "delivery     app: delivered, 3 attempts, ok 200"
    assert table.split() == ["attempt", "time", "reason", "status", "duration", "error", "or", "reply"]
    assert first.split()[0] == "1"
    assert first.endswith("<h1>Server Error (500)</h1>")
    assert last.endswith("at last")
    assert "Server Error" not in logged.getvalue() + str(metrics)


async def test_a_delivery_at_the_first_attempt_lists_that_attempt(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.always(status(202, body=b"taken"))
    async with run_gateway(config(destination.url)) as running:
        event_id = await send(running)
        await running.until(DELIVERED, 1)
        found = await delivery(running, event_id)
    (only,) = found["attempts"]
    assert (only["number"], only["at"], only["reason"]) == (1, found["updated"], "ok")
    assert (only["http_status"], only["error"], only["reply"]) == (202, None, None)
    assert 0 <= only["duration_ms"] < 300


@pytest.mark.parametrize(("keep", "kept"), [("0", None), ("27B", "<h1>Server Error (500)</h1>")])
async def test_replies_are_kept_up_to_the_configured_length(
    run_gateway: RunGateway, destination: ScriptedDestination, keep: str, kept: str | None
) -> None:
    destination.script(status(410, body=TRACEBACK))
    async with run_gateway(config(destination.url, keep=keep)) as running:
        event_id = await send(running)
        await running.until(DEAD, 1)
        (only,) = (await delivery(running, event_id))["attempts"]
    assert (only["reason"], only["reply"]) == ("gone", kept)


async def test_bytes_that_are_not_text_are_replaced(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.script(status(410, body=b"a\xff\x00b\xed\xa0\xbd"))
    async with run_gateway(config(destination.url)) as running:
        event_id = await send(running)
        await running.until(DEAD, 1)
        (only,) = (await delivery(running, event_id))["attempts"]
    assert only["reply"] == "a\ufffd\0b\ufffd\ufffd\ufffd"


@pytest.mark.parametrize(
    ("url", "reason", "error"),
    [
        ("http://no-such-host.invalid/", "dns", ""),
        ("http://127.0.0.1:{free}/", "connect", "Connection refused"),
        ("https://127.0.0.1:{port}/", "tls", ""),
        ("http://127.0.0.1:{port}/", "timeout", "no reply in time"),
    ],
)
async def test_the_error_that_prevented_a_reply_is_shown(
    run_gateway: RunGateway,
    destination: ScriptedDestination,
    tmp_path: Path,
    url: str,
    reason: str,
    error: str,
) -> None:
    destination.always(hang())
    url = url.format(port=destination.port, free=free_port())
    async with run_gateway(config(url, give_up="50ms")) as running:
        event_id = await send(running)
        await running.until(DEAD, 1)
        found = await delivery(running, event_id)
        lines = await shown(running, event_id, tmp_path)
    last = found["attempts"][-1]
    assert (last["number"], last["reason"]) == (found["attempts_made"], reason)
    assert (last["http_status"], last["reply"]) == (None, None)
    assert error in last["error"]
    assert last["error"]
    assert "\n" not in last["error"]
    assert lines[-1].endswith(last["error"])


async def test_the_received_part_of_an_endless_reply_is_kept(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.script(endless(410, chunk=b"gone;", pause=0.01))
    async with run_gateway(config(destination.url)) as running:
        event_id = await send(running)
        await running.until(DEAD, 1)
        (only,) = (await delivery(running, event_id))["attempts"]
    assert only["reply"].startswith("gone;gone;")


async def test_an_attempt_interrupted_by_a_stop_is_listed_as_interrupted(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    destination.script(hang())
    text = config(destination.url).replace("timeout: 300ms", "timeout: 20s")
    async with run_gateway(text) as running:
        event_id = await send(running)
        await destination.wait_for(1)
    async with run_gateway(text) as running:
        await running.until(DELIVERED, 1)
        first, second = (await delivery(running, event_id))["attempts"]
    assert (first["reason"], first["error"]) == ("timeout", "the gateway stopped before a reply came")
    assert (second["number"], second["reason"]) == (2, "ok")


async def test_a_replay_adds_to_the_attempts(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.script(status(200), status(422, body=json.dumps({"error": "closed"}).encode()))
    async with run_gateway(config(destination.url)) as running:
        event_id = await send(running)
        await running.until(DELIVERED, 1)
        before = (await delivery(running, event_id))["attempts"]
        url = f"{running.operator_url}/api/v1/events/{event_id}/replay"
        async with running.client.post(url) as answer:
            assert answer.status == 200
        await running.until(("gatehouse_attempts_total", "app", "rejected"), 1)
        async with asyncio.timeout(10):
            while len(after := (await delivery(running, event_id))["attempts"]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert after[:1] == before
    assert (after[1]["number"], after[1]["reply"]) == (2, '{"error": "closed"}')
