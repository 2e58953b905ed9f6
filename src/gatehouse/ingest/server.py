"""The listener for providers: HTTP in, HTTP out, and the limits on what is read.

aiohttp's low-level server without an application: one lookup by path is all the routing there is.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from gatehouse.errors import (
    MalformedRequestError,
    MethodNotAllowedError,
    RequestRejectedError,
    UnavailableError,
    UnknownSourceError,
    VerificationError,
)
from gatehouse.ingest.answer import Answer, rejected
from gatehouse.ingest.body import Bodies
from gatehouse.ingest.connections import Answers, Connections, allowed_connections
from gatehouse.ingest.listener import Listener
from gatehouse.ingest.writing import Response, written
from gatehouse.log import get_logger
from gatehouse.verify.base import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from gatehouse.config.model import ServerConfig
    from gatehouse.ingest.client import ClientAddress
    from gatehouse.ingest.connections import Connection
    from gatehouse.ingest.pipeline import Pipeline
    from gatehouse.ingest.rejected import RejectedRequests
    from gatehouse.metrics import Metrics, RequestMetrics, SourceMetrics
    from gatehouse.source import Source

#: After these the rest of the request is in the way of the next one.
_CLOSING = frozenset(
    map(int, (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
)


class IngestServer:
    """Serves the sources."""

    def __init__(
        self,
        config: ServerConfig,
        sources: Mapping[str, Source],
        pipeline: Pipeline,
        metrics: Metrics,
        client_address: ClientAddress,
        rejections: RejectedRequests,
    ) -> None:
        self._listen = config.listen
        self._pipeline = pipeline
        self._metrics = metrics
        self._rejections = rejections
        self._unknown = metrics.unknown()
        self._bodies = Bodies()
        self._server: Connections | None = None
        self.replace(config, sources, client_address)
        self._listener: Listener | None = None
        self._stopping = False

    @property
    def port(self) -> int:
        """The port that is listened on: the config's, or the one that port 0 became."""
        return self._listener.port if self._listener else 0

    def replace(
        self, config: ServerConfig, sources: Mapping[str, Source], client_address: ClientAddress
    ) -> None:
        """Serve these sources from the next request on; those under way finish with what they began with."""
        self._config = config
        self._client_address = client_address
        self._by_path = {
            source.path: (source, self._metrics.source(source.name)) for source in sources.values()
        }
        if self._server is not None:
            most = allowed_connections(config.max_connections)
            self._server.use(most=most, idle_timeout=config.idle_timeout)

    async def start(self, shared_port: int | None = None) -> None:
        """Listen, perhaps on a port that other workers share. Raises `OSError` when it can't be had."""
        self._server = Connections(
            self._handle,
            Answers(self._malformed, self._head_too_long, self._no_room),
            most=allowed_connections(self._config.max_connections),
            idle_timeout=self._config.idle_timeout,
        )
        self._listener = Listener(self._server, self._config.max_body)
        shared = shared_port is not None
        await self._listener.start(self._listen.host, shared_port or self._listen.port, shared=shared)

    async def stop(self, grace: float) -> None:
        """Stop accepting, let requests under way finish within `grace` seconds, close."""
        self._stopping = True
        if self._listener is not None and self._server is not None:
            await self._listener.stop()
            # What was sent before that is to be seen as a request under way.
            await asyncio.sleep(0)
            self._server.pre_shutdown()
            await self._server.shutdown(grace)

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        path, _, query = http.raw_path.partition("?")
        client = self._client_address(http.remote, http.headers.getall("X-Forwarded-For", ()))
        served = self._by_path.get(path)
        source, metrics = served or (None, self._unknown)
        rejected_id: str | None = None
        try:
            answer = await self._answer(served, http, path, query, client or "")
        except RequestRejectedError as error:
            answer = rejected(error, source.settings.answers if source else None)
            if isinstance(error, VerificationError) and served:
                served[1].failures[error.reason].inc()
            if source is not None:
                rejected_id = self._remember(source, http, error, answer, client)
        except Exception as error:  # noqa: BLE001 - a defect of ours must not look like a refusal to the provider
            _log_defect(source, error)
            answer = rejected(UnavailableError("internal error; send again later", reason="defect"))
        self._record(source, metrics, client, answer, time.perf_counter() - started, rejected_id)
        return self._respond(answer)

    async def _answer(
        self,
        served: tuple[Source, SourceMetrics] | None,
        http: web.BaseRequest,
        path: str,
        query: str,
        client: str,
    ) -> Answer:
        if served is None:
            raise UnknownSourceError("no source is served here")
        if cast("Connection", http.protocol).is_late:
            raise UnavailableError("overloaded; send again later", reason="overloaded")
        source, metrics = served
        method = http.method
        if method not in source.methods:
            allow = ", ".join(source.methods)
            raise MethodNotAllowedError(f"only {allow} is served here", allow=allow)
        with self._bodies.body() as reading:
            body = await reading.read(http, source.max_body, self._config.request_deadline)
            request = Request(method, path, query, http.headers, body, source.public_url, client)
            try:
                return await self._pipeline.receive(source, metrics, request)
            except RequestRejectedError as error:
                error.request = request
                raise

    def _respond(self, answer: Answer) -> web.StreamResponse:
        return Response(answer, close=self._stopping or answer.status in _CLOSING)

    def _record(
        self,
        source: Source | None,
        metrics: RequestMetrics,
        client: str | None,
        answer: Answer,
        duration: float,
        rejected_id: str | None,
    ) -> None:
        metrics.outcomes[answer.outcome].inc()
        metrics.duration.observe(duration)
        fields: dict[str, Any] = {
            "source": source.name if source else None,
            "outcome": answer.outcome,
            "status": answer.status,
            "client": client,
            "duration_ms": round(duration * 1000, 2),
        }
        if answer.event_ids:
            event = "request.accepted" if answer.outcome == "accepted" else "request.duplicate"
            ids = answer.event_ids
            fields["event_id"] = ids[0] if len(ids) == 1 else ids
            get_logger().info(event, type=answer.event_type, **fields)
        elif answer.outcome == "accepted":
            get_logger().info("request.accepted", **fields)
        elif answer.handshake is not None:
            get_logger().info("request.handshake", handshake=answer.handshake, **fields)
        else:
            get_logger().warning("request.rejected", reason=answer.reason, rejected_id=rejected_id, **fields)

    def _remember(
        self,
        source: Source,
        http: web.BaseRequest,
        error: RequestRejectedError,
        answer: Answer,
        client: str | None,
    ) -> str | None:
        """Keep a refused request for the operator; not after a fault of our own, which says nothing of it."""
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        request, length = error.request, http.content_length
        if request is None:
            path, _, query = http.raw_path.partition("?")
            request = Request(http.method, path, query, http.headers, b"", source.public_url, client or "")
        else:
            length = len(request.body)
        return self._rejections.add(
            source.name,
            request,
            error,
            status=answer.status,
            body_length=length,
            client=client,
        )

    def _malformed(self, http: web.BaseRequest) -> web.StreamResponse:
        error = MalformedRequestError("not a well-formed HTTP request")
        return self._respond(self._refused_below_http(error, http.remote))

    def _head_too_long(self, client: str | None) -> bytes:
        error = MalformedRequestError("the head of the request is too long")
        return written(self._refused_below_http(error, client), keep_alive=False)

    def _no_room(self, client: str | None) -> bytes:
        error = UnavailableError("overloaded; send again later", reason="overloaded")
        return written(self._refused_below_http(error, client), keep_alive=False)

    def _refused_below_http(self, error: RequestRejectedError, client: str | None) -> Answer:
        answer = rejected(error)
        self._unknown.outcomes[answer.outcome].inc()
        get_logger().warning(
            "request.rejected",
            reason=answer.reason,
            outcome=answer.outcome,
            status=answer.status,
            client=client,
        )
        return answer


def _log_defect(source: Source | None, error: Exception) -> None:
    """Say where it broke. The error's message may quote the request, so it is left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else None
    name = source.name if source else None
    get_logger().error("request.failed", source=name, error=type(error).__name__, where=where)
