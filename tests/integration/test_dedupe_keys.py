"""Dedupe keys after a change of the config, by a reload or by an upgrade of the gateway."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from doubles import providers
from doubles.old_store import OldKey, write_sqlite
from gatehouse.events.event import new_id
from gatehouse.telemetry import log

if TYPE_CHECKING:
    from pathlib import Path

    from doubles.destination import ScriptedDestination
    from gateways import RunGateway, Running

CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  mandato: {{provider: mandato, secrets: [env:SECRET]{dedupe}}}
destinations:
  app: {{url: "{url}"}}
routes:
  - {{from: "*", to: app}}
"""


async def send(running: Running, number: str, delivery: str) -> tuple[str, str]:
    body = providers.body(id=number, type="invoice.accepted")
    status, answer = await running.send("mandato", body, providers.mandato(body, delivery=delivery))
    assert status == 200, answer
    return answer["status"], answer["id"]


async def use(running: Running, file: Path, text: str) -> dict[str, Any]:
    """Reload with another config. Return the answer to the operator."""
    file.write_text(text)
    async with running.client.post(f"{running.operator_url}/-/reload") as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


def dedupe(*by: str) -> str:
    return f", dedupe: {{by: {list(by)!r}}}"


@pytest.mark.case("F-08")
async def test_reloads_keep_known_keys_and_treat_no_new_event_as_a_duplicate(
    run_gateway: RunGateway, tmp_path: Path, destination: ScriptedDestination
) -> None:
    file, delivery, by_id = tmp_path / "gateway.yaml", "{header:X-Mandato-Delivery-Id}", "{body:id}"

    def config(*by: str) -> str:
        return CONFIG.format(url=destination.url, dedupe=dedupe(*by))

    file.write_text(config(delivery, by_id))
    stream = io.StringIO()
    log.configure(json=True, stream=stream)
    try:
        async with run_gateway(file.read_text()) as running:
            first = [await send(running, f"evt-{n}", f"dlv-{n}") for n in range(20)]
            assert {status for status, _ in first} == {"accepted"}

            # In another order, and with an additional first key. Each event is recognized by one key alone.
            for by in ([by_id, delivery], ["{header:X-New}", delivery, by_id]):
                answer = await use(running, file, config(*by))
                assert answer["keys_lost"] == {}
                assert await send(running, "evt-3", "other") == ("duplicate", first[3][1])
                assert await send(running, "other", "dlv-4") == ("duplicate", first[4][1])

            # The first key is removed, so a new event with the same value of that key is not a duplicate.
            answer = await use(running, file, config(by_id))
            assert answer["keys_lost"] == {"mandato": ["{header:X-New}", delivery]}
            new = [await send(running, f"dlv-{n}", f"dlv-{n}") for n in range(20)]
            assert {status for status, _ in new} == {"accepted"}
            assert await send(running, "evt-5", "x") == ("duplicate", first[5][1])
    finally:
        log.reset()
    lost = [
        line
        for line in map(json.loads, stream.getvalue().splitlines())
        if line["event"] == "dedupe.keys_lost"
    ]
    assert [(line["source"], line["keys"]) for line in lost] == [("mandato", ["{header:X-New}", delivery])]


@pytest.mark.case("F-08")
@pytest.mark.parametrize("own", [(), ("{header:X-New}", "{header:X-Mandato-Delivery-Id}", "{signed}")])
async def test_after_an_upgrade_a_retry_of_an_earlier_event_is_a_duplicate(
    run_gateway: RunGateway, tmp_path: Path, destination: ScriptedDestination, own: tuple[str, ...]
) -> None:
    """At that time the preset's keys were the id of the delivery, and the event's id or the signed bytes."""
    now_ms = int(time.time() * 1000)
    first, second = new_id(now_ms / 1000 - 60), new_id(now_ms / 1000 - 50)
    # A source with its own keys had the same keys at that time.
    places = (1, 2) if own else (0, 1)
    keys = [
        OldKey(places[0], b"dlv-1", first, now_ms + 86_400_000),
        OldKey(places[0], b"dlv-2", second, now_ms + 86_400_000),
        OldKey(places[1], b"evt-2", second, now_ms + 86_400_000),
    ]
    write_sqlite(tmp_path / "gatehouse.db", keys, received_ms=now_ms - 60_000)
    config = CONFIG.format(url=destination.url, dedupe=dedupe(*own) if own else "")
    async with run_gateway(config) as running:
        assert await send(running, "evt-1", "dlv-1") == ("duplicate", first)
        if not own:
            assert await send(running, "evt-2", "new") == ("duplicate", second)
        assert (await send(running, "evt-3", "evt-2"))[0] == "accepted"
