"""Statements for many rows at once: an array for each column, unnested in the order given.

A plan is made when a connection has used a statement a few times, for the tables as they are then, and kept:
often they are empty, and to read all of an index costs nothing. So no statement leaves it to the planner
which side of a join to begin with. One row of a table for each given is a LATERAL with a LIMIT; rows to be
changed are named by `= ANY`, beside a join with what is given for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def arrays(first: int, types: Sequence[str]) -> str:
    """Return the parameters of an `unnest`, counted from `first`."""
    return ", ".join(f"${number}::{each}[]" for number, each in enumerate(types, first))


def first_behind(first: int, *types: Sequence[str]) -> int:
    """Return the number of the parameter that follows such arrays."""
    return first + sum(map(len, types))


def columns(rows: Sequence[Sequence[Any]], types: Sequence[str]) -> Sequence[Sequence[Any]]:
    """Turn rows into the arrays of a statement."""
    return list(zip(*rows, strict=True)) if rows else [()] * len(types)
