"""The hub of the stream, and the entries that its readers get."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from conformance.builders import NOW, event
from gatehouse.events.envelope import encode
from gatehouse.events.event import pack, unpack
from gatehouse.operator.stream import view
from gatehouse.operator.stream.budget import Budget
from gatehouse.operator.stream.view import View
from gatehouse.operator.stream.wanted import Position, Wanted
from gatehouse.telemetry.live import AttemptSeen, EventSeen, Hub, Kind, LeftOut, RequestSeen, Seen
from gatehouse.workers.stream import parse_block


def hub(max_entries: int = 10_000, max_bytes: int = 1_000_000) -> Hub:
    made = Hub(lambda: NOW, max_entries=max_entries, max_bytes=max_bytes)
    made.activate()
    return made


def request(client: str | None = None) -> RequestSeen:
    return RequestSeen("shop", "accepted", 200, None, client, 1.25, ("01A",), "invoice.paid")


def attempt() -> AttemptSeen:
    return AttemptSeen(
        "01A", "shop", "invoice.paid", "evt_1", "billing", 1, "ok", 200, 3.5, "delivered", None
    )


def event_seen(packed: bytes | None = None) -> EventSeen:
    sent = event()
    return EventSeen(
        sent.id,
        sent.source,
        sent.type,
        sent.external_id,
        sent.subject,
        sent.account,
        sent.received,
        ("billing", "ledger"),
        packed,
    )


def publish(into: Hub, number: int = 1) -> None:
    for _ in range(number):
        into.publish("request", request())


def publish_large(into: Hub, number: int, size: int) -> None:
    for _ in range(number):
        into.publish_events([event_seen(b"x" * size)])


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
    ring = hub(max_entries=300)
    for number in range(1, 1001):
        ring.publish("left_out", LeftOut(number))
        kept = range(ring.kept_from, ring.next)
        # Entries leave in blocks.
        assert min(number, 300 - 64) <= len(kept) <= 300 + 64
    assert [ring.entry(one).content for one in kept] == [LeftOut(one) for one in kept]


def test_an_entry_is_the_same_when_it_is_read_early_and_late() -> None:
    ring = hub()
    contents: list[Seen] = [
        request(),
        event_seen(b"\0\xff"),
        attempt(),
        LeftOut(3),
        request("10.0.0.1"),
        LeftOut(None),
    ]
    kinds: list[Kind] = ["request", "event", "attempt", "left_out", "request", "left_out"]
    for kind, content in zip(kinds, contents, strict=True):
        ring.publish(kind, content)
    before = [ring.entry(number) for number in range(1, 7)]
    publish(ring, 100)
    assert [ring.entry(number) for number in range(1, 7)] == before
    assert [(entry.at, entry.kind, entry.content) for entry in before] == [
        (NOW, kind, content) for kind, content in zip(kinds, contents, strict=True)
    ]


def test_the_bytes_of_the_kept_entries_are_bounded() -> None:
    ring = hub(max_bytes=1_000_000)
    publish_large(ring, 30, size=150_000)

    assert 4 <= ring.next - ring.kept_from <= 7


def test_an_entry_that_is_too_large_is_not_kept() -> None:
    ring = hub(max_bytes=1_000_000)
    publish_large(ring, 1, size=1_000_000)

    assert ring.kept_from == ring.next


def test_bodies_are_kept_from_the_first_reader_on_that_wants_them() -> None:
    ring = hub()
    publish(ring, 5)
    ring.activate(bodies=True)
    publish(ring, 5)
    ring.activate(bodies=True)

    assert (ring.kept_for(bodies=False), ring.kept_for(bodies=True)) == (1, 6)


def test_readers_take_less_of_the_time_while_the_gateway_is_busy() -> None:
    budget = Budget(share=0.1, share_busy=0.01)
    budget.pause(0.0, now=1.0, cpu=1.0)

    assert budget.pause(0.001, now=2.0, cpu=1.2) == pytest.approx(0.01)
    assert budget.pause(0.001, now=3.0, cpu=2.1) == pytest.approx(0.1)
    assert budget.pause(0.001, now=3.1, cpu=2.11) == pytest.approx(0.01)


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


@pytest.mark.parametrize("text", ["plain", "not UTF-8: \udcff", "half a character: \ud800"])
def test_a_packed_event_is_unpacked_unchanged(text: str) -> None:
    sent = event(b"\0\xff", subject=text, headers=(("x-note", text),), data_span=(0, 2))

    assert unpack(pack(sent)) == sent


def test_the_envelope_equals_the_one_that_a_destination_gets() -> None:
    ring, sent = hub(), event()
    ring.publish("event", event_seen(pack(sent)))

    (entry,) = entries(View(ring, Wanted(envelope=True)).read(1).data)

    assert entry["envelope_base64"].encode() == base64.b64encode(encode(sent, "cloudevents")[1])
    assert "body_base64" not in entry


def test_text_that_is_not_unicode_is_shown_with_replacement_characters() -> None:
    ring = hub()
    publish(ring)
    for text in ("\udcff", "\ud800"):
        ring.publish("request", request(client=text))
    publish(ring, 100)

    before, *unreadable, after = entries(View(ring, Wanted()).read(1).data)[:4]

    assert before["client"] is after["client"] is None
    assert ["\N{REPLACEMENT CHARACTER}" in one["client"] for one in unreadable] == [True, True]


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
    ring.publish("event", msgspec.structs.replace(event_seen(), source="mandato", type="invoice.accepted"))
    ring.publish("attempt", attempt())
    ring.publish("request", msgspec.structs.replace(request(), source=None, type=None))

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
