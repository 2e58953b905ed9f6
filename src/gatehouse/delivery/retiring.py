"""Lanes that a reload took out of service, until the last of their attempts has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.lane import Lane


class Retiring:
    """Sees lanes off: what waits in them goes back to the store, what they attempt ends in its own time."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._lanes: dict[asyncio.Task[None], Lane] = {}
        self._on_end = on_end

    def __contains__(self, destination: str) -> bool:
        return any(lane.destination.name == destination for lane in self._lanes.values())

    def add(self, lane: Lane) -> None:
        """Take a lane out of service, at once as far as new attempts are concerned."""
        lane.close()
        lane.gate.retire()
        task = asyncio.create_task(_retire(lane), name=f"{lane.destination.name} retires")
        self._lanes[task] = lane
        task.add_done_callback(self._end)

    def hand_over_to(self, successor: Lane) -> None:
        """Tell the lanes of the same destination who takes up what they give back."""
        for lane in self._lanes.values():
            if lane.destination.name == successor.destination.name:
                lane.succeeded_by(successor)

    async def stop(self, grace: float) -> None:
        """Let attempts under way finish for `grace` seconds, as the lanes in service do."""
        tasks = list(self._lanes)
        lanes = list(self._lanes.values())
        await asyncio.gather(*(lane.stop(grace) for lane in lanes), return_exceptions=True)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._lanes[task]
        self._on_end()


async def _retire(lane: Lane) -> None:
    try:
        await lane.retire()
    except Exception as error:  # noqa: BLE001 - the leases of what it held end by themselves
        name = lane.destination.name
        get_logger().error("delivery.failed", destination=name, error=type(error).__name__)
