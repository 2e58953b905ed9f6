"""No statement of the SQLite store may read a whole table: what SQLite plans to do, without statistics."""

from __future__ import annotations

import sqlite3

import pytest

from gatehouse.store import accepting, leasing, purging
from gatehouse.store.migrations import migrate


def plan(statement: str, columns: int = 0, extra: int = 0) -> list[str]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    row = f"({','.join('?' * columns)})"
    sql = "EXPLAIN QUERY PLAN " + statement.replace("{rows}", f"{row},{row}")
    parameters = [1] * (2 * columns + extra)
    named = {"after": "", "last": "", "events_before": 0, "dead_before": 0}
    found = connection.execute(sql, named if ":after" in sql else parameters).fetchall()
    connection.close()
    return [detail for *_, detail in found]


#: A scan of the parameters given, not of a table.
OF_PARAMETERS = ("CONSTANT ROW", "SCAN wanted", "SCAN result", "SCAN lease", "json_each", "(subquery")


@pytest.mark.parametrize(
    ("statement", "columns", "extra"),
    [
        (accepting._KNOWN_KEYS, 3, 1),
        (leasing._DUE, 0, 3),
        (leasing._LEASE, 0, 3),
        (leasing._LOST, 3, 0),
        (leasing._RECORD, 8, 0),
        (leasing._RELEASE, 3, 0),
        (leasing._NEXT_DUE, 0, 1),
        (purging._PURGE_KEYS, 0, 2),
        (purging._NEXT_EVENTS, 0, 3),
        (purging._PURGE_EVENTS, 0, 0),
    ],
    ids=lambda value: " ".join(value.split()[:3]) if isinstance(value, str) else "",
)
def test_a_statement_finds_its_rows_by_an_index(statement: str, columns: int, extra: int) -> None:
    steps = plan(statement, columns, extra)
    assert steps
    for step in steps:
        assert not step.startswith("SCAN") or any(harmless in step for harmless in OF_PARAMETERS), steps
        assert "TEMP B-TREE FOR ORDER BY" not in step
        assert "RIGHT PART OF ORDER BY" not in step


@pytest.mark.parametrize("statement", [leasing._RECOVER, leasing._PENDING, leasing._DEAD])
def test_what_looks_at_all_pending_or_dead_ones_reads_an_index_only(statement: str) -> None:
    steps = plan(statement)
    assert any("deliveries USING COVERING INDEX" in step for step in steps), steps
    assert not any(step.startswith("SCAN deliveries") and "COVERING" not in step for step in steps), steps


def test_known_keys_are_found_by_the_whole_key() -> None:
    assert any(
        "SEARCH keys USING PRIMARY KEY (source=? AND place=? AND key=?)" in step
        for step in plan(accepting._KNOWN_KEYS, 3, 1)
    )
