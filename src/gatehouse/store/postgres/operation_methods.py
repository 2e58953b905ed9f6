"""The methods of `PostgresStore` for operations. Their statements are in operations.py."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gatehouse.store.postgres import operations
from gatehouse.store.postgres.rows import is_storable

if TYPE_CHECKING:
    from collections.abc import Collection

    from gatehouse.store.operations import Candidates, Kind, Operation, PlanStep, Step, StepResult
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.pool import ConnectionPools


class OperationMethods:
    """The `OperationStore` of a database."""

    _pools: ConnectionPools
    _clock: DatabaseClock

    async def add_operation(self, operation: Operation) -> bool:
        work = partial(operations.add, operation=operation, clock=self._clock)
        return await self._pools.run(self._pools.hot, work)

    async def operation(self, operation_id: str) -> Operation | None:
        if not is_storable(operation_id):
            return None
        work = partial(operations.find, operation_id=operation_id, clock=self._clock)
        return await self._pools.run(self._pools.slow, work)

    async def operations(self, kind: Kind, *, limit: int) -> list[Operation]:
        work = partial(operations.latest, kind=kind, limit=limit, clock=self._clock)
        return await self._pools.run(self._pools.slow, work)

    async def take_operations(self, owner: str, *, now: float, until: float) -> list[Operation]:
        work = partial(operations.take, owner=owner, now=now, until=until, clock=self._clock)
        return await self._pools.run(self._pools.hot, work)

    async def keep_operation(self, operation_id: str, owner: str, *, until: float) -> bool:
        work = partial(
            operations.keep, operation_id=operation_id, owner=owner, until=until, clock=self._clock
        )
        return await self._pools.run(self._pools.hot, work)

    async def release_operations(self, owner: str) -> None:
        await self._pools.run(self._pools.hot, partial(operations.release, owner=owner))

    async def plan(self, operation: Operation, position: str, configured: Collection[str]) -> PlanStep:
        work = partial(operations.plan, operation=operation, position=position, configured=configured)
        return await self._pools.run(self._pools.slow, partial(work, clock=self._clock))

    async def candidates(
        self, operation: Operation, position: str, configured: Collection[str], *, limit: int
    ) -> Candidates:
        work = partial(operations.candidates, operation=operation, position=position, configured=configured)
        return await self._pools.run(self._pools.slow, partial(work, limit=limit, clock=self._clock))

    async def step(self, operation: Operation, owner: str, step: Step) -> StepResult | None:
        work = partial(operations.run_step, operation=operation, owner=owner, step=step, clock=self._clock)
        rows = step.event_ids * len(operation.to or step.configured)
        return await self._pools.run(self._pools.for_rows(rows), work)

    async def cancel_operation(self, operation_id: str, *, now: float) -> bool:
        work = partial(operations.cancel, operation_id=operation_id, now=now, clock=self._clock)
        return await self._pools.run(self._pools.hot, work)

    async def forget_operations(self, *, before: float) -> None:
        work = partial(operations.forget, before=before, clock=self._clock)
        await self._pools.run(self._pools.slow, work)
