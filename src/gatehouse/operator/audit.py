"""Records the changes that operators make, and lists them: `GET /api/v1/audit`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web

from gatehouse.errors import StoreError
from gatehouse.language.times import rfc3339
from gatehouse.operator import queries, responses
from gatehouse.operator.access import IDENTITY
from gatehouse.operator.error_answers import page_of, with_error_answers
from gatehouse.operator.record_types import AuditPage
from gatehouse.operator.request_types import AuditListQuery
from gatehouse.operator.route_docs import describe_route
from gatehouse.store.records import Action, AuditEntry
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.record_types import AuditRecord
    from gatehouse.operator.reload_result import ReloadResult
    from gatehouse.operator.tokens import Identity, Role
    from gatehouse.store.base import Store

#: Where a worker takes the changes that its supervisor made. Only its Unix socket has this path.
FORWARDED_PATH = "/-/audit"
#: Seconds to store an entry. The operator waits for the answer meanwhile.
_STORE_WITHIN = 2.0


class Change(msgspec.Struct, frozen=True):
    """A change that an operator made."""

    action: Action
    #: What was changed: names, ids and filters. Never a secret or the body of an event.
    what: dict[str, Any]
    #: How many things of the kind were changed.
    count: int = 1


_decode_change = msgspec.json.Decoder(Change).decode


def reload_change(result: ReloadResult) -> Change | None:
    """Return what a reload changed; None if the config was refused, and after a dry run."""
    if result.changes is None or result.dry_run:
        return None
    return Change("reload", {"file": result.file} | result.changes.named())


def log_change(identity: Identity, change: Change) -> None:
    """Write a change to the log."""
    what = msgspec.json.encode(change.what).decode()
    get_logger().info(
        "operator.changed",
        who=identity.name,
        role=identity.role,
        action=change.action,
        what=what,
        count=change.count,
    )


class Audit:
    """Records changes in the store and in the log. `clock` returns Unix time."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [web.get("/api/v1/audit", with_error_answers(self._list_audit))]

    def forwarded_routes(self) -> list[web.RouteDef]:
        """Return the routes for the operator server of a worker, on its Unix socket."""
        return [web.post(FORWARDED_PATH, self._add_forwarded)]

    async def record(self, request: ApiRequest, action: Action, what: dict[str, Any], count: int) -> None:
        """Record the change that a request made, after it was made. Raises nothing.

        Call it only if something has changed. `count` says how many things of the kind.
        """
        await self.add(request[IDENTITY], Change(action, what, count))

    async def add(self, identity: Identity, change: Change) -> None:
        """Record a change. Raises nothing: if the store is unavailable, the change is only in the log."""
        log_change(identity, change)
        entry = AuditEntry(
            at=self._clock(),
            who=identity.name,
            role=identity.role,
            action=change.action,
            what=change.what,
            count=change.count,
        )
        try:
            async with asyncio.timeout(_STORE_WITHIN):
                await self._store.add_audit(entry)
        except (StoreError, TimeoutError) as error:
            get_logger().error("audit.not_stored", who=identity.name, action=change.action, error=str(error))

    @describe_route("Audit", {200: (AuditPage,)}, query=AuditListQuery)
    async def _list_audit(self, request: ApiRequest) -> web.Response:
        """List what operators changed, newest first.

        The gateway keeps the entries for `store.keep_audit`.
        """
        given = request.query
        query, limit = queries.audit_query(given, self._clock()), queries.page_limit(given)
        page = await page_of(self._store.audit(query, limit=limit, cursor=given.get("cursor")))
        return responses.page_answer("audit", page, _record)

    async def _add_forwarded(self, request: ApiRequest) -> web.Response:
        """Record a change that the supervisor made."""
        change = _decode_change(await request.read())
        await self.add(request[IDENTITY], change)
        return web.Response(status=204)


def _record(entry: AuditEntry) -> AuditRecord:
    return {
        "at": rfc3339(entry.at),
        "who": entry.who,
        "role": cast("Role", entry.role),
        "action": entry.action,
        "what": entry.what,
        "count": entry.count,
    }
