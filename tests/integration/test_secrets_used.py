"""Operators, and only they, see which of several secrets verifies requests."""

from __future__ import annotations

import io
import json

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from doubles.providers import SECRET
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
    assert old not in logged.getvalue() + json.dumps(shown) + json.dumps([first, again])
    assert SECRET not in logged.getvalue() + json.dumps(shown)
