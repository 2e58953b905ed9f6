"""The listener for operators: `/metrics`, `/healthz`, `/readyz`, and the API."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aiohttp import hdrs, web

from gatehouse.operator import queries
from gatehouse.operator.access import IDENTITY, IDENTITY_HEADER, reads_with_dry_run, role_refusal
from gatehouse.operator.authentication import Authentication
from gatehouse.operator.body import json_object
from gatehouse.operator.connections import DATA_HEADERS, connection_factory
from gatehouse.operator.error_answers import with_error_answers
from gatehouse.operator.page.entrance import PageEntrance
from gatehouse.operator.prefix import with_prefix
from gatehouse.operator.reload_result import reload_answer
from gatehouse.operator.request_types import ReloadBody
from gatehouse.operator.response_types import ErrorAnswer, Liveness, Readiness, ReloadRefused, ReloadReport
from gatehouse.operator.responses import error_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.operator.tokens import SUPERVISOR, Identity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from gatehouse.config.addresses import Address
    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.reload_result import Reload
    from gatehouse.operator.tokens import OperatorTokens
    from gatehouse.telemetry.metric_types import Counter

#: These paths need no token.
PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
#: Bytes. Operators send only a few names.
_LONGEST_BODY = 64 * 1024
#: The text format of Prometheus.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NEXT_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


class OperatorMetrics(Protocol):
    """The metrics that this listener shows and counts in."""

    #: By reason.
    operator_refused: dict[str, Counter]

    async def exposition(self) -> bytes:
        """Return the metrics in the text exposition format."""


class OperatorServer:
    """Serves operators on loopback or behind bearer tokens, or a supervisor on a Unix socket.

    The socket is in a folder that only the supervisor's user can open. The supervisor has checked the token
    of a request that it forwards, and names who sent it. `exposition` replaces what `metrics` shows.
    """

    def __init__(
        self,
        listen: Address | Path,
        tokens: OperatorTokens | None,
        metrics: OperatorMetrics,
        probes: Mapping[str, Callable[[], Awaitable[str | None]]],
        routes: Sequence[web.RouteDef],
        *,
        reload: Reload,
        exposition: Callable[[], Awaitable[bytes]] | None = None,
        page_path: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`page_path` is the prefix of all paths of the page; without one, there is no page.

        `clock` returns Unix time.
        """
        self._listen = listen
        self._reload = reload
        self._exposition = exposition
        self._authentication = Authentication(tokens, metrics)
        self._metrics = metrics
        self._probes = probes
        self._public = {f"{prefix}{path}" for path in PUBLIC_PATHS for prefix in ("", page_path or "")}
        self._routes: list[web.RouteDef] = [
            web.get("/metrics", self._show_metrics),
            web.get("/healthz", self._show_health),
            web.get("/readyz", self._show_readiness),
            web.post("/-/reload", with_error_answers(self._do_reload)),
            *routes,
        ]
        self._page: PageEntrance | None = None
        if page_path is not None:
            self._page = PageEntrance(self._routes, self._authentication, clock, page_path)
        if page_path:
            self._routes += [with_prefix(page_path, route) for route in self._routes]
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        #: Requests whose answer is sent bit by bit, by their `id()`.
        self._lasting: dict[int, web.Request] = {}

    def use_tokens(self, tokens: OperatorTokens | None) -> None:
        """Require one of these tokens from the next request on. Without any, no token is required.

        A stream or an export ends if its sender's token was withdrawn, replaced, or got another role.
        """
        before = self._authentication.tokens
        self._authentication.use(tokens)
        now = self._authentication.tokens
        if now is None or isinstance(self._listen, Path):
            return  # a supervisor has checked the token
        for request in tuple(self._lasting.values()):
            known = now.fingerprint(request[IDENTITY])
            is_kept = (
                known is not None and before is not None and known == before.fingerprint(request[IDENTITY])
            )
            if not is_kept and request.transport is not None:
                request.transport.abort()

    @property
    def port(self) -> int:
        """The port of the listener; 0 if there is none."""
        sockets = self._server.sockets if self._server else ()
        return int(sockets[0].getsockname()[1]) if sockets and not isinstance(self._listen, Path) else 0

    def app(self) -> web.Application:
        """Create the application with every route."""
        app = web.Application(middlewares=[self._authorize], client_max_size=_LONGEST_BODY)
        app.on_response_prepare.append(_add_headers)
        app.on_response_prepare.append(self._note_lasting)
        app.add_routes(self._routes)
        if self._page is not None:
            app.router.register_resource(self._page)
        return app

    async def start(self) -> None:
        """Listen. Raises `OSError` if the address is not available."""
        self._runner = web.AppRunner(self.app(), shutdown_timeout=1.0)
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - the setup has created it
        make, loop = connection_factory(self._runner.server), asyncio.get_running_loop()
        if isinstance(self._listen, Path):
            self._listen.unlink(missing_ok=True)  # left by a worker that was killed
            self._server = await loop.create_unix_server(make, str(self._listen))
        else:
            self._server = await loop.create_server(make, self._listen.host, self._listen.port)

    async def stop(self) -> None:
        """Close the listener and its connections."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _authorize(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await self._answer(request, handler)
        finally:
            self._lasting.pop(id(request), None)

    async def _note_lasting(self, request: web.Request, response: web.StreamResponse) -> None:
        if not isinstance(response, web.Response) and IDENTITY in request:
            self._lasting[id(request)] = request

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self._page is not None and self._page.serves(request):
            return await self._page.answer(request, handler)
        is_public = request.path in self._public and not isinstance(self._listen, Path)
        try:
            # To find out whether a request only counts, the refusal reads the body, which may be too long.
            refusal = None if is_public else await self._refusal(request)
            return await handler(request) if refusal is None else refusal
        except web.HTTPException as error:
            return error_answer(error.status, _code(error), error.reason)

    async def _refusal(self, request: web.Request) -> web.Response | None:
        """Find out who sent a request, and return its refusal if it is not allowed."""
        is_forwarded = isinstance(self._listen, Path)
        found = _forwarded_identity(request) if is_forwarded else self._authentication.by_header(request)
        if isinstance(found, web.Response):
            return found
        request[IDENTITY] = found
        if not is_forwarded and (refusal := self._authentication.cross_site_refusal(request)):
            return refusal
        refusal = await role_refusal(request)
        if refusal is not None:
            self._authentication.count_forbidden()
        return refusal

    @reads_with_dry_run
    @describe_route(
        "Configuration", {200: (ReloadReport,), 400: (ReloadRefused, ErrorAnswer)}, body=ReloadBody
    )
    async def _do_reload(self, request: ApiRequest) -> web.Response:
        """Read the config file again.

        The gateway uses the new config as a whole or not at all. No request is lost. With `dry_run`, it reads
        and checks the file in the same way and answers what would change, but changes nothing.
        """
        dry_run = queries.reload_is_dry_run(await json_object(request))
        return reload_answer(await self._reload(request[IDENTITY], dry_run=dry_run))

    @describe_route("Health", {200: "text/plain"})
    async def _show_metrics(self, _: web.Request) -> web.Response:
        """Show every metric in the text format of Prometheus."""
        body = await (self._exposition or self._metrics.exposition)()
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: _METRICS_TYPE})

    @describe_route("Health", {200: (Liveness,)})
    async def _show_health(self, _: web.Request) -> web.Response:
        """Tell that the process is alive.

        It needs no token.
        """
        answer: Liveness = {"status": "alive"}
        return web.json_response(answer)

    @describe_route("Health", {200: (Readiness,), 503: (Readiness,)})
    async def _show_readiness(self, _: web.Request) -> web.Response:
        """Tell whether the gateway can accept requests.

        It needs no token. The status is 503 when a part is not ready.
        """
        states = await asyncio.gather(*(probe() for probe in self._probes.values()))
        parts = {name: state or "ok" for name, state in zip(self._probes, states, strict=True)}
        is_ready = all(state == "ok" for state in parts.values())
        body: Readiness = {"status": "ready" if is_ready else "not_ready", "parts": parts}
        return web.json_response(body, status=200 if is_ready else 503)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Mark every answer as data, also that to an internal error. The page sets some of the headers itself."""
    for name, value in DATA_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "gatehouse"


def _forwarded_identity(request: web.Request) -> Identity | web.Response:
    """Return who sent a request, as the supervisor says. The supervisor's own requests name nobody."""
    given = request.headers.getall(IDENTITY_HEADER, ())
    try:
        return Identity.from_header(*given) if given else SUPERVISOR
    except (TypeError, ValueError):
        return error_answer(403, "forbidden", f"{IDENTITY_HEADER} does not name an identity")


def _code(error: web.HTTPException) -> str:
    """Return `not_found` for `HTTPNotFound`. Reasons differ between versions of Python."""
    return _NEXT_WORD.sub("_", type(error).__name__.removeprefix("HTTP")).lower()
