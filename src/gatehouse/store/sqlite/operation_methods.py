"""The methods of `SqliteStore` for operations. Their statements are in operations.py."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from gatehouse.store.sqlite import operations

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection

    from gatehouse.store.operations import Candidates, Kind, Operation, PlanStep, Step, StepResult

T = TypeVar("T")


class _Store(Protocol):
    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T: ...

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T: ...


class OperationMethods:
    """The `OperationStore` of a SQLite file."""

    async def add_operation(self: _Store, operation: Operation) -> bool:
        return await self._write(partial(operations.add, operation=operation))

    async def operation(self: _Store, operation_id: str) -> Operation | None:
        return await self._read(partial(operations.find, operation_id=operation_id))

    async def operations(self: _Store, kind: Kind, *, limit: int) -> list[Operation]:
        return await self._read(partial(operations.latest, kind=kind, limit=limit))

    async def take_operations(self: _Store, owner: str, *, now: float, until: float) -> list[Operation]:  # noqa: ARG002
        # No other process has the file, so a lease needs no end. The usual case needs no write.
        if not await self._read(operations.is_any_running):
            return []
        return await self._write(partial(operations.take, owner=owner))

    async def keep_operation(self: _Store, operation_id: str, owner: str, *, until: float) -> bool:  # noqa: ARG002
        return await self._read(partial(operations.is_held, operation_id=operation_id, owner=owner))

    async def release_operations(self: _Store, owner: str) -> None:
        if await self._read(operations.is_any_running):
            await self._write(partial(operations.release, owner=owner))

    async def plan(
        self: _Store, operation: Operation, position: str, configured: Collection[str]
    ) -> PlanStep:
        work = partial(operations.plan, operation=operation, position=position, configured=configured)
        return await self._read(work)

    async def candidates(
        self: _Store, operation: Operation, position: str, configured: Collection[str], *, limit: int
    ) -> Candidates:
        work = partial(
            operations.candidates, operation=operation, position=position, configured=configured, limit=limit
        )
        return await self._read(work)

    async def step(self: _Store, operation: Operation, owner: str, step: Step) -> StepResult | None:
        return await self._write(partial(operations.run_step, operation=operation, owner=owner, step=step))

    async def cancel_operation(self: _Store, operation_id: str, *, now: float) -> bool:
        return await self._write(partial(operations.cancel, operation_id=operation_id, now=now))

    async def forget_operations(self: _Store, *, before: float) -> None:
        if await self._read(partial(operations.is_any_to_forget, before=before)):
            await self._write(partial(operations.forget, before=before))
