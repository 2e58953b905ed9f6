"""The status of each event in the reply to a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.delivery import make_event
from gatehouse.delivery.forwarder import item_statuses

EVENTS = [make_event(id=f"01{name}", external_id=f"evt_{name}") for name in "abc"]


@pytest.mark.parametrize(
    "items",
    [
        [200, 422, 503],
        [{"status": 200}, {"status": 422, "error": "no such customer"}, {"status": 503}],
        [200, {"status": 422}, 503],
        [{"id": "01c", "status": 503}, {"id": "01a", "status": 200}, {"id": "01b", "status": 422}],
        [{"id": "evt_c", "status": 503}, {"id": "evt_a", "status": 200}, {"id": "evt_b", "status": 422}],
        # The destination's own ids, so the order of the batch counts.
        [{"id": "row 3", "status": 200}, {"id": "row 4", "status": 422}, {"id": "row 5", "status": 503}],
        [{"id": 9, "status": 200}, {"id": 8, "status": 422}, {"id": 7, "status": 503}],
    ],
)
def test_a_status_per_event_in_the_order_sent(items: list[Any]) -> None:
    assert item_statuses(json.dumps(items).encode(), EVENTS) == [200, 422, 503]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"ok",
        b"{}",
        b"null",
        b"200",
        b'"[200,200,200]"',
        b"[]",
        b"[200,200]",
        b"[200,200,200,200]",
        b"[200,200,null]",
        b"[200,200,true]",
        b'[200,200,"200"]',
        b"[200,200,200.5]",
        b"[200,200,0]",
        b"[200,200,99]",
        b"[200,200,100]",
        b"[200,200,600]",
        b"[200,200,1e400]",
        b"[200,200,{}]",
        b'[200,200,{"status":null}]',
        b'[200,200,{"code":200}]',
        b"[200,200,[200]]",
        b"[200,200,200",
        b"\xff\xfe",
        b"\x1f\x8b\x08\x00",
        b"[" * 100_000,
    ],
)
def test_any_other_reply_applies_to_the_whole_batch(reply: bytes) -> None:
    assert item_statuses(reply, EVENTS) is None


def test_a_duplicate_id_identifies_no_event() -> None:
    same = [{"id": "01a", "status": 200}, {"id": "01a", "status": 422}, {"id": "01b", "status": 503}]
    assert item_statuses(json.dumps(same).encode(), EVENTS) == [200, 422, 503]
    twins = [make_event(id=f"01{name}", external_id="evt") for name in "ab"]
    reply = [{"id": "evt", "status": 200}, {"id": "evt", "status": 503}]
    assert item_statuses(json.dumps(reply).encode(), twins) == [200, 503]


@given(
    st.binary(max_size=200)
    | st.lists(st.integers() | st.text() | st.none()).map(lambda x: json.dumps(x).encode())
)
def test_no_reply_raises(reply: bytes) -> None:
    found = item_statuses(reply, EVENTS)
    assert found is None or (len(found) == 3 and all(200 <= status <= 599 for status in found))
