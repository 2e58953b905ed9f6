"""Events as HTTP requests, which the CloudEvents library parses."""

from __future__ import annotations

import json

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st

from doubles.delivery import make_event
from gatehouse.events.envelope import Format, batch, batch_element, batch_id, encode, may_forward
from gatehouse.events.event import UNREADABLE, Event

EXACT = b'{ "big": 12345678901234567890123, "price":45.50, "name": "\\u00e9" }'


def read(event: Event, form: Format) -> BaseCloudEvent:
    headers, body = encode(event, form)
    return from_http_event(HTTPMessage({name.lower(): value for name, value in headers.items()}, body))


def test_structured_is_read_by_the_cloudevents_library() -> None:
    event = make_event(EXACT, subject="inv_1", account="acme", received=1736935216.25)
    found = read(event, "cloudevents").get_attributes()
    assert found["time"].isoformat() == "2025-01-15T10:00:15+00:00"
    assert {name: value for name, value in found.items() if name != "time"} == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "/webhooks/mandato",
        "type": "invoice.accepted",
        "subject": "inv_1",
        "datacontenttype": "application/json",
        "provider": "mandato",
        "account": "acme",
        "receivedtime": "2025-01-15T10:00:16.25Z",
    }


def test_structured_keeps_the_bytes_of_the_data() -> None:
    _, body = encode(make_event(EXACT), "cloudevents")
    assert body.endswith(b',"data":' + EXACT + b"}")
    assert json.loads(body)["data"]["big"] == 12345678901234567890123


def test_part_of_the_body_is_the_data() -> None:
    event = make_event(b'{"id":1,"data":{"x":1.10}}', data_span=(15, 25))
    assert encode(event, "cloudevents-binary")[1] == b'{"x":1.10}'


def test_data_that_is_not_json_is_sent_as_base64() -> None:
    event = make_event(b"\xff<xml/>", data_is_json=False, content_type="text/xml", type=UNREADABLE)
    found = read(event, "cloudevents")
    assert found.get_data() == b"\xff<xml/>"
    assert found.get_datacontenttype() == "text/xml"


def test_an_event_without_data_has_none() -> None:
    _, body = encode(make_event(data_span=None), "cloudevents")
    assert json.loads(body).keys().isdisjoint({"data", "data_base64", "datacontenttype"})


def test_binary_is_read_by_the_cloudevents_library() -> None:
    event = make_event(EXACT, subject='prix "é" 100%\u20ac', account="a b")
    headers, body = encode(event, "cloudevents-binary")
    found = read(event, "cloudevents-binary").get_attributes()
    assert body == EXACT
    assert headers["Content-Type"] == "application/json"
    assert found["subject"] == 'prix "é" 100%\u20ac'
    assert found["account"] == "a b"
    assert all(value.isascii() and value.isprintable() for value in headers.values())


@given(subject=st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_any_subject_is_preserved_in_both_modes(subject: str) -> None:
    event = make_event(subject=subject)
    for form in ("cloudevents", "cloudevents-binary"):
        assert read(event, form).get_subject() == subject


def test_each_element_of_a_batch_is_an_event_to_the_cloudevents_library() -> None:
    events = [make_event(EXACT), make_event(b"\xff", data_is_json=False), make_event(data_span=None)]
    body = batch([batch_element(event) for event in events])
    for event, item in zip(events, json.loads(body), strict=True):
        headers = {"content-type": "application/cloudevents+json"}
        found = from_http_event(HTTPMessage(headers, json.dumps(item).encode()))
        assert found.get_attributes()["gatehouseid"] == event.id
        assert found.get_type() == event.type
    assert EXACT in body


def test_an_element_is_the_structured_form_and_its_key() -> None:
    event = make_event(EXACT)
    whole = json.loads(encode(event, "cloudevents")[1])
    assert json.loads(batch_element(event)) == whole | {"gatehouseid": event.id}


def test_a_batch_element_has_its_own_trace() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert json.loads(batch_element(make_event(headers=(("traceparent", trace),))))["traceparent"] == trace
    assert "traceparent" not in json.loads(batch_element(make_event(headers=(("traceparent", "junk"),))))


def test_the_key_of_a_batch_is_that_of_its_events_in_any_order() -> None:
    assert batch_id(["a", "b", "c"]) == batch_id(["c", "a", "b"])
    assert len({batch_id(ids) for ids in (["a", "b"], ["a"], ["ab"], ["a", "b", "b"], ["a\nb"])}) >= 4
    assert batch_id(["a"]).isascii()


def test_a_batch_of_one_is_a_list_too() -> None:
    headers, body = encode(make_event(EXACT), "cloudevents-batch")
    assert headers == {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    assert len(json.loads(body)) == 1


def test_raw_sends_the_bytes_of_the_provider() -> None:
    event = make_event(EXACT, content_type="application/vnd.mandato+json; v=2", data_span=(2, 5))
    assert encode(event, "raw") == ({"Content-Type": "application/vnd.mandato+json; v=2"}, EXACT)


def test_raw_forwards_the_allowed_headers() -> None:
    event = make_event(headers=(("x-mandato-event", "a"), ("x-other", "b")))
    assert encode(event, "raw", allowed=("x-mandato-*",))[0] == {"x-mandato-event": "a"}


FORBIDDEN = (
    "authorization cookie proxy-authorization proxy-anything connection transfer-encoding content-length "
    "host te upgrade keep-alive forwarded x-forwarded-for x-forwarded-host x-real-ip expect accept-encoding "
    "idempotency-key webhook-id webhook-signature gatehouse-attempt ce-id content-type user-agent traceparent"
)


@pytest.mark.parametrize("name", FORBIDDEN.split())
@pytest.mark.case("S-45")
def test_a_reserved_header_is_never_forwarded(name: str) -> None:
    event = make_event(headers=((name, "forged"),), content_type=None)
    assert not may_forward(name)
    assert encode(event, "raw", allowed=("*", name)) == ({}, event.body)


@pytest.mark.case("S-45")
def test_a_line_break_in_a_header_does_not_become_another_header() -> None:
    event = make_event(
        headers=(("x-note", "a\r\nwebhook-id: forged\x00é"),), content_type="text/plain\r\nx: y"
    )
    headers, _ = encode(event, "raw", allowed=("*",))
    assert headers == {"x-note": "a??webhook-id: forged??", "Content-Type": "text/plain??x: y"}
