"""The listener for providers: HTTP in, HTTP out, and the limits on what is read.

aiohttp's low-level server without an application: one lookup by path is all the routing there is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from gatehouse.errors import (
    BodyTooLargeError,
    MalformedRequestError,
    MethodNotAllowedError,
    RequestRejectedError,
    RequestTimeoutError,
    UnavailableError,
    UnknownSourceError,
    UnsupportedEncodingError,
    VerificationError,
)
from gatehouse.ingest.answer import Answer, rejected
from gatehouse.log import get_logger
from gatehouse.verify.base import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.config.model import ServerConfig
    from gatehouse.ingest.client import ClientAddress
    from gatehouse.ingest.pipeline import Pipeline
    from gatehouse.ingest.rejected import RejectedRequests
    from gatehouse.metrics import Metrics, RequestMetrics, SourceMetrics
    from gatehouse.source import Source

MAX_HEADERS = 64
#: An idle or half-sent head is cut off after this; aiohttp's own default is an hour.
KEEPALIVE_SECONDS = 15.0
#: How long the rest of a refused body is read and thrown away, so that its sender gets to see the answer.
LINGER_SECONDS = 2.0
_BACKLOG = 1024
_HEADERS: Mapping[str, str] = {hdrs.CONTENT_TYPE: "application/json", hdrs.SERVER: "gatehouse"}


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
        self._config = config
        self._pipeline = pipeline
        self._client_address = client_address
        self._rejections = rejections
        self._by_path = {source.path: (source, metrics.source(source.name)) for source in sources.values()}
        self._unknown = metrics.unknown()
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None
        self._stopping = False

    @property
    def port(self) -> int:
        """The port that is listened on: the config's, or the one that port 0 became."""
        addresses = self._runner.addresses if self._runner else []
        return int(addresses[0][1]) if addresses else 0

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address can't be had."""
        server = _Server(
            self._handle,
            on_malformed=self._malformed,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_headers=MAX_HEADERS,
        )
        self._runner = web.ServerRunner(server)
        await self._runner.setup()
        address = self._config.listen
        self._site = web.TCPSite(self._runner, address.host, address.port, backlog=_BACKLOG)
        await self._site.start()

    async def stop(self, grace: float) -> None:
        """Stop accepting, let requests under way finish within `grace` seconds, close."""
        self._stopping = True
        if self._runner is not None:
            self._runner._shutdown_timeout = grace  # noqa: SLF001 - known only when stopping
            await self._runner.cleanup()

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
        source, metrics = served
        method = http.method
        if method not in source.methods:
            allow = ", ".join(source.methods)
            raise MethodNotAllowedError(f"only {allow} is served here", allow=allow)
        headers = http.headers
        if any(coding.lower() != "identity" for coding in headers.getall(hdrs.CONTENT_ENCODING, ())):
            raise UnsupportedEncodingError("send the body without Content-Encoding")
        body = await self._read_body(http, source.max_body)
        request = Request(method, path, query, headers, body, source.public_url, client)
        try:
            return await self._pipeline.receive(source, metrics, request)
        except RequestRejectedError as error:
            error.request = request
            raise

    async def _read_body(self, http: web.BaseRequest, limit: int) -> bytes:
        if (http.content_length or 0) > limit:
            raise BodyTooLargeError(f"the body is longer than {limit} bytes")
        content = http.content
        if content.is_eof():  # the whole body came with the head: nothing to wait for
            body = content.read_nowait(-1)
        else:
            body = await self._read_stream(http, limit)
        if len(body) > limit:
            raise BodyTooLargeError(f"the body is longer than {limit} bytes")
        return body

    async def _read_stream(self, http: web.BaseRequest, limit: int) -> bytes:
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._config.request_deadline):
                await _continue(http)
                while chunk := await http.content.readany():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > limit:
                        break
        except TimeoutError as error:
            raise RequestTimeoutError("the body took too long to arrive") from error
        except (aiohttp.ClientPayloadError, HttpProcessingError, ConnectionError) as error:
            raise MalformedRequestError("the body ended before its announced end") from error
        return b"".join(chunks)

    def _respond(self, answer: Answer) -> web.Response:
        headers = _HEADERS
        if answer.headers:
            headers = CIMultiDict(_HEADERS)
            headers.update(answer.headers)
        response = web.Response(body=answer.body, status=answer.status, headers=headers)
        if self._stopping or answer.status in (400, 408, 413):
            response.force_close()
        return response

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
        answer = rejected(MalformedRequestError("not a well-formed HTTP request"))
        self._unknown.outcomes[answer.outcome].inc()
        get_logger().warning(
            "request.rejected", outcome=answer.outcome, status=answer.status, client=http.remote
        )
        return self._respond(answer)


async def _continue(http: web.BaseRequest) -> None:
    """Tell a client that waits for it to send the body: path, method and length are fine."""
    if http.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # What went out so far is no part of the answer.
        http.writer.output_size = 0


def _log_defect(source: Source | None, error: Exception) -> None:
    """Say where it broke. The error's message may quote the request, so it is left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else None
    name = source.name if source else None
    get_logger().error("request.failed", source=name, error=type(error).__name__, where=where)


OnMalformed = Callable[[web.BaseRequest], web.StreamResponse]


class _Server(web.Server):
    """Makes connections that answer what is not HTTP in our own words, and log no traceback for it."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        on_malformed: OnMalformed,
        **settings: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        super().__init__(handler, **settings)
        self._on_malformed = on_malformed

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._on_malformed, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_on_malformed",)

    def __init__(self, server: _Server, on_malformed: OnMalformed, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(server, **settings)
        self._on_malformed = on_malformed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,  # noqa: ARG002
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        return self._on_malformed(request)
