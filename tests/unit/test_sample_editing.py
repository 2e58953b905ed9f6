"""Values of samples are set where a source reads them: in JSON, in forms, and in each item of a batch."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from gatehouse.config.presets import shipped_preset
from gatehouse.errors import GatewayError
from gatehouse.language.document import MalformedDocumentError, with_value
from gatehouse.samples.editing import edited_items, renamed, with_field, with_setting, without
from gatehouse.samples.event_type import with_type
from gatehouse.samples.sample import Sample, type_of

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def body_of(preset: str, sample: Sample, path: str, value: str) -> bytes:
    return with_setting(sample, shipped_preset(preset), path, value).body


def test_numbers_that_are_not_set_keep_their_digits() -> None:
    body = b'{"a": 45.50, "b": {"c": 1e2, "d": 1}}'
    assert body_of("stripe", Sample({}, body), "b.d", "2") == b'{"a": 45.50, "b": {"c": 1e2, "d": 2}}'


def test_a_body_in_lines_stays_in_lines() -> None:
    assert body_of("stripe", Sample({}, b'{\n  "a": 1\n}'), "b", "x") == b'{\n  "a": 1,\n  "b": "x"\n}'


@pytest.mark.parametrize(
    ("value", "expected"),
    [("5", 5), ('"5"', "5"), ("null", None), ("[1]", [1]), ("a b", "a b"), ("", ""), ("{", "{"), ("é", "é")],
)
def test_a_value_is_json_if_it_can_be_and_text_otherwise(value: str, expected: Any) -> None:
    assert json.loads(body_of("stripe", Sample({}, b"{}"), "x", value)) == {"x": expected}


def test_a_backslash_makes_a_dot_part_of_a_name() -> None:
    assert body_of("stripe", Sample({}, b"{}"), r"a\.b", "1") == b'{"a.b": 1}'


def test_a_value_is_set_in_the_json_of_a_form_field() -> None:
    sample = Sample(FORM, b"payload=%7B%22type%22%3A%22block_actions%22%7D&x=1")
    fields = parse_qs(body_of("slack", sample, "user.id", "U1").decode())
    assert json.loads(fields["payload"][0]) == {"type": "block_actions", "user": {"id": "U1"}}
    assert fields["x"] == ["1"]


@pytest.mark.parametrize("preset", ["slack", "twilio", "stripe"])
def test_a_value_is_set_as_a_field_of_a_form(preset: str) -> None:
    sample = Sample(FORM, b"a=1&b=")
    assert body_of(preset, sample, "b", "x y") == b"a=1&b=x+y"
    assert body_of(preset, sample, "c", "2") == b"a=1&b=&c=2"


def test_a_body_that_is_not_json_has_no_place_for_a_value() -> None:
    with pytest.raises(GatewayError, match="no place"):
        body_of("stripe", Sample({}, b"text"), "a", "1")


def test_every_event_of_nested_batches_is_edited() -> None:
    preset = shipped_preset("meta")
    body = b'{"object":"page","entry":[{"changes":[{"field":"a"},{"field":"b"}]},{"messaging":[{"c":1}]}]}'
    changed = edited_items(Sample({}, body), preset, lambda item: with_value(item, ("x",), b"1"))
    assert json.loads(changed.body)["entry"] == [
        {"changes": [{"field": "a", "x": 1}, {"field": "b", "x": 1}]},
        {"messaging": [{"c": 1, "x": 1}]},
    ]


def test_a_single_object_in_place_of_a_list_is_the_event() -> None:
    changed = edited_items(
        Sample({}, b'{"a": 1}'), shipped_preset("hubspot"), lambda item: renamed(item, "a", "b")
    )
    assert changed.body == b'{"b": 1}'


def test_a_member_is_removed_wherever_it_is() -> None:
    assert without(b'{"a": {"b": 1, "c": 2}}', ("a", "b")) == b'{"a": {"c": 2}}'
    assert without(b'{"a": 1}', ("x", "y")) == b'{"a": 1}'
    assert without(b'{"a": [{"b": 1}]}', ("a", "0", "b")) == b'{"a": [{}]}'
    with pytest.raises(MalformedDocumentError):
        without(b"text", ("a",))


def test_a_field_of_a_form_is_set_or_removed() -> None:
    sample = Sample(FORM, b"a=1&b=2")
    assert with_field(sample, "b", "3").body == b"a=1&b=3"
    assert with_field(sample, "a", None).body == b"b=2"


@pytest.mark.parametrize(
    ("preset", "body", "wanted", "expected"),
    [
        ("gitlab", b'{"object_kind": "issue", "object_attributes": {"action": "open"}}', "push", "push"),
        ("twilio", b"MessageStatus=sent&SmsStatus=sent", "call.busy", "MessageStatus"),
        ("telegram", b'{"update_id": 1, "message": {"chat": 1}}', "callback_query", '"message"'),
        ("vonage", b'{"channel": "sms", "status": "delivered"}', "whatsapp.text", '"sms"'),
    ],
)
def test_what_would_give_another_type_is_replaced_or_removed(
    preset: str, body: bytes, wanted: str, expected: str
) -> None:
    settings = shipped_preset(preset)
    sample = Sample(FORM if preset == "twilio" else {}, body)
    changed = with_type(sample, settings, wanted)
    assert type_of(changed, settings) == wanted
    assert (expected in changed.body.decode()) == (expected == wanted)
