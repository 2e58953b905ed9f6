"""Finds out who sends a request to the operator server, and refuses those who may not."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

from aiohttp import hdrs, web

from gatehouse.config.addresses import is_loopback
from gatehouse.language.request import as_sent
from gatehouse.operator.access import WrongTokens, cross_site_refusal
from gatehouse.operator.responses import error_answer
from gatehouse.operator.tokens import LOCAL, Identity
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.operator.tokens import OperatorTokens
    from gatehouse.telemetry.metric_types import Counter


class RefusalMetrics(Protocol):
    """The metrics that count refusals."""

    #: By reason.
    operator_refused: dict[str, Counter]


class Authentication:
    """Checks operator tokens. It blocks addresses that guess them, and counts what it refuses."""

    def __init__(
        self,
        tokens: OperatorTokens | None,
        metrics: RefusalMetrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._wrong_tokens = WrongTokens()
        self.use(tokens)

    def use(self, tokens: OperatorTokens | None) -> None:
        """Require one of these tokens from now on. Without any, no token is required."""
        #: The tokens; None if no token is required.
        self.tokens = tokens if tokens is not None and tokens.required else None

    def by_header(self, request: web.Request) -> Identity | web.Response:
        """Return whose token the request carries, or its refusal."""
        if self.tokens is None:
            return self.foreign_host_refusal(request) or LOCAL
        given = [as_sent(value) for value in request.headers.getall(hdrs.AUTHORIZATION, ())]
        return self.by_token(request, given)

    def by_token(self, request: web.Request, given: Sequence[bytes]) -> Identity | web.Response:
        """Return whose token these values of `Authorization` carry, or the refusal of the request."""
        address = request.remote or ""
        if wait := self._wrong_tokens.wait(address, self._monotonic()):
            return self._throttled(wait)
        identity = None if self.tokens is None else self.tokens.find(given)
        if identity is not None:
            return identity
        # A request without a token is no guess: a scraper without its token is misconfigured, not an attack.
        if given and self._wrong_tokens.count(address, self._monotonic()):
            get_logger().warning("operator.throttled", client=address)
        self._metrics.operator_refused["unauthorized"].inc()
        return error_answer(401, "unauthorized", "send an operator token as a bearer token")

    def foreign_host_refusal(self, request: web.Request) -> web.Response | None:
        """Refuse a host that is not this machine. Without a token, only this machine may ask.

        The page of another site could lead a browser on this machine here, under any host name.
        """
        if self.tokens is not None:
            return None
        try:
            host = request.url.host
        except ValueError:
            return error_answer(400, "bad_request", "the Host header is not a valid host and port")
        if is_loopback(host or ""):
            return None
        self._metrics.operator_refused["cross_site"].inc()
        return error_answer(403, "forbidden", "use a loopback address, or configure an operator token")

    def cross_site_refusal(self, request: web.Request, *, forms: bool = False) -> web.Response | None:
        """Refuse a request that may come from another site's page. `forms` are allowed on our own page."""
        refusal = cross_site_refusal(request, forms=forms)
        if refusal is not None:
            self._metrics.operator_refused["cross_site"].inc()
        return refusal

    def count_forbidden(self) -> None:
        """Count a request whose sender has not the role for it."""
        self._metrics.operator_refused["forbidden"].inc()

    def _throttled(self, wait: float) -> web.Response:
        self._metrics.operator_refused["throttled"].inc()
        answer = error_answer(429, "throttled", "too many wrong tokens came from this address")
        answer.headers[hdrs.RETRY_AFTER] = str(math.ceil(wait))
        return answer
