"""An event that its provider sends again when its deliveries are dead: they are tried again.

Only what was verified comes here. Each delivery is revived at most once a minute, whoever asked last, so that
neither a provider that repeats itself nor a captured request that is replayed defeats giving up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from gatehouse.errors import StoreError, UnavailableError
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatehouse.store.base import Arrival, Receipt

#: Seconds between two revivals of a delivery.
EVERY: Final = 60.0


class Waking(Protocol):
    """What this needs of the dispatcher."""

    def wake(self, name: str, *, pending: int = 0, dead: int = 0) -> None:
        """Learn that so many deliveries became due."""


class Keeping(Protocol):
    """What this needs of the store."""

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        """Make dead deliveries of events, by destination, due; return how many of each destination."""


class Reviver:
    """Has dead deliveries tried again."""

    def __init__(self, store: Keeping, dispatcher: Waking) -> None:
        self._store = store
        self._dispatcher = dispatcher

    async def revive(self, duplicates: Iterable[tuple[Arrival, Receipt]], now: float) -> int:
        """Revive what is dead of the events that these repeat; return how many deliveries that were.

        Only where an event like this would go today. Raises `UnavailableError`: it is to be sent again then.
        """
        events = {
            receipt.event_id: [assignment.destination for assignment in arrival.assignments]
            for arrival, receipt in duplicates
            if receipt.dead is not None and receipt.dead <= now - EVERY
        }
        if not any(events.values()):
            return 0
        try:
            revived = await self._store.revive(events, now=now, asked_before=now - EVERY)
        except StoreError as error:
            get_logger().error("store.unavailable", error=str(error), events=len(events))
            raise UnavailableError("the store is unavailable; send again later", reason="store") from error
        for name, number in revived.items():
            self._dispatcher.wake(name, pending=number, dead=-number)
        return sum(revived.values())
