"""Event ids are ULIDs."""

from __future__ import annotations

from gatehouse.events.ids import new_id


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
