"""Batches over real sockets: each item becomes an event and is deduplicated separately."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from doubles.destination import ScriptedDestination
from gatehouse.errors import UnavailableError
from gatehouse.ingest.committer import Committer
from gatehouse.ingest.pipeline import MAX_ROWS
from gatehouse.store.base import Arrival, Receipt
from gateways import RunGateway, Running
from presets import FILES, Vector, blanks, environment

#: The providers that send several events in one request, according to their issue trackers and docs.
BATCHES = (
    *("adyen", "asana", "auth0", "azure-event-grid", "gocardless", "hubspot", "mandrill", "meta"),
    *("ms-graph", "okta", "quickbooks", "sendgrid", "whatsapp", "xero"),
)


def batch_of(preset: str) -> Vector:
    """Return the vector with the most events."""
    good = [vector for vector in FILES[preset].vectors if vector.events and not vector.refused]
    return max(good, key=lambda vector: len(vector.events or ()))


def config(preset: str, vector: Vector, url: str, extra: str = "") -> str:
    secrets = ", ".join(f"env:{name}" for name in environment(vector.secrets))
    values = json.dumps(dict.fromkeys(blanks(preset), "value-1") | vector.values)
    request = vector.request()
    return f"""
server: {{listen: "127.0.0.1:0", public_url: "{request.public_url}"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  it:
    {{provider: {preset}, secrets: [{secrets}], path: {request.path}, min_secret: 1, values: {values}{extra}}}
destinations:
  app: {{url: "{url}", concurrency: 1}}
routes:
  - {{from: it, to: app}}
"""


async def post(gateway: Running, path: str, query: str, headers: Any, body: bytes) -> tuple[int, Any]:
    url = f"{gateway.url}{path}" + (f"?{query}" if query else "")
    sent = CIMultiDict(headers)
    sent.popall("Content-Length", None)
    async with gateway.client.post(url, data=body, headers=sent) as answer:
        text = await answer.text()
    return answer.status, json.loads(text) if text.startswith("{") else text


@pytest.mark.parametrize("preset", BATCHES)
async def test_each_item_is_an_event_and_is_deduplicated(
    preset: str, run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    vector = batch_of(preset)
    expected = vector.events or []
    request = vector.request()
    sent = (request.path, request.query, request.headers, request.body)
    assert len(expected) > 1
    async with run_gateway(
        config(preset, vector, destination.url, ", answers: {body: ~}" if preset == "adyen" else ""),
        clock=lambda: vector.now,
        **environment(vector.secrets),
    ) as gateway:
        first_status, _ = await post(gateway, *sent)
        received = await destination.wait_for(len(expected))
        again_status, _ = await post(gateway, *sent)
        scraped = await gateway.metrics()

    assert 200 <= first_status == again_status < 300
    assert scraped["gatehouse_events_total", "it"] == len(expected)
    events = [json.loads(one.body) for one in received]
    assert sorted(event["type"] for event in events) == sorted(event["type"] for event in expected)
    assert len({one.event_id for one in received}) == len(expected)


def item(number: int) -> dict[str, Any]:
    return {
        "eventId": number,
        "subscriptionId": 7,
        "portalId": 62515,
        "occurredAt": 1_750_000_000_000,
        "subscriptionType": "contact.creation",
        "objectId": 100 + number,
    }


async def test_a_batch_with_known_items_stores_the_rest(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    vector = batch_of("hubspot")
    text = config("hubspot", vector, destination.url)
    async with run_gateway(text, clock=lambda: vector.now, **environment(vector.secrets)) as gateway:
        source = gateway.gateway.sources["it"]

        async def send(*numbers: int) -> Any:
            body = json.dumps([item(number) for number in numbers]).encode()
            plain = msgspec.structs.replace(vector.request(), body=body, headers=CIMultiDict())
            request = source.verification.sign(plain, vector.now)
            return (await post(gateway, request.path, request.query, request.headers, body))[1]

        first = await send(1, 2)
        second = await send(2, 3)
        third = await send(3, 1)
        received = await destination.wait_for(3)
        duplicates = [await gateway.ask(f"/api/v1/events/{one}/duplicates") for one in second["ids"]]

    assert [one["count"] for one in duplicates] == [1, 1]
    assert [answer["status"] for answer in (first, second, third)] == ["accepted", "accepted", "duplicate"]
    assert second["ids"][0] == first["ids"][1]
    assert third["ids"] == [second["ids"][1], first["ids"][0]]
    subjects = [json.loads(one.body)["data"]["objectId"] for one in received]
    assert sorted(subjects) == [101, 102, 103]


async def test_one_forged_item_among_ten_refuses_the_whole_request_and_stores_nothing(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    vector = batch_of("adyen")
    async with run_gateway(
        config("adyen", vector, destination.url), clock=lambda: vector.now, **environment(vector.secrets)
    ) as gateway:
        source = gateway.gateway.sources["it"]
        whole = json.loads(vector.content)
        first = whole["notificationItems"][0]
        whole["notificationItems"] = [
            {"NotificationRequestItem": first["NotificationRequestItem"] | {"pspReference": f"REF{number}"}}
            for number in range(10)
        ]
        plain = msgspec.structs.replace(vector.request(), body=json.dumps(whole).encode())
        signed = source.verification.sign(plain, vector.now).body
        forged = re.sub(rb'"pspReference": ?"REF6"', b'"pspReference": "REFX"', signed)
        assert forged != signed

        refused = await post(gateway, plain.path, "", plain.headers, forged)
        accepted = await post(gateway, plain.path, "", plain.headers, signed)
        await destination.wait_for(10)
        scraped = await gateway.metrics()

    assert refused[0] == 401
    assert accepted[0] == 200
    assert accepted[1] == "[accepted]"
    assert scraped["gatehouse_events_total", "it"] == 10
    assert scraped["gatehouse_verification_failures_total", "wrong_signature", "it"] == 1


LARGEST = 10_000
ORDERED = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  open:
    verify: {type: none, insecure: true}
    event: {id: "{body:id}", type: "{body:type}", split: "{body:items}"}
    dedupe: {by: ["{body:id}"]}
destinations:
%s
routes:
  - {from: "*", to: [%s]}
"""


def ordered(destinations: int) -> str:
    """Write a config with ordered destinations that no server answers for."""
    names = [f"app{number}" for number in range(destinations)]
    lines = [f'  {name}: {{url: "http://127.0.0.1:9/", order_by: "{{body:group}}"}}' for name in names]
    return ORDERED % ("\n".join(lines), ", ".join(names))


def batch(items: int) -> bytes:
    return msgspec.json.encode(
        {"items": [{"id": str(n), "type": "made.up", "group": str(n % 50)} for n in range(items)]}
    )


@pytest.mark.case("F-13")
async def test_a_batch_of_the_largest_size_for_ten_ordered_destinations_is_accepted(
    run_gateway: RunGateway,
) -> None:
    async with run_gateway(ordered(10)) as running:
        status, answer = await running.send("open", batch(LARGEST), {})
        assert (status, answer["status"], len(set(answer["ids"]))) == (200, "accepted", LARGEST)

        status, again = await running.send("open", batch(LARGEST), {})
        assert (status, again) == (200, {"status": "duplicate", "ids": answer["ids"]})


@pytest.mark.case("F-13")
async def test_a_batch_that_fails_in_part_is_503_and_its_retry_stores_each_event_once(
    run_gateway: RunGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, calls = Committer.accept, 0

    async def fails_once(committer: Committer, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise UnavailableError("the store is too slow; send again later", reason="commit_deadline")
        return await accept(committer, arrivals)

    monkeypatch.setattr(Committer, "accept", fails_once)
    items = MAX_ROWS  # each takes three rows
    async with run_gateway(ordered(1)) as running:
        assert (await running.send("open", batch(items), {}))[0] == 503
        stored = (await running.metrics())["gatehouse_events_total", "open"]
        assert 0 < stored < items

        status, answer = await running.send("open", batch(items), {})
        assert (status, answer["status"], len(set(answer["ids"]))) == (200, "accepted", items)
        assert (await running.metrics())["gatehouse_events_total", "open"] == items
