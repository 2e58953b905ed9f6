"""No statement has many large bodies, because its values stay in memory while it is prepared."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.builders import NOW, accept, arrival, event
from gatehouse.store.rows import Row
from gatehouse.store.sqlite import SqliteStore, accepting, rows
from gatehouse.store.sqlite.rows import execute_rows, in_chunks

KIB = 1024


def parted(*sizes: int) -> list[list[int]]:
    """Split rows whose last two columns have these lengths in total."""
    given: list[Row] = [
        (b"not counted" * KIB, b"x" * (size // 2), "x" * (size - size // 2)) for size in sizes
    ]
    return [[len(row[1]) + len(row[2]) for row in piece] for piece in in_chunks(given, long=2)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [
        ([KIB] * 64, [[KIB] * 64]),
        ([KIB] * 65, [[KIB] * 64, [KIB]]),
        ([40 * KIB, 40 * KIB, 10 * KIB], [[40 * KIB], [40 * KIB, 10 * KIB]]),
        ([1000 * KIB] * 3, [[1000 * KIB]] * 3),
        ([KIB, 1000 * KIB, KIB], [[KIB], [1000 * KIB], [KIB]]),
        ([], [[]]),
    ],
    ids=["as many as fit", "one more", "by size", "each alone", "a large one among small ones", "none"],
)
def test_rows_are_split_by_the_bytes_in_their_long_columns(sizes: list[int], pieces: list[list[int]]) -> None:
    assert parted(*sizes) == pieces


def test_a_column_without_a_value_counts_no_bytes() -> None:
    given: list[Row] = [(1, None, b"x")] * 3

    assert list(in_chunks(given, long=2)) == [given]


async def test_a_batch_of_large_bodies_is_stored_with_one_body_per_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def counted(connection: object, template: str, given: list[Row], *extra: object) -> list[Row]:
        if "INTO events" in template:
            held.append(len(given))
        return execute_rows(connection, template, given, *extra)  # type: ignore[arg-type]

    monkeypatch.setattr(accepting, "execute_rows", counted)
    bodies = [bytes([number]) * rows._MAX_BYTES for number in range(8)]
    store = await SqliteStore.open(tmp_path / "large.db", clock=lambda: NOW)
    arrivals = [arrival(b"%d" % number, of=event(body)) for number, body in enumerate(bodies)]
    receipts = await accept(store, *arrivals)
    found = [await store.event(receipt.event_id) for receipt in receipts]
    await store.close()

    assert [one.event.body for one in found if one] == bodies
    assert held == [1] * 8
