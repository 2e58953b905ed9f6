"""Verified requests become events with ids and dedupe keys, and no request is lost."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from doubles.dedupe import values
from gatehouse import providers
from gatehouse.config.model import SourceConfig
from gatehouse.config.presets import shipped_preset
from gatehouse.events.envelope import encode, structured
from gatehouse.events.event import UNREADABLE, Event, ReadEvent, new_id
from gatehouse.events.reader import EventReader
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest

NOW = 1_750_000_000.25
Keys = tuple[bytes | None, ...]


def read(
    body: bytes,
    *,
    event: dict[str, Any] | None = None,
    by: tuple[Any, ...] = (),
    signed: bytes | None = None,
    **headers: str,
) -> list[ReadEvent]:
    config = SourceConfig.model_validate(
        {
            "verify": {"type": "hmac", "signature": {"header": "X-Sig"}},
            "event": {"type": "{body:type}", "data": "{body:data}"} | (event or {}),
            "dedupe": {"by": by},
        }
    )
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    request = Request("POST", "/webhooks/s", "", named, body)
    reader = EventReader("s", "/webhooks/s", config, provider="p")
    return reader.read(VerifiedRequest(request, {} if signed is None else {"signed": signed}), NOW, ())


def read_one(body: bytes, **options: Any) -> Event:
    ((event, _, _),) = read(body, **options)
    return event


def test_every_field_comes_from_its_template() -> None:
    event = read_one(
        b'{"id":"e1","type":"t.a","at":1750000001,"data":{"id":"d1","n":1.50},"tenant":7}',
        event={
            "id": "{body:id}",
            "time": "{body:at}",
            "subject": "{body:data.id}",
            "account": "{body:tenant}",
        },
        Content_Type="application/json",
    )

    assert (event.external_id, event.type, event.subject, event.account) == ("e1", "t.a", "d1", "7")
    assert (event.source, event.path, event.provider) == ("s", "/webhooks/s", "p")
    assert event.time == "2025-06-15T15:06:41Z"
    assert event.received == NOW
    assert event.content_type == "application/json"
    assert event.data == b'{"id":"d1","n":1.50}'
    assert len(event.id) == 26


def test_missing_fields_have_defaults() -> None:
    event = read_one(b'{"type":"t"}', event={"id": "{body:id}", "time": "{body:at}", "subject": "{body:s}"})

    assert event.external_id == event.id
    assert event.time == "2025-06-15T15:06:40.25Z"
    assert (event.subject, event.account, event.data) == (None, None, None)


def test_without_a_data_template_the_whole_body_is_the_data() -> None:
    event = read_one(b'{"type":"t","n":1.50}', event={"data": "{body}"})

    assert (event.data, event.data_is_json) == (b'{"type":"t","n":1.50}', True)


def test_a_body_that_is_not_json_is_kept_unchanged() -> None:
    event = read_one(b"a=1&b=2", event={"type": "form", "data": "{body}"})

    assert (event.type, event.data, event.data_is_json) == ("form", b"a=1&b=2", False)


@pytest.mark.case("S-20", "S-21", "S-22")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"nope",
        b"\xff\xfe",
        b'{"id":1}',
        b'{"type":""}',
        b'{"type":null}',
        b'{"type":"a\\u0000b"}',
        b'{"type":"a","type":"b"}',
        b'{"type":"' + b"x" * 2000 + b'"}',
        b'{"type":' + b"[" * 100_000,
    ],
)
def test_an_unreadable_body_becomes_an_unreadable_event(body: bytes) -> None:
    event = read_one(body)

    assert event.type == UNREADABLE
    assert (event.data, event.data_is_json) == (body, False)
    assert event.external_id == event.id


@pytest.mark.case("S-23")
def test_an_id_with_control_characters_is_ignored() -> None:
    event = read_one(b'{"type":"t","id":"a\\nb"}', event={"id": "{body:id}"})

    assert event.external_id == event.id


def test_every_key_that_resolves_keeps_its_position() -> None:
    ((_, keys, _),) = read(
        b'{"type":"t","id":"e1"}',
        by=("{header:X-Delivery}", "{header:none}", "{body:id}", "{body:none}"),
        X_Delivery="d1",
    )

    assert values(keys) == (b"d1", None, b"e1", None)


def test_an_empty_key_is_ignored() -> None:
    ((_, keys, _),) = read(b'{"type":"t","id":""}', by=("{body:id}",))

    assert values(keys) == (None,)


def test_long_keys_are_hashed_and_short_keys_are_not() -> None:
    ((_, keys, _),) = read(b'{"type":"t"}', by=("{signed}", "{header:X}"), signed=b"s" * 500, X="y" * 38)

    assert values(keys) == (b"sha256:" + hashlib.sha256(b"s" * 500).digest(), b"y" * 38)


def test_a_short_key_never_equals_the_hash_of_a_long_one() -> None:
    hashed = b"sha256:" + hashlib.sha256(b"s" * 500).digest()
    ((_, keys, _),) = read(b'{"type":"t"}', by=("{signed}",), signed=hashed)

    assert values(keys) != (hashed,)


def test_an_unreadable_event_still_has_the_keys_that_do_not_need_the_body() -> None:
    ((event, keys, _),) = read(
        b"nope", by=("{header:X-Delivery}", ("{body:id}", "{signed}")), signed=b"nope", X_Delivery="d1"
    )

    assert event.type == UNREADABLE
    assert values(keys) == (b"d1", b"nope", b"nope")


@pytest.mark.parametrize("body", [b"1{}", b"12{}", b'{"id":'])
def test_an_unreadable_event_is_deduplicated_by_its_signed_bytes(body: bytes) -> None:
    ((event, keys, _),) = read(body, by=(("{body:id}", "{body}"),), signed=b"12{}")

    assert event.type == UNREADABLE
    assert values(keys) == (body, b"12{}")


def test_a_form_without_its_content_type_is_unreadable_even_with_a_type_header() -> None:
    event = {"document": ("{form:payload}", "{body}"), "type": "{header:X-Type}"}
    form = "application/x-www-form-urlencoded"

    assert read_one(b"payload={}", event=event, X_Type="t", Content_Type=form).type == "t"
    assert read_one(b"payload={}", event=event, X_Type="t").type == UNREADABLE


def test_unreadable_items_of_one_request_are_separate_events() -> None:
    read_events = read(
        b'{"events":[{"id":"a"},{"id":"b"}]}',
        event={"split": "{body:events}"},
        by=("{body:id}",),
        signed=b"s",
    )

    assert [(event.type, values(keys)) for event, keys, _ in read_events] == [
        (UNREADABLE, (b"a",)),
        (UNREADABLE, (b"b",)),
    ]


def test_keys_that_the_config_leaves_unsigned_are_not_overruled_by_the_signed_bytes() -> None:
    ((event, keys, _),) = read(b"ping", by=("{header:X-Delivery}",), signed=b"ping", X_Delivery="d1")

    assert event.type == UNREADABLE
    assert values(keys) == (b"d1",)


def test_a_batch_is_split_and_each_item_has_its_own_identity() -> None:
    read_events = read(
        b'{"events":[{"id":"a","type":"x","data":1.0},{"id":"b","type":"y"}]}',
        event={"id": "{body:id}", "split": "{body:events}"},
        by=("{body:id}",),
    )

    assert [(event.external_id, event.type, values(keys)) for event, keys, _ in read_events] == [
        ("a", "x", (b"a",)),
        ("b", "y", (b"b",)),
    ]
    assert [one.event.body for one in read_events] == [
        b'{"id":"a","type":"x","data":1.0}',
        b'{"id":"b","type":"y"}',
    ]


def test_the_data_of_an_item_may_be_the_document_around_it() -> None:
    around = b'{"who":"a","items":[{"type":"x"}, {"type":"y"}]}'
    body = b'{"value":' + around + b"}"
    read_events = read(body, event={"split": "{body:value.items}", "data": ("{outer:value}", "{body}")})

    assert [event.type for event, _, _ in read_events] == ["x", "y"]
    assert {event.data for event, _, _ in read_events} == {around}
    ((alone, _, _),) = read(b'{"type":"z"}', event={"split": "{body:value.items}", "data": "{outer:value}"})
    assert alone.data is None


def test_a_batch_without_its_list_is_one_event() -> None:
    ((event, _, _),) = read(b'{"type":"x"}', event={"split": "{body:events}"})

    assert (event.type, event.body) == ("x", b'{"type":"x"}')


@given(st.binary(max_size=300))
def test_any_body_becomes_at_least_one_event_that_contains_it(body: bytes) -> None:
    ((event, _, _),) = read(body, by=("{body:id}", "{signed}"), signed=body)

    assert event.body == body


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.datetimes().map(str)
    | st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,9})?", fullmatch=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = (
    "id",
    "type",
    "event",
    "created",
    "createdAt",
    "created_at",
    "tenant_id",
    "organization_id",
    "data",
)


@pytest.fixture(scope="module")
def readers() -> list[EventReader]:
    """Return the reader of each preset. Creating a reader takes longer than using it."""
    return [
        EventReader("s", "/webhooks/s", shipped_preset(name), provider=name) for name in providers.names()
    ]


@given(members=st.dictionaries(st.sampled_from(MEMBERS), ANYTHING))
def test_each_preset_reads_an_event_from_any_verified_body(
    readers: list[EventReader], members: dict[str, Any]
) -> None:
    """All presets read the same bodies, so each body is generated once."""
    body = json.dumps(members).encode()
    verified = VerifiedRequest(Request("POST", "/", "", CIMultiDict(), body), {"signed": body})

    for reader in readers:
        for event, _, _ in reader.read(verified, NOW, ()):
            structured(event)
            encode(event, "cloudevents-binary")


def test_ids_have_the_form_of_a_ulid() -> None:
    made = new_id(1_700_000_000.0)

    assert len(made) == 26
    assert set(made) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_the_time_part_is_the_milliseconds() -> None:
    # The example of the specification: 01ARZ3NDEK is 1469918176385 ms.
    assert new_id(1469918176.385).startswith("01ARYZ6S41")


def test_ids_sort_by_time_and_differ() -> None:
    made = [new_id(1_700_000_000.0 + step) for step in range(100)]

    assert made == sorted(made)
    assert len({new_id(1.0) for _ in range(1000)}) == 1000
