"""The duplicates that a gateway remembers are bounded, and it says from when on it knows them all."""

from __future__ import annotations

from gatehouse.ingest.duplicates import MAX_LATEST, Duplicates


def test_of_many_duplicates_of_an_event_the_last_ones_are_kept_and_all_are_counted() -> None:
    known = Duplicates(1.0)
    for number in range(MAX_LATEST + 5):
        known.add("A", 10.0 + number, f"192.0.2.{number}")

    assert known.of("A").count == MAX_LATEST + 5
    assert [one.at for one in known.of("A").latest] == [15.0 + number for number in range(MAX_LATEST)]
    assert known.of("A").latest[-1].client == "192.0.2.24"
    assert (known.of("B").count, known.of("B").latest, known.since) == (0, [], 1.0)


def test_beyond_the_limit_the_event_that_was_longest_without_a_duplicate_is_forgotten() -> None:
    known = Duplicates(1.0, max_events=2)
    for at, event_id in enumerate("ABAC", 10):
        known.add(event_id, float(at), None)

    assert [known.of(event_id).count for event_id in "ABC"] == [2, 0, 1]
    assert known.since == 11.0, "the duplicate of B is no longer counted"
