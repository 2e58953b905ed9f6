"""The HTTP server for providers: finds the source of a request, reads its body, answers and logs it.

Routing is a single lookup by path.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs

from gatehouse.errors import (
    MalformedRequestError,
    MethodNotAllowedError,
    RequestRejectedError,
    UnavailableError,
    UnknownSourceError,
    VerificationError,
)
from gatehouse.ingest.answer import Answer, rejected
from gatehouse.ingest.awake_clock import AwakeClock
from gatehouse.ingest.body import Bodies
from gatehouse.ingest.connection import Handlers
from gatehouse.ingest.decoding import encoded_request
from gatehouse.ingest.http1 import encode_answer, split_target
from gatehouse.ingest.listener import Listener, OpenConnections, allowed_connections
from gatehouse.language.request import Request
from gatehouse.telemetry.live import Hub, RequestSeen
from gatehouse.telemetry.log import get_logger, line_limit, log_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.config.model import ServerConfig
    from gatehouse.ingest.client_address import ClientAddress
    from gatehouse.ingest.connection import Connection, InboundRequest
    from gatehouse.ingest.pipeline import Pipeline
    from gatehouse.ingest.rejected import RejectedRequests
    from gatehouse.ingest.source import Source
    from gatehouse.telemetry.metrics import Metrics, SourceMetrics

    _Served = tuple[Source, SourceMetrics]


class IngestServer:
    """Serves the sources."""

    def __init__(
        self,
        config: ServerConfig,
        sources: Mapping[str, Source],
        pipeline: Pipeline,
        metrics: Metrics,
        client_address: ClientAddress,
        rejected_requests: RejectedRequests,
        live: Hub | None = None,
    ) -> None:
        self._live = live or Hub()
        self._listen = config.listen
        self._ports: list[int] = []
        self._pipeline = pipeline
        self._metrics = metrics
        self._rejected = rejected_requests
        self._unknown = metrics.unknown()
        self._clock = AwakeClock()
        self._bodies = Bodies(clock=self._clock)
        self._rejected_log_limit = line_limit("request.rejected")
        self._connections: OpenConnections | None = None
        self.replace(config, sources, client_address)
        self._listener: Listener | None = None

    @property
    def port(self) -> int:
        """The first listening port. A configured port 0 shows as the port that the system chose."""
        return self._listener.port if self._listener else 0

    @property
    def ports(self) -> Sequence[int]:
        """The listening ports, one for each address in the config."""
        return self._ports

    def replace(
        self, config: ServerConfig, sources: Mapping[str, Source], client_address: ClientAddress
    ) -> None:
        """Serve these sources from the next request on.

        Requests in progress finish with the previous ones.
        """
        self._config = config
        self._client_address = client_address
        self._by_path = {
            source.path: (source, self._metrics.source(source.name, len(source.secrets)))
            for source in sources.values()
        }
        if self._connections is not None:
            max_open = allowed_connections(config.max_connections)
            self._connections.configure(max_open=max_open, idle_timeout=config.idle_timeout)

    async def start(self, shared_ports: Sequence[int] | None = None) -> None:
        """Start to listen.

        `shared_ports` are ports that other workers share, one for each configured address.

        Raises `OSError` when an address is not available.
        """
        self._connections = OpenConnections(
            Handlers(self._handle, _defect, self._malformed, self._head_too_long, self._no_room),
            self._clock,
            max_open=allowed_connections(self._config.max_connections),
            idle_timeout=self._config.idle_timeout,
        )
        self._listener = Listener(self._connections, self._config.max_body, self._connections.free_slots)
        self._clock.start()
        is_shared = shared_ports is not None
        wanted = shared_ports or [address.port for address in self._listen.addresses]
        for address, port in zip(self._listen.addresses, wanted, strict=True):
            self._ports.append(await self._listener.start(address.host, port, shared=is_shared))
        for unix in self._listen.sockets:
            await self._listener.start_unix(unix.path)

    async def stop(self, grace: float) -> None:
        """Stop accepting, wait up to `grace` seconds for the requests in progress, then close."""
        if self._listener is not None and self._connections is not None:
            await self._listener.stop()
            # Data that was sent before the stop must count as a request in progress.
            await asyncio.sleep(0)
            await self._connections.stop(grace)
            self._clock.stop()
        self._rejected_log_limit.report()

    async def _handle(self, http: InboundRequest) -> Answer:
        started = time.perf_counter()
        head, connection, client = http.head, http.connection, http.connection.peer
        if hdrs.X_FORWARDED_FOR in head.headers:
            client = self._client_address(client, head.headers.getall(hdrs.X_FORWARDED_FOR))
        path, _, query = head.path.partition("?")
        served = self._by_path.get(path)
        if served is None:
            path, query = split_target(head.path)
            served = self._by_path.get(path)
        request, held, rejected_id, encoded = None, 0, None, None
        try:
            if served is None or connection.is_late or head.method not in served[0].methods:
                raise _refusal(path, served, connection)  # noqa: TRY301 - the normal case needs no call
            source, metrics = served
            body = self._bodies.read_complete(http, source.max_body, source.codings)
            if body is None:
                body = await self._bodies.read_arriving(http, source.max_body, self._config.request_deadline)
            held = len(body)
            request = Request(head.method, path, query, head.headers, body, source.public_url, client or "")
            if source.codings and (encoded := encoded_request(request, source, self._bodies)):
                request = await encoded.before_verification()
            answer = await self._pipeline.receive(source, metrics, request, encoded)
        except RequestRejectedError as error:
            answer, rejected_id = self._refuse(served, http, request, error, client)
        except Exception as error:  # noqa: BLE001 - a defect of the gateway must not look like a refusal to the provider
            answer = _defect(error, served)
        finally:
            self._bodies.held -= held
            if encoded is not None:
                encoded.release()
        self._record(served, client, answer, time.perf_counter() - started, rejected_id)
        return answer

    def _refuse(
        self,
        served: _Served | None,
        http: InboundRequest,
        request: Request | None,
        error: RequestRejectedError,
        client: str | None,
    ) -> tuple[Answer, str | None]:
        """Return the answer, and the id of the stored rejected request, if it was stored."""
        if served is None:
            return rejected(error), None
        source, metrics = served
        answer = rejected(error, source.settings.answers)
        if isinstance(error, VerificationError):
            if error.reason == "stale_timestamp" and self._clock.was_stopped_recently():
                late = UnavailableError("the request had to wait; send again later", reason="stopped")
                return rejected(late, source.settings.answers), None
            metrics.failures[error.reason].inc()
        return answer, self._keep_rejected(source, http, request, error, answer, client)

    def _record(
        self,
        served: _Served | None,
        client: str | None,
        answer: Answer,
        duration: float,
        rejected_id: str | None,
    ) -> None:
        metrics = served[1] if served else self._unknown
        metrics.outcomes[answer.outcome].value += 1
        metrics.duration.observe(duration)
        source, duration_ms = served[0].name if served else None, round(duration * 1000, 2)
        if self._live.active:
            self._publish(source, client, answer, duration_ms)
        fields: dict[str, Any] = {
            "source": source,
            "outcome": answer.outcome,
            "status": answer.status,
            "client": client,
            "duration_ms": duration_ms,
        }
        if answer.secret:
            fields["secret"] = answer.secret
        if answer.event_ids:
            _log_events(answer, fields)
        elif answer.outcome == "accepted":
            log_fields("info", "request.accepted", fields)
        elif answer.handshake is not None:
            get_logger().info("request.handshake", handshake=answer.handshake, **fields)
        elif self._rejected_log_limit.allows(source=fields["source"], outcome=answer.outcome):
            get_logger().warning("request.rejected", reason=answer.reason, rejected_id=rejected_id, **fields)

    def _publish(self, source: str | None, client: str | None, answer: Answer, duration_ms: float) -> None:
        """Show the request to those who watch."""
        self._live.publish(
            "request",
            RequestSeen(
                source,
                answer.outcome,
                answer.status,
                answer.reason,
                client,
                duration_ms,
                answer.event_ids,
                answer.event_type,
            ),
        )

    def _keep_rejected(
        self,
        source: Source,
        http: InboundRequest,
        request: Request | None,
        error: RequestRejectedError,
        answer: Answer,
        client: str | None,
    ) -> str | None:
        """Keep a rejected request for the operator, except after a fault of the gateway."""
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        length, head = http.content_length, http.head
        if request is None:
            path, query = split_target(head.path)
            request = Request(head.method, path, query, head.headers, b"", source.public_url, client or "")
        else:
            length = len(request.body)
        return self._rejected.add(
            source.name, request, error, status=answer.status, body_length=length, client=client
        )

    def _malformed(self, client: str | None) -> bytes:
        error = MalformedRequestError("not a well-formed HTTP request")
        return encode_answer(self._refuse_connection(error, client), keep_alive=False)

    def _head_too_long(self, client: str | None) -> bytes:
        error = MalformedRequestError("the head of the request is too long")
        return encode_answer(self._refuse_connection(error, client), keep_alive=False)

    def _no_room(self, client: str | None) -> bytes:
        error = UnavailableError("overloaded; send again later", reason="overloaded")
        return encode_answer(self._refuse_connection(error, client), keep_alive=False)

    def _refuse_connection(self, error: RequestRejectedError, client: str | None) -> Answer:
        answer = rejected(error)
        self._unknown.outcomes[answer.outcome].inc()
        if self._live.active:
            self._publish(None, client, answer, 0.0)
        if self._rejected_log_limit.allows(source=None, outcome=answer.outcome):
            get_logger().warning(
                "request.rejected",
                reason=answer.reason,
                outcome=answer.outcome,
                status=answer.status,
                client=client,
            )
        return answer


def _log_events(answer: Answer, fields: dict[str, Any]) -> None:
    """Log a request with events. `fields` are those of every request."""
    fields["type"] = answer.event_type
    ids = answer.event_ids
    fields["event_id"] = ids[0] if len(ids) == 1 else ids
    if len(ids) > 1:
        fields["events"] = len(ids)
    if answer.revived:
        fields["revived"] = answer.revived
    event = "request.accepted" if answer.outcome == "accepted" else "request.duplicate"
    log_fields("info", event, fields)


def _refusal(path: str, served: _Served | None, connection: Connection) -> RequestRejectedError:
    """Return the reason to refuse a request before its body is read."""
    if not path:
        return MalformedRequestError("the target is neither a path nor an http URL")
    if served is None:
        return UnknownSourceError("no source is served here")
    if connection.is_late:
        return UnavailableError("overloaded; send again later", reason="overloaded")
    allow = ", ".join(served[0].methods)
    return MethodNotAllowedError(f"only {allow} is served here", allow=allow)


def _defect(error: Exception, served: _Served | None = None) -> Answer:
    """Log where the gateway failed.

    The message of the error is left out, because it may quote the request.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else None
    name = served[0].name if served else None
    get_logger().error("request.failed", source=name, error=type(error).__name__, where=where)
    return rejected(UnavailableError("internal error; send again later", reason="defect"))
