"""Which attempts of a delivery are stored, and which are listed.

A delivery that was delivered at its first attempt has no stored attempt: its own row contains what the list
shows. Most deliveries are of this kind, so attempts cost them nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.records import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.store.base import Result
    from gatehouse.store.records import DeliveryRow

#: How many attempts of a delivery are kept: the first ones, which tell how it began, and the last ones.
KEEP_FIRST: Final = 10
KEEP_LAST: Final = 40


def with_stored_attempts(results: Sequence[Result]) -> list[tuple[int, Result]]:
    """Return the results whose attempts are stored, with their places: all but first-attempt deliveries."""
    return [
        (place, result)
        for place, result in enumerate(results)
        if result.attempts != 1 or result.status != "delivered"
    ]


def attempts_of(result: Result) -> Iterator[Attempt]:
    """Return the attempts that a result adds to its delivery, in their order."""
    delivery = result.delivery
    yield from delivery.unrecorded
    # A result can decide about attempts that have been made before.
    if result.attempts > delivery.attempts:
        yield Attempt(
            number=result.attempts,
            at=result.at,
            reason=result.reason,
            http_status=result.http_status,
            duration=result.duration,
            error=result.error,
            reply=result.reply,
        )


def last_to_remove(result: Result) -> int:
    """Return up to which number the attempts behind the first ones are removed; 0 if none are."""
    return result.attempts - KEEP_LAST if result.attempts > KEEP_FIRST + KEEP_LAST else 0


def duration_ms(seconds: float | None) -> int | None:
    """Convert a duration to the milliseconds of the store."""
    return None if seconds is None else round(seconds * 1000)


def duration_from(milliseconds: int | None) -> float | None:
    """Convert a stored duration to seconds."""
    return None if milliseconds is None else milliseconds / 1000


def listed_attempts(row: DeliveryRow, stored: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Return the attempts of a delivery. `stored` are those that the store has, in their order.

    If a delivery was delivered by an attempt that is not stored, its own row tells about that attempt.
    """
    is_stored = bool(stored) and stored[-1].number >= row.attempts
    if row.status != "delivered" or row.last_reason is None or is_stored:
        return tuple(stored)
    last = Attempt(
        number=row.attempts,
        at=row.updated,
        reason=row.last_reason,
        http_status=row.last_http_status,
        duration=row.last_duration,
    )
    return (*stored, last)
