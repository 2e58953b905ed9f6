"""Puts the operator API together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gatehouse.operator.api import EnvironmentApi
from gatehouse.operator.config_in_use import ConfigApi
from gatehouse.operator.discarding import DiscardApi
from gatehouse.operator.duplicates import DuplicatesApi
from gatehouse.operator.history import HistoryApi
from gatehouse.operator.operations import OperationsApi
from gatehouse.operator.probing import ProbingApi
from gatehouse.operator.records import RecordsApi
from gatehouse.operator.routing import RoutingApi
from gatehouse.operator.sample_requests import SampleRequestsApi
from gatehouse.operator.status import StatusApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiohttp import web

    from gatehouse.config.addresses import BindAddresses
    from gatehouse.delivery.dispatcher import Dispatcher
    from gatehouse.delivery.operations import Operations
    from gatehouse.events.event import Event
    from gatehouse.gateway.compiled import CompiledConfig
    from gatehouse.ingest.duplicates import Duplicates
    from gatehouse.operator.api import OperatorApi
    from gatehouse.operator.audit import Audit
    from gatehouse.operator.reload_result import ConfigInUse
    from gatehouse.operator.status import StatusParts
    from gatehouse.operator.stream.api import StreamApi
    from gatehouse.store.base import Store
    from gatehouse.telemetry.history import History
    from gatehouse.telemetry.metrics import Metrics


class ApiParts(NamedTuple):
    """What the operator API reads and changes."""

    store: Store
    dispatcher: Dispatcher
    operations: Operations
    #: What the gateway holds in memory.
    memory: OperatorApi
    duplicates: Duplicates
    stream: StreamApi
    audit: Audit
    status: StatusParts
    metrics: Metrics
    #: Return the config in use, compiled and as it was loaded.
    compiled: Callable[[], CompiledConfig]
    in_use: Callable[[], ConfigInUse]
    #: The environment variables of the process; None for those of the system.
    environment: Mapping[str, str] | None
    #: The time for comparisons, and the time of the system clock (Unix seconds).
    steady: Callable[[], float]
    clock: Callable[[], float]
    #: Returns the history of rates, up to now.
    sample: Callable[[], History]
    #: Returns the addresses of the listener for providers; none before it listens.
    listening: Callable[[], BindAddresses]
    #: Whether a supervisor sends its changes here, to be recorded.
    is_worker: bool


def api_routes(parts: ApiParts) -> list[web.RouteDef]:
    """Return the routes of the API, for the operator server."""
    store, dispatcher, steady, audit = parts.store, parts.dispatcher, parts.steady, parts.audit

    def routed(event: Event) -> Iterable[str]:
        return parts.compiled().routed(event)

    return [
        *parts.memory.routes(),
        *RecordsApi(store, dispatcher, steady, routed=routed, audit=audit).routes(),
        *DuplicatesApi(parts.duplicates).routes(),
        *ProbingApi(dispatcher, audit).routes(),
        *DiscardApi(store, dispatcher, steady, audit).routes(),
        *OperationsApi(store, parts.operations, dispatcher, steady, audit).routes(),
        *SampleRequestsApi(lambda: parts.compiled().sources, parts.listening, audit, parts.clock).routes(),
        *RoutingApi(store, lambda: parts.compiled().loaded, lambda: parts.compiled().sources).routes(),
        *audit.routes(),
        *(audit.forwarded_routes() if parts.is_worker else ()),
        *EnvironmentApi(parts.environment).routes(),
        *ConfigApi(parts.in_use).routes(),
        *HistoryApi(parts.sample).routes(),
        *StatusApi(parts.status, parts.metrics, parts.clock).routes(),
        *parts.stream.routes(),
    ]
