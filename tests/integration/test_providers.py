"""Each provider end to end, from the HTTP request to the delivery at a destination."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook

from doubles import providers
from doubles.destination import ScriptedDestination
from gateways import BASIC, CONFIG, SIGNING_SECRET, RunGateway, Running

EXACT = (
    b'{"id":"evt_1","type":"sale.created","created":"2024-01-15T10:30:00Z",'
    b'"data":{"n": 12345678901234567890123, "total":45.50}}'
)
E_INVOICE = json.loads((Path(__file__).parent.parent / "vectors" / "e-invoice-be.json").read_text())[
    "vectors"
][0]


async def test_data_arrives_as_the_bytes_that_were_sent(
    running: Running, destination: ScriptedDestination
) -> None:
    status, answer = await running.send("mando", EXACT, providers.mando(EXACT))
    (received,) = await destination.wait_for(1)

    assert (status, answer["status"]) == (200, "accepted")
    assert received.event_id == answer["id"]
    assert received.body.endswith(b'"data":{"n": 12345678901234567890123, "total":45.50}}')


async def test_deliveries_verify_with_the_standardwebhooks_library(
    running: Running, destination: ScriptedDestination
) -> None:
    await running.send("mando", EXACT, providers.mando(EXACT))
    (received,) = await destination.wait_for(1)

    event = Webhook(SIGNING_SECRET).verify(received.body, dict(received.headers))
    assert event["type"] == "sale.created"


async def test_deliveries_parse_with_the_cloudevents_library(
    running: Running, destination: ScriptedDestination
) -> None:
    await running.send("mando", EXACT, providers.mando(EXACT))
    (received,) = await destination.wait_for(1)

    headers = {name.lower(): value for name, value in received.headers.items()}
    event = from_http_event(HTTPMessage(headers=headers, body=received.body))
    assert event.get_id() == "evt_1"
    assert event.get_source() == "/webhooks/mando"
    assert event.get_type() == "sale.created"
    assert event.get_time() is not None
    assert event.get_extension("provider") == "mando"


@pytest.mark.parametrize("form", ["cloudevents", "cloudevents-binary", "raw"])
async def test_no_format_forwards_the_providers_signature_or_credentials(
    run_gateway: RunGateway, destination: ScriptedDestination, form: str
) -> None:
    config = CONFIG.format(url=destination.url).replace(
        "secret: env:SIGNING", f'format: {form}, headers: ["*"]'
    )
    if form != "raw":
        config = config.replace(', headers: ["*"]', "")
    extra = {"Authorization": "Basic x", "Cookie": "a=b", "webhook-id": "forged", "gatehouse-attempt": "99"}
    async with run_gateway(config) as gateway:
        await gateway.send("hisab", b'{"event":"x"}', providers.hisab(b'{"event":"x"}') | extra)
        (received,) = await destination.wait_for(1)

    names = {name.lower() for name in received.headers}
    assert not names & {"x-webhook-signature", "authorization", "cookie"}
    assert received.headers.getall("gatehouse-attempt") == ["1"]
    assert "forged" not in received.headers.getall("webhook-id")
    if form == "raw":
        assert received.body == b'{"event":"x"}'
        assert received.headers["x-webhook-delivery-id"] == "del_1"


class TestEInvoice:
    """e-invoice.be signs the JSON, not the bytes."""

    HEADERS: dict[str, str] = E_INVOICE["headers"]

    async def test_the_published_example_is_accepted_once_in_any_order_of_keys(
        self, running: Running, destination: ScriptedDestination
    ) -> None:
        backwards = json.dumps(dict(reversed(json.loads(E_INVOICE["body"]).items()))).encode()

        assert (await running.send("e-invoice", backwards, self.HEADERS))[1]["status"] == "accepted"
        assert (await running.send("e-invoice", E_INVOICE["body"].encode(), self.HEADERS))[1]["status"] == (
            "duplicate"
        )
        (received,) = await destination.wait_for(1)
        event = json.loads(received.body)
        assert (event["account"], event["time"]) == ("ten-abc123", "2025-11-10T13:10:49Z")

    @pytest.mark.case("S-21")
    async def test_a_repeated_key_is_refused(self, running: Running) -> None:
        body = E_INVOICE["body"].replace("{", '{"id": "evt-forged", ', 1).encode()

        assert (await running.send("e-invoice", body, self.HEADERS))[0] == 401
        scraped = await running.metrics()
        assert scraped["gatehouse_verification_failures_total", "malformed_body", "e-invoice"] == 1

    async def test_basic_credentials_can_be_required_in_addition(
        self, run_gateway: RunGateway, destination: ScriptedDestination
    ) -> None:
        both = "secrets: [env:EINVOICE], verify: [preset, {{type: basic, secrets: env:BASIC}}]"
        config = CONFIG.replace("secrets: [env:EINVOICE]", both).format(url=destination.url)
        credentials = {"Authorization": "Basic " + base64.b64encode(BASIC.encode()).decode()}
        body = E_INVOICE["body"].encode()
        async with run_gateway(config) as gateway:
            assert (await gateway.send("e-invoice", body, self.HEADERS))[0] == 401
            assert (await gateway.send("e-invoice", body, credentials))[0] == 401
            assert (await gateway.send("e-invoice", body, self.HEADERS | credentials))[0] == 200


class TestGetpeppr:
    """getpeppr sends large bodies and announces a document more than once."""

    def inbound(self, event_id: str, document: str, size: int = 0) -> bytes:
        data = {"receivedDocumentId": document, "xml": "A" * size}
        return providers.body(
            id=event_id, type="inbound.received", createdAt="2026-03-01T10:05:00Z", data=data
        )

    async def test_a_body_of_700_kb_is_accepted_and_arrives_complete(
        self, running: Running, destination: ScriptedDestination
    ) -> None:
        body = self.inbound("evt_1", "doc_1", 700_000)

        assert (await running.send("getpeppr", body, providers.getpeppr(body)))[0] == 200
        (received,) = await destination.wait_for(1)
        assert len(json.loads(received.body)["data"]["xml"]) == 700_000

    @pytest.mark.parametrize("chunked", [None, True])
    async def test_more_than_the_limit_is_413_and_stores_nothing(
        self, running: Running, chunked: bool | None
    ) -> None:
        body = self.inbound("evt_1", "doc_1", 1024 * 1024)

        status, answer = await running.send("getpeppr", body, providers.getpeppr(body), chunked=chunked)

        assert (status, answer["error"]["code"]) == (413, "too_large")
        scraped = await running.metrics()
        assert scraped["gatehouse_requests_total", "too_large", "getpeppr"] == 1
        assert scraped["gatehouse_events_total", "getpeppr"] == 0

    async def test_a_document_that_is_sent_again_with_a_new_id_is_a_duplicate(self, running: Running) -> None:
        first, again = self.inbound("evt_1", "doc_1"), self.inbound("evt_2", "doc_1")
        other = self.inbound("evt_3", "doc_2")

        _, accepted = await running.send("getpeppr", first, providers.getpeppr(first))
        status, answer = await running.send("getpeppr", again, providers.getpeppr(again))
        _, fresh = await running.send("getpeppr", other, providers.getpeppr(other))

        assert (status, answer) == (200, {"status": "duplicate", "id": accepted["id"]})
        assert fresh["status"] == "accepted"
        scraped = await running.metrics()
        assert scraped["gatehouse_requests_total", "conflict", "getpeppr"] == 1

    async def test_a_stale_request_is_refused(self, running: Running) -> None:
        body = self.inbound("evt_1", "doc_1")

        assert (await running.send("getpeppr", body, providers.getpeppr(body, at=time.time() - 301)))[
            0
        ] == 401
        scraped = await running.metrics()
        assert scraped["gatehouse_verification_failures_total", "stale_timestamp", "getpeppr"] == 1


@pytest.mark.case("S-10")
async def test_a_captured_mandato_request_with_a_new_delivery_id_is_a_duplicate(running: Running) -> None:
    body = providers.body(id="evt_1", type="invoice.accepted", data={})

    _, first = await running.send("mandato", body, providers.mandato(body))
    _, replay = await running.send("mandato", body, providers.mandato(body, delivery="dlv_2"))

    assert replay == {"status": "duplicate", "id": first["id"]}


@pytest.mark.case("S-10")
async def test_a_captured_hisab_request_with_a_new_delivery_id_is_a_duplicate(running: Running) -> None:
    body = providers.body(event="invoice.paid", data={"id": "inv_1"})
    headers = providers.hisab(body)

    _, first = await running.send("hisab", body, headers)
    _, replay = await running.send("hisab", body, headers | {"X-Webhook-Delivery-Id": "del_2"})

    assert replay == {"status": "duplicate", "id": first["id"]}


@pytest.mark.case("S-10")
async def test_a_replay_cannot_block_a_made_up_delivery_id(running: Running) -> None:
    captured = providers.body(id="evt_1", type="invoice.accepted", data={})
    genuine = providers.body(id="evt_2", type="invoice.accepted", data={})

    await running.send("mandato", captured, providers.mandato(captured))
    await running.send("mandato", captured, providers.mandato(captured, delivery="dlv_2"))
    _, answer = await running.send("mandato", genuine, providers.mandato(genuine, delivery="dlv_2"))

    assert answer["status"] == "accepted"


async def test_hisab_may_resend_with_a_new_timestamp(running: Running) -> None:
    body = providers.body(event="invoice.paid", data={"id": "inv_1"})
    now = time.time()

    await running.send("hisab", body, providers.hisab(body, at=now - 200))
    _, answer = await running.send("hisab", body, providers.hisab(body, at=now))

    assert answer["status"] == "duplicate"


async def test_64_identical_requests_at_once_are_stored_and_forwarded_once(
    running: Running, destination: ScriptedDestination
) -> None:
    body = providers.body(id="evt_1", type="invoice.accepted", data={})
    headers = providers.mandato(body)

    answers = await asyncio.gather(*(running.send("mandato", body, headers) for _ in range(64)))

    assert {status for status, _ in answers} == {200}
    assert sorted(answer["status"] for _, answer in answers) == ["accepted"] + ["duplicate"] * 63
    assert len({answer["id"] for _, answer in answers}) == 1
    await destination.wait_for(1)
    await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)
    assert (await running.metrics())["gatehouse_events_total", "mandato"] == 1
    assert len(destination.requests) == 1


@pytest.mark.case("S-13")
async def test_a_rotation_accepts_both_secrets(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.replace("mando, secrets: [env:SECRET]", "mando, secrets: [env:NEW, env:SECRET]")
    body, other = providers.body(id="1", type="a"), providers.body(id="2", type="a")
    new = "the-secret-that-comes-after"
    async with run_gateway(config.format(url=destination.url), NEW=new) as gateway:
        assert (await gateway.send("mando", body, providers.mando(body)))[0] == 200
        assert (await gateway.send("mando", other, providers.mando(other, secret=new)))[0] == 200
