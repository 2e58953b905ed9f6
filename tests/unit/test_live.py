"""The ring buffer of the stream, and the entries that its readers get."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from conformance.builders import NOW, event
from gatehouse.events.envelope import encode
from gatehouse.operator.stream import view
from gatehouse.operator.stream.entries import LeftOut
from gatehouse.operator.stream.view import View
from gatehouse.operator.stream.wanted import Position, Wanted
from gatehouse.telemetry.live import AttemptSeen, Hub, Kind, RequestSeen
from gatehouse.workers.stream import parse_block


def hub(max_entries: int = 10_000, max_bytes: int = 1_000_000) -> Hub:
    made = Hub(lambda: NOW, max_entries=max_entries, max_bytes=max_bytes)
    made.activate()
    return made


def request(client: str | None = None) -> RequestSeen:
    return RequestSeen("shop", "accepted", 200, None, client, 1.25, ("01A",), "invoice.paid")


def publish(into: Hub, number: int = 1, size: int = 0) -> None:
    for _ in range(number):
        into.publish("request", request(), source="shop", event_type="invoice.paid", size=size)


def entries(data: bytes) -> list[dict[str, Any]]:
    """Parse the entries that a view has encoded."""
    blocks = [block.split(b"\n") for block in data.split(b"\n\n") if block]
    return [
        {"id": lines[0].decode().removeprefix("id: "), "kind": lines[1].decode().removeprefix("event: ")}
        | json.loads(lines[2].removeprefix(b"data: "))
        for lines in blocks
    ]


def test_a_hub_is_inactive_without_readers() -> None:
    assert not Hub().active


def test_new_entries_replace_the_oldest_ones() -> None:
    ring = hub(max_entries=3)
    publish(ring, 5)

    assert (ring.kept_from, ring.next) == (3, 6)


def test_the_bytes_of_the_kept_entries_are_bounded() -> None:
    ring = hub(max_bytes=100)
    publish(ring, 5, size=40)

    assert ring.next - ring.kept_from == 2


def test_an_entry_that_is_too_large_is_not_kept() -> None:
    ring = hub(max_bytes=100)
    publish(ring, 1, size=101)

    assert ring.kept_from == ring.next


def test_a_waiting_reader_is_woken_once() -> None:
    ring, woken = hub(), list[int]()
    ring.call_at_next(lambda: woken.append(ring.next))
    publish(ring, 3)

    assert woken == [2]


def test_a_hub_that_was_inactive_shows_that_something_may_be_missing() -> None:
    ring = hub()
    publish(ring, 2)
    following = ring.next
    ring.deactivate()
    ring.activate()
    publish(ring, 1)

    assert following < ring.kept_from
    assert ring.next - ring.kept_from == 1


def test_an_entry_has_its_id_its_kind_and_its_time() -> None:
    ring = hub()
    publish(ring)
    (entry,) = entries(View(ring, Wanted()).read(1).data)

    assert entry == {
        "id": f"{int(NOW * 1000)}-{ring.boot}-1",
        "kind": "request",
        "at": "2025-06-15T15:06:40Z",
        "source": "shop",
        "outcome": "accepted",
        "status": 200,
        "reason": None,
        "client": None,
        "duration_ms": 1.25,
        "event_ids": ["01A"],
        "type": "invoice.paid",
    }
    assert list(entry)[2] == "at"


def test_the_envelope_equals_the_one_that_a_destination_gets() -> None:
    ring, sent = hub(), event()
    ring.publish("event", sent, source="mandato", event_type=sent.type, destinations=("billing",))

    (entry,) = entries(View(ring, Wanted(envelope=True)).read(1).data)

    assert entry["envelope_base64"].encode() == base64.b64encode(encode(sent, "cloudevents")[1])
    assert "body_base64" not in entry


def test_text_that_is_not_unicode_is_shown_with_replacement_characters() -> None:
    ring = hub()
    ring.publish("request", request(client="\udcff"))

    (entry,) = entries(View(ring, Wanted()).read(1).data)

    assert "\N{REPLACEMENT CHARACTER}" in entry["client"]


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        (Wanted(), ["request", "event", "attempt"]),
        (Wanted(kinds=frozenset({"event"})), ["event"]),
        (Wanted(source="mandato"), ["event"]),
        (Wanted(source="shop"), ["request", "attempt"]),
        (Wanted(type="invoice.*"), ["request", "event", "attempt"]),
        (Wanted(type="invoice.paid"), ["request", "attempt"]),
        (Wanted(type="invoiceitem.*"), []),
        (Wanted(destination="billing"), ["event", "attempt"]),
        (Wanted(destination="ledger"), ["event"]),
    ],
)
def test_a_filter_selects_entries(wanted: Wanted, kinds: list[Kind]) -> None:
    ring = hub()
    publish(ring)
    ring.publish(
        "event",
        event(),
        source="mandato",
        event_type="invoice.accepted",
        destinations=("billing", "ledger"),
    )
    attempt = AttemptSeen(
        "01A", "shop", "invoice.paid", "evt_1", "billing", 1, "ok", 200, 3.5, "delivered", None
    )
    ring.publish("attempt", attempt, source="shop", event_type="invoice.paid", destinations=("billing",))
    ring.publish("request", request(), source=None)

    found = [entry["kind"] for entry in entries(View(ring, wanted).read(1).data)]

    assert found == kinds + (["request"] if wanted == Wanted() else [])


def test_readers_with_the_same_options_share_the_encoded_entries() -> None:
    ring = hub()
    shared = View(ring, Wanted())
    publish(ring, 10)

    assert shared.read(1).data is shared.read(1).data


def test_chunks_end_at_the_same_positions_for_all_readers() -> None:
    ring = hub()
    shared = View(ring, Wanted())
    publish(ring, 2 * view.BLOCK)

    assert {shared.read(start).next for start in (1, 7, view.BLOCK - 1)} == {view.BLOCK}
    assert shared.read(view.BLOCK).next == 2 * view.BLOCK


def test_a_chunk_of_large_entries_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "CHUNK_BYTES", 1000)
    ring = hub()
    publish(ring, 100)

    assert len(View(ring, Wanted()).read(1).data) < 1400


def test_a_view_keeps_few_chunks() -> None:
    ring = hub()
    shared = View(ring, Wanted())
    publish(ring, 5000)
    for start in range(1, 5000):
        shared.read(start)

    assert len(shared._chunks) <= 8


def test_only_a_valid_id_is_parsed() -> None:
    position = Position(1_750_000_000_000, "0a1b2c3d", 17)

    assert Position.parse(str(position)) == position
    assert [Position.parse(text) for text in ("", "1-a", "1-a-b", "x-a-1", "1-a-1\n", "1-a-" + "9" * 40)] == [
        None
    ] * 6


def test_missed_entries_are_reported_to_the_readers_that_they_may_concern() -> None:
    ring, only_events = hub(), Wanted(kinds=frozenset({"event"}), source="shop")
    ring.publish("left_out", LeftOut(3))
    ring.publish("left_out", LeftOut(None))

    assert [entry["count"] for entry in entries(View(ring, only_events).read(1).data)] == [3]
    assert [entry["count"] for entry in entries(View(ring, Wanted(source="x")).read(1).data)] == [3, None]


def test_the_stream_of_a_worker_is_parsed() -> None:
    ring = hub()
    publish(ring)
    block, _, _ = View(ring, Wanted()).read(1).data.partition(b"\n\n")
    parsed = parse_block(block)

    assert parsed is not None
    assert (Position.parse(parsed.position), parsed.kind) == (
        Position(int(NOW * 1000), ring.boot, 1),
        "request",
    )
    assert msgspec.json.decode(parsed.data, type=RequestSeen) == request()
    assert parse_block(b": ") is None
    assert parse_block(b": \nid: 1-a-1") == ("1-a-1", "", b"")
