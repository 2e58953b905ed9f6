"""Operators, and only they, see which of several secrets verifies requests, and what happened to an event."""

from __future__ import annotations

import io
import json
import time

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from doubles.providers import SECRET
from gatehouse.language.times import parse_iso8601
from gateways import CONFIG, RunGateway

TEXT = CONFIG.replace("mando, secrets: [env:SECRET]", "mando, secrets: [env:OLD, env:SECRET]")


@pytest.mark.case("F-59")
async def test_which_secret_verified_a_request_is_counted_logged_and_shown(
    run_gateway: RunGateway, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    old = "the-old-secret-of-mando"
    body = providers.body(id="1", type="sale.created")
    async with run_gateway(TEXT.format(url=destination.url), OLD=old) as running:
        before = await running.metrics()
        new = providers.mando(body)
        first = await running.send("mando", body, new)
        again = await running.send("mando", body, providers.mando(body, secret=old))
        await running.send("mando", body, {"X-Mando-Signature": "sha256=" + "0" * 64})
        scraped = await running.metrics()
        async with running.client.get(f"{running.operator_url}/api/v1/sources") as answer:
            shown = {one["name"]: one["secrets"] for one in (await answer.json())["sources"]}
        path = f"/api/v1/events/{first[1]['id']}"
        paths = (path, f"{path}/duplicates", "/api/v1/events/other/duplicates")
        event, duplicates, none = [await running.ask(one) for one in paths]

    name = "gatehouse_verifications_total"
    assert [before[name, secret, "mando"] for secret in "12"] == [0, 0]
    assert [scraped[name, secret, "mando"] for secret in "12"] == [1, 1]
    assert scraped[name, "1", "mandato"] == 0
    assert scraped["gatehouse_secret_last_used_timestamp_seconds", "2", "mando"] > 0
    assert [(one["position"], one["name"], one["matched"]) for one in shown["mando"]] == [
        (1, "env:OLD", 1),
        (2, "env:SECRET", 1),
    ]
    assert all(one["last_used"] for one in shown["mando"])
    assert [one["last_used"] for one in shown["mandato"]] == [None]
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    told = {line["event"]: line.get("secret") for line in lines if line["event"].startswith("request.")}
    assert told == {"request.accepted": 2, "request.duplicate": 1, "request.rejected": None}
    assert event["verified"] == {"by": "HMAC-SHA256", "secret": "env:SECRET"}
    assert again[1]["id"] == event["id"]
    (repeated,) = duplicates["latest"]
    assert (duplicates["count"], repeated["client"]) == (1, "127.0.0.1")
    moments = (duplicates["since"], event["received"], event["stored"], repeated["at"])
    times = [parse_iso8601(moment) or 0.0 for moment in moments]
    assert times == sorted(times)
    assert time.time() - 60 < times[0] < times[-1] < time.time() + 1
    assert none == {"since": duplicates["since"], "count": 0, "latest": []}
    assert old not in logged.getvalue() + json.dumps(shown) + json.dumps([first, again])
    assert SECRET not in logged.getvalue() + json.dumps(shown)
