"""Each attempt has the headers that a destination needs to process an event once: ids and attempt number."""

from __future__ import annotations

import json

import pytest

from doubles import providers
from doubles.destination import ReceivedRequest, ScriptedDestination, hang, status
from gateways import CONFIG, RunGateway

BODY = providers.body(id="evt_7", type="sale.created", data={"n": 1})


def key(received: ReceivedRequest, form: str) -> str:
    if form == "cloudevents-batch":
        (element,) = json.loads(received.body)
        return str(element["gatehouseid"])
    return received.event_id


def provider_id(received: ReceivedRequest, form: str) -> str:
    if form == "cloudevents-binary":
        return received.headers["ce-id"]
    read = json.loads(received.body)
    return str((read[0] if form == "cloudevents-batch" else read)["id"])


@pytest.mark.case("D-18")
@pytest.mark.parametrize("form", ["cloudevents", "cloudevents-binary", "cloudevents-batch", "raw"])
async def test_every_attempt_and_replay_has_the_event_ids_and_the_attempt_number(
    run_gateway: RunGateway, destination: ScriptedDestination, form: str
) -> None:
    settings = f"format: {form}, timeout: 200ms, secret: env:SIGNING"
    config = CONFIG.format(url=destination.url).replace("secret: env:SIGNING", settings)
    destination.script(status(500), hang(), status(503))
    async with run_gateway(config) as running:
        _, accepted = await running.send("mando", BODY, providers.mando(BODY))
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)
        replay = f"{running.operator_url}/api/v1/events/{accepted['id']}/replay"
        async with running.client.post(replay, json={}) as answer:
            assert answer.status in {200, 202}
        received = await destination.wait_for(5)

    assert [each.attempt for each in received] == [
        1,
        2,
        3,
        4,
        5,
    ]  # only the first is certainly not a repetition
    assert {key(each, form) for each in received} == {accepted["id"]}
    assert {provider_id(each, form) for each in received} == {"evt_7"}
    assert len({each.event_id for each in received}) == 1
