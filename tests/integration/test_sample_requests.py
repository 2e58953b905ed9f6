"""Samples that operators send to sources of a running gateway, over real connections."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from doubles.destination import ScriptedDestination
from gateways import CONFIG, RunGateway, Running
from operators import ALICE, CI, ask, supervised

STRIPE = CONFIG.replace("sources:\n", "sources:\n  stripe: {{provider: stripe, secrets: env:STRIPE}}\n")
SIGNED = {"STRIPE": "whsec_an-endpoint-secret-of-stripe"}


async def send(running: Running, source: str, body: Any = None, **where: Any) -> tuple[int, Any]:
    return await ask(running, "POST", f"/api/v1/sources/{source}/sample", where.pop("who", {}), body, **where)


async def test_a_sample_passes_everything_that_a_request_of_the_provider_passes(
    run_gateway: RunGateway, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    async with run_gateway(STRIPE.format(url=destination.url), **SIGNED) as running:
        sent = [await send(running, "stripe", {"type": "invoice.paid"}) for _ in range(2)]
        received = [*await destination.wait_for(2)]
        assert (await running.metrics())["gatehouse_requests_total", "accepted", "stripe"] == 2
        _, changes = await ask(running, "GET", "/api/v1/audit", {})
        code, plain = await send(running, "stripe")

    assert {request.event_id for request in received} == {answer["event_ids"][0] for _, answer in sent}
    assert {json.loads(request.body)["type"] for request in received} == {"invoice.paid"}
    for status, answer in sent:
        assert (status, answer["status"], answer["type"]) == (200, 200, "invoice.paid")
        (event_id,) = answer["event_ids"]
        assert json.loads(answer["answer"]) == {"status": "accepted", "id": event_id}
    assert (code, plain["status"], len(plain["event_ids"])) == (200, 200, 1)
    sample = {"source": "stripe", "type": "invoice.paid"}
    assert [(one["action"], one["what"]) for one in changes["audit"]] == [("test", sample)] * 2
    assert (
        '"event":"source.sampled","source":"stripe","type":"invoice.paid","status":200' in logged.getvalue()
    )


async def test_a_sample_reaches_a_gateway_that_listens_on_a_unix_socket_only(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    config = CONFIG.replace('server: {{listen: "127.0.0.1:0"', f'server: {{{{listen: "unix:{tmp_path}/s"')
    async with run_gateway(config.format(url=destination.url)) as running:
        assert (await send(running, "mando"))[1]["status"] == 200
        await destination.wait_for(1)


@pytest.mark.parametrize(
    ("source", "verify", "code", "message"),
    [
        (
            *("discord: {{provider: discord, secrets: env:KEY}}", {"KEY": "0" * 64}, "cannot_sign"),
            "only the provider can sign: ed25519 needs its private key",
        ),
        (
            *("shop: {{provider: mando, secrets: env:MISSING}}", {}, "cannot_sign"),
            "source shop can't sign: env:MISSING is not set",
        ),
        (
            *("own: {{verify: {{type: token, header: X-Token}}, event: {{type: x}}, secrets: env:KEY}}",),
            *({"KEY": "a-long-enough-token"}, "no_sample"),
            "source own has no documented example",
        ),
    ],
)
async def test_a_sample_that_cannot_be_signed_is_refused_with_the_reason(
    run_gateway: RunGateway,
    destination: ScriptedDestination,
    source: str,
    verify: dict[str, str],
    code: str,
    message: str,
) -> None:
    config = CONFIG.replace("sources:\n", f"sources:\n  {source}\n").format(url=destination.url)
    async with run_gateway(config, **verify) as running:
        status, answer = await send(running, source.partition(":")[0])
        _, changes = await ask(running, "GET", "/api/v1/audit", {})

    assert (status, answer["error"]) == (409, {"code": code, "message": message})
    assert changes["audit"] == []


async def test_an_impossible_sample_is_refused(running: Running) -> None:
    assert (await send(running, "mandoo"))[0] == 404
    for wanted in ("", 1, ["x"], "x" * 2000):
        status, answer = await send(running, "mando", {"type": wanted})
        assert (status, answer["error"]["code"]) == (400, "bad_request")


async def test_one_of_several_workers_sends_a_sample(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with supervised(destination.url, tmp_path) as (running, url):
        assert (await send(running, "mando", who=CI, url=url))[0] == 403
        status, answer = await send(running, "mando", who=ALICE, url=url)
        (request,) = await destination.wait_for(1)

    assert (status, answer["event_ids"]) == (200, [request.event_id])
