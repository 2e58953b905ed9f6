"""The listener for operators: `/metrics`, `/healthz`, `/readyz`, and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from gatehouse.config.scalars import is_loopback
from gatehouse.operator.api import error_answer
from gatehouse.verify.base import ct_equal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gatehouse.config.scalars import Address
    from gatehouse.metrics import Metrics
    from gatehouse.operator.api import OperatorApi

#: Prometheus's text format.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class OperatorServer:
    """Serves operators, on loopback or behind a bearer token."""

    def __init__(
        self,
        listen: Address,
        token: bytes | None,
        metrics: Metrics,
        probes: Mapping[str, Callable[[], Awaitable[str | None]]],
        api: OperatorApi,
    ) -> None:
        self._listen = listen
        self._expected = None if token is None else b"Bearer " + token
        self._metrics = metrics
        self._probes = probes
        self._api = api
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        addresses = self._runner.addresses if self._runner else []
        return int(addresses[0][1]) if addresses else 0

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address can't be had."""
        app = web.Application(middlewares=[_no_store, self._authorize])
        app.add_routes(
            [
                web.get("/metrics", self._show_metrics),
                web.get("/healthz", self._show_health),
                web.get("/readyz", self._show_readiness),
                *self._api.routes(),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._listen.host, self._listen.port).start()

    async def stop(self) -> None:
        """Close the listener."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _authorize(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        refusal = None if request.path in ("/healthz", "/readyz") else self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            return await handler(request)
        except web.HTTPException as error:
            return error_answer(error.status, error.reason.lower().replace(" ", "_"), error.reason)

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self._expected is not None:
            message = "send the operator token as a bearer token"
            return None if self._is_authorized(request) else error_answer(401, "unauthorized", message)
        if is_loopback(request.url.host or ""):
            return None
        # Without a token only this machine may ask, and a browser on it may be led here under any name.
        return error_answer(403, "forbidden", "use a loopback address, or give the operator a token")

    def _is_authorized(self, request: web.Request) -> bool:
        given = request.headers.getall(hdrs.AUTHORIZATION, ())
        if len(given) != 1 or self._expected is None:
            return False
        return ct_equal(given[0].encode("utf-8", "surrogateescape"), self._expected)

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={hdrs.CONTENT_TYPE: _METRICS_TYPE})

    async def _show_health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _show_readiness(self, _: web.Request) -> web.Response:
        parts = {name: await probe() or "ok" for name, probe in self._probes.items()}
        is_ready = all(state == "ok" for state in parts.values())
        body = {"status": "ready" if is_ready else "not_ready", "parts": parts}
        return web.json_response(body, status=200 if is_ready else 503)


@web.middleware
async def _no_store(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    response = await handler(request)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers[hdrs.SERVER] = "gatehouse"
    return response
