"""The operator API for what the gateway holds in memory. Nothing here reads the store."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import threading
import time
from typing import TYPE_CHECKING

from aiohttp import web

from gatehouse.config import describe
from gatehouse.language.times import rfc3339
from gatehouse.operator.masking import masked_headers, query_names
from gatehouse.operator.queries import BadQueryError, page_limit, page_time
from gatehouse.operator.request_types import MAX_NAMES, EnvironmentQuery, RejectedListQuery
from gatehouse.operator.response_types import (
    EnvironmentNames,
    ExplainedFinding,
    HandshakeList,
    RejectedList,
    RejectedRequest,
)
from gatehouse.operator.responses import error_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.operator.source_types import LastRefused, SecretUse, SourceList, SourceState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatehouse.diagnosis.finding import Finding
    from gatehouse.ingest.handshakes import HandshakeSecret
    from gatehouse.ingest.rejected import KeptRequest, RejectedRequests
    from gatehouse.ingest.source import Source
    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.telemetry.metrics import Metrics

#: Hex digits of the body's SHA-256: enough to tell bodies apart.
_HASH_DIGITS = 16
#: How long the search for findings rests while nobody waits for it: a multiple of the time of its last step.
_REST = 2.0
#: Seconds.
_LATELY = 3600.0


class OperatorApi:
    """Answers requests about refused requests, sources and handshakes."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        rejected: RejectedRequests,
        *,
        handshakes: Callable[[], Sequence[HandshakeSecret]] = tuple,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._sources = sources
        self._rejected = rejected
        self._handshakes = handshakes
        #: They go on after the answer to a request that did not wait for them.
        self._examinations: set[asyncio.Task[None]] = set()
        self._examining = threading.Lock()

    def replace(self, sources: Mapping[str, Source]) -> None:
        """Show these sources from now on."""
        self._sources = sources

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [
            web.get("/api/v1/rejected", self._list_rejected),
            web.get("/api/v1/rejected/{id}", self._show_rejected),
            web.get("/api/v1/sources", self._list_sources),
            web.get("/api/v1/handshakes", self._list_handshakes),
        ]

    @describe_route("Refused requests", {200: (RejectedList,)}, query=RejectedListQuery)
    async def _list_rejected(self, request: ApiRequest) -> web.Response:
        """List the last refused requests, newest first, and what to check for each.

        The gateway keeps 20 per source, in memory only. It looks for findings when it is first asked. Values
        that can be credentials are masked, and bodies are never shown.
        """
        source = request.query.get("source")
        if source is not None and source not in self._sources:
            return error_answer(400, "bad_request", "no source has this name")
        try:
            limit = page_limit(request.query)
            within = page_time(request.query) if "within" in request.query else None
        except BadQueryError as error:
            return error_answer(400, "bad_request", error.message)
        chosen = self._rejected.newest(source)[:limit]
        answer: RejectedList = {"rejected": await self._describe_all(chosen, within)}
        return _json(answer)

    @describe_route(
        "Refused requests",
        {200: (RejectedRequest,)},
        errors=(404,),
        path={"id": "The `id` of the refused request, from the list or the log."},
    )
    async def _show_rejected(self, request: ApiRequest) -> web.Response:
        """Show one refused request, and what to check."""
        refused = self._rejected.find(request.match_info["id"])
        if refused is None:
            return error_answer(404, "not_found", "no refused request has this id, or it is no longer kept")
        (seen,) = await self._describe_all([refused])
        return _json(seen)

    @describe_route("Configuration", {200: (SourceList,)})
    async def _list_sources(self, _: ApiRequest) -> web.Response:
        """List the sources: whether each is ready, and which of its secrets verified requests.

        Numbers are since the start.
        """
        answer: SourceList = {"sources": self.describe_sources()}
        return _json(answer)

    @describe_route("Configuration", {200: (HandshakeList,)})
    async def _list_handshakes(self, _: ApiRequest) -> web.Response:
        """List the secrets that providers sent in a handshake, newest first.

        The gateway keeps the last five per source, in memory only. Anyone can send one: check the time and
        the address before you use it.
        """
        answer: HandshakeList = {"handshakes": list(self._handshakes())}
        return _json(answer)

    def describe_sources(self) -> list[SourceState]:
        """Return the state of every source, in the order of the config."""
        return [self._source(source) for source in self._sources.values()]

    async def _describe_all(
        self, chosen: Sequence[KeptRequest], within: float | None = None
    ) -> list[RejectedRequest]:
        """Describe refused requests, after `within` seconds without the findings that are still missing."""
        # A diagnosis takes milliseconds and there may be hundreds, so they run in a thread.
        rest = 0.0 if within is None else _REST
        examining = asyncio.create_task(asyncio.to_thread(self._examine, chosen, rest))
        self._examinations.add(examining)
        examining.add_done_callback(self._examinations.discard)
        done, _ = await asyncio.wait([examining], timeout=within)
        for each in done:
            each.result()
        return await asyncio.to_thread(lambda: [self._describe(refused) for refused in chosen])

    def _examine(self, chosen: Sequence[KeptRequest], rest: float) -> None:
        for refused in chosen:
            # Operators often look at the same requests at the same time.
            with self._examining:
                started = time.perf_counter()
                self._rejected.explain(refused)
            if rest:
                time.sleep(rest * (time.perf_counter() - started))

    def _describe(self, refused: KeptRequest) -> RejectedRequest:
        explained = refused.explained or ()
        signed_at = refused.signed_at
        return {
            "id": refused.id,
            "time": rfc3339(refused.time),
            "source": refused.source,
            "client": refused.client,
            "outcome": refused.outcome,
            "reason": refused.reason,
            "status": refused.status,
            "method": refused.method,
            "path": refused.path,
            "query": query_names(refused.request) if refused.request else [],
            "headers": self._headers(refused),
            "body": {"length": refused.body_length, "sha256": _body_hash(refused)},
            "signed_at": None if signed_at is None else int(signed_at),
            "examined": refused.explained is not None,
            "findings": [finding.text for finding in explained],
            "explained": [_explained(finding) for finding in explained],
        }

    def _headers(self, refused: KeptRequest) -> list[tuple[str, str]]:
        source = self._sources.get(refused.source)
        return masked_headers(refused.request, source) if refused.request and source else []

    def _source(self, source: Source) -> SourceState:
        counted = self._metrics.source(source.name, len(source.secrets))
        last_accepted = counted.last_accepted.value
        refused = self._rejected.newest(source.name)
        since = self._clock() - _LATELY
        return {
            "name": source.name,
            "path": source.path,
            "provider": source.settings.provider or None,
            "docs": source.settings.docs or None,
            "register": source.public_url + source.path,
            "methods": list(source.methods),
            "answer_within": source.settings.answer_deadline,
            "retried_for": source.settings.retry_horizon,
            "ready": source.not_ready is None,
            "not_ready": source.not_ready,
            "verified_by": describe.verification(source.settings),
            "last_accepted": rfc3339(last_accepted) if last_accepted else None,
            "unrouted": int(counted.unrouted.value),
            "refused_last_hour": sum(one.time >= since for one in refused),
            "last_refused": _last_refused(refused),
            "secrets": [self._secret(source, position) for position in range(1, len(source.secrets) + 1)],
        }

    def _secret(self, source: Source, position: int) -> SecretUse:
        """Return how often a secret was used since the start and where it is kept, but never its value."""
        counted = self._metrics.source(source.name, len(source.secrets))
        verifications, last_used = counted.secrets[position]
        return {
            "position": position,
            "name": source.secrets[position - 1],
            "matched": int(verifications.value),
            "last_used": rfc3339(last_used.value) if last_used.value else None,
        }


def _explained(finding: Finding) -> ExplainedFinding:
    return {
        "text": finding.text,
        "expected": finding.expected,
        "received": finding.received,
        "change": finding.change,
        "certain": finding.certain,
    }


def _last_refused(refused: Sequence[KeptRequest]) -> LastRefused | None:
    if not refused:
        return None
    last = refused[0]
    return {"id": last.id, "time": rfc3339(last.time), "reason": last.reason or last.outcome}


def _json(value: object) -> web.Response:
    return web.json_response(value, dumps=lambda it: json.dumps(it, indent=2) + "\n")


def _body_hash(refused: KeptRequest) -> str | None:
    """Return the start of the body's SHA-256; None if the body was not kept."""
    if refused.request is None or not refused.has_body:
        return None
    return hashlib.sha256(refused.request.body).hexdigest()[:_HASH_DIGITS]


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


class EnvironmentApi:
    """Tells which environment variables the process has: `GET /api/v1/environment?name=A&name=B`."""

    def __init__(self, environment: Mapping[str, str] | None) -> None:
        self._environment = os.environ if environment is None else environment

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [web.get("/api/v1/environment", self._show_environment)]

    @describe_route("Configuration", {200: (EnvironmentNames,)}, query=EnvironmentQuery)
    async def _show_environment(self, request: ApiRequest) -> web.Response:
        """Tell which environment variables the gateway's process has.

        The values are never shown. A process gets a new variable only after a restart.
        """
        names = request.query.getall("name", [])
        if not names or len(names) > MAX_NAMES or not all(map(_NAME.fullmatch, names)):
            return error_answer(
                400,
                "bad_request",
                f"name must be the name of a variable; up to {MAX_NAMES} names are allowed",
            )
        answer: EnvironmentNames = {"set": {name: name in self._environment for name in names}}
        return web.json_response(answer)
