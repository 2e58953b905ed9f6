"""The operator API in front of several workers: some requests go to one worker, and some to all.

A reload goes to all workers: either all of them use the new config, or none does.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import hdrs, web

from gatehouse.errors import Problem
from gatehouse.language.times import rfc3339
from gatehouse.operator.access import IDENTITY, forwards_identity
from gatehouse.operator.audit import FORWARDED_PATH, Change, log_change
from gatehouse.operator.response_types import ConfigProblem
from gatehouse.operator.responses import error_answer
from gatehouse.operator.status import reload_state
from gatehouse.operator.tokens import SUPERVISOR
from gatehouse.telemetry.log import get_logger
from gatehouse.workers.merging import (
    merge_destinations,
    merge_duplicates,
    merge_history,
    merge_sources,
    merge_status,
    newest_first,
)
from gatehouse.workers.process import NoAnswerError, WorkerAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.config.load import LoadedConfig
    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.reload_result import LastReload
    from gatehouse.operator.tokens import Identity
    from gatehouse.workers.process import WorkerProcess
    from gatehouse.workers.worker import SharedFolder

_OK, _NO_CONTENT, _NOT_FOUND = 200, 204, 404
_DESTINATIONS = "/api/v1/destinations"
#: Seconds for the body of an operator's request, which is short.
_BODY_WITHIN = 10.0
#: Seconds for a worker to answer, and to make an attempt. The `timeout` of a destination has no upper limit.
_ANSWER_WITHIN, _TEST_WITHIN = 15.0, 3600.0
#: Seconds for a worker to prove that it is alive, and to list what it holds in memory.
_ALIVE_WITHIN, _LIST_WITHIN = 1.0, 5.0
#: The default limit of a worker's lists.
_DEFAULT_LIMIT = "50"
#: Seconds for a starting worker to become ready, and for its reload. The operator's client waits 15 seconds.
_SETTLE_WITHIN, _RELOAD_WITHIN = 4.0, 8.0

msgspec.json.Decoder(list[ConfigProblem])  # prepares the type, see store/rows.py


class WorkersApi:
    """Forwards the requests of operators to the workers.

    All workers share the store, so any of them can read and change it. The first worker that serves is
    always used, because it remembers in memory which deliveries have just been requested.
    """

    def __init__(
        self,
        workers: Sequence[WorkerProcess],
        last_reload: Callable[[], LastReload],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._workers = workers
        self._last_reload = last_reload
        self._started = clock()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes for the operator server."""
        return [
            web.get("/api/v1/rejected", self._list_rejected),
            web.get("/api/v1/rejected/{id}", self._show_rejected),
            web.get("/api/v1/handshakes", self._list_handshakes),
            web.get(_DESTINATIONS, self._list_destinations),
            web.post(_DESTINATIONS + "/{name}/probe", self._probe),
            web.post(_DESTINATIONS + "/{name}/test", self._test),
            web.post("/api/v1/sources/{name}/sample", self._test),
            web.get("/api/v1/events/{id}/duplicates", self._list_duplicates),
            web.get("/api/v1/sources", self._list_sources),
            web.get("/api/v1/history", self._show_history),
            web.get("/api/v1/status", self._show_status),
            web.route("*", "/api/v1/{rest:.*}", self._forward),
        ]

    @forwards_identity
    async def _forward(self, request: ApiRequest) -> web.Response:
        return await self._send_to_one(request)

    async def _test(self, request: ApiRequest) -> web.Response:
        """Let a worker send a test event or a sample, which may take as long as an attempt."""
        return await self._send_to_one(request, within=_TEST_WITHIN)

    async def _send_to_one(self, request: ApiRequest, *, within: float = _ANSWER_WITHIN) -> web.Response:
        try:
            async with asyncio.timeout(_BODY_WITHIN):
                body = await request.read()
        except TimeoutError:
            return error_answer(400, "bad_request", "the body did not arrive")
        worker = await self._first_responsive()
        if worker is None:
            return _unavailable()
        try:
            return _pass_on(
                await worker.client.request(
                    request.rel_url.raw_path_qs,
                    method=request.method,
                    body=body or None,
                    within=within,
                    identity=request[IDENTITY],
                )
            )
        except NoAnswerError:
            # The worker may have done what was requested, so the request is not repeated.
            return _unavailable()

    async def _list_rejected(self, request: ApiRequest) -> web.Response:
        answers = await self._request_all(request)
        if refused := [answer for answer in answers if answer.status != _OK]:
            return _pass_on(refused[0])
        listed = _newest_first(answers, "rejected", by="time")
        limit = int(request.query.get("limit", _DEFAULT_LIMIT))
        return _json({"rejected": listed[:limit]}) if answers else _unavailable()

    async def _show_rejected(self, request: ApiRequest) -> web.Response:
        answers = await self._request_all(request)
        answers.sort(key=lambda answer: answer.status == _NOT_FOUND)
        return _pass_on(answers[0]) if answers else _unavailable()

    async def _list_handshakes(self, request: ApiRequest) -> web.Response:
        answers = await self._request_all(request)
        return (
            _json({"handshakes": _newest_first(answers, "handshakes", by="received")})
            if answers
            else _unavailable()
        )

    async def _list_duplicates(self, request: ApiRequest) -> web.Response:
        answers = await self._request_all_json(request)
        return _json(merge_duplicates(answers)) if answers else _unavailable()

    async def _list_destinations(self, request: ApiRequest) -> web.Response:
        lists = [answer["destinations"] for answer in await self._request_all_json(request)]
        return _json({"destinations": merge_destinations(lists)}) if lists else _unavailable()

    async def _probe(self, request: ApiRequest) -> web.Response:
        """Let all workers probe a destination. A worker whose breaker is closed refuses."""
        answers = await self._send_all(request.rel_url.raw_path_qs, SUPERVISOR, method=hdrs.METH_POST)
        if not any(answer.status == _OK for answer in answers):
            return _pass_on(answers[0]) if answers else _unavailable()
        name = request.match_info["name"]
        await record_change(self._workers, request[IDENTITY], Change("probe", {"destination": name}))
        lists = await self._send_all(_DESTINATIONS, request[IDENTITY])
        states = merge_destinations([answer.json()["destinations"] for answer in lists])
        # A reload may have removed it meanwhile.
        found = [one for one in states if one["name"] == name]
        return _json(found[0]) if found else _unavailable()

    async def _list_sources(self, request: ApiRequest) -> web.Response:
        lists = [answer["sources"] for answer in await self._request_all_json(request)]
        return _json({"sources": merge_sources(lists)}) if lists else _unavailable()

    async def _show_history(self, request: ApiRequest) -> web.Response:
        answers = await self._request_all(request)
        histories = [answer.json() for answer in answers if answer.status == _OK]
        if not histories:
            return _pass_on(answers[0]) if answers else _unavailable()
        complete = len(histories) == len(self._workers)
        return _json(merge_history(histories, complete=complete), compact=True)

    async def _show_status(self, request: ApiRequest) -> web.Response:
        answers = await self._request_all_json(request)
        if not answers:
            return _unavailable()
        return _json(
            merge_status(answers)
            | {
                "started": rfc3339(self._started),
                "reload": reload_state(self._last_reload()),
                "workers": [
                    {"number": worker.number, "serving": worker.is_serving} for worker in self._workers
                ],
            }
        )

    def _serving(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker.is_serving]

    async def _first_responsive(self) -> WorkerProcess | None:
        for worker in self._serving():
            try:
                await worker.client.request("/healthz", within=_ALIVE_WITHIN)
            except NoAnswerError:
                continue
            return worker
        return None

    async def _request_all_json(self, request: ApiRequest) -> list[dict[str, Any]]:
        """Return the successful answers."""
        return [answer.json() for answer in await self._request_all(request) if answer.status == _OK]

    async def _request_all(self, request: ApiRequest) -> list[WorkerAnswer]:
        return await self._send_all(request.rel_url.raw_path_qs, request[IDENTITY])

    async def _send_all(
        self, path: str, identity: Identity, *, method: str = hdrs.METH_GET
    ) -> list[WorkerAnswer]:
        requests = [
            worker.client.request(path, method=method, within=_LIST_WITHIN, identity=identity)
            for worker in self._serving()
        ]
        answers = await asyncio.gather(*requests, return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, WorkerAnswer)]


def _newest_first(answers: Sequence[WorkerAnswer], name: str, *, by: str) -> list[dict[str, Any]]:
    listed = [entry for answer in answers for entry in answer.json()[name]]
    return newest_first(listed, by=by)


def _pass_on(answer: WorkerAnswer) -> web.Response:
    return web.Response(body=answer.body, status=answer.status, headers={"Content-Type": answer.content_type})


def _json(value: object, *, compact: bool = False) -> web.Response:
    text = msgspec.json.encode(value)
    text = text if compact else msgspec.json.format(text, indent=2) + b"\n"
    return web.Response(body=text, content_type="application/json", charset="utf-8")


def _unavailable() -> web.Response:
    return error_answer(503, "unavailable", "no worker answers; ask again later")


async def reload_all(
    new: LoadedConfig, old: LoadedConfig, shared: SharedFolder, workers: Sequence[WorkerProcess]
) -> Sequence[Problem]:
    """Let all workers use a config. If one of them reports problems, all return to the old config.

    The supervisor has already checked the config, but a secret in a file may have changed since.
    """
    if problems := await _distribute(new, shared, workers):
        await _distribute(old, shared, workers)
        return problems
    return []


async def record_change(workers: Sequence[WorkerProcess], identity: Identity, change: Change) -> None:
    """Let one worker record a change of the supervisor. If none answers, the change is only in the log."""
    body = msgspec.json.encode(change)
    for worker in workers:
        if not worker.is_serving:
            continue
        try:
            answer = await worker.client.request(
                FORWARDED_PATH, method="POST", body=body, within=_LIST_WITHIN, identity=identity
            )
        except NoAnswerError:
            continue
        if answer.status == _NO_CONTENT:
            return
    log_change(identity, change)
    get_logger().error("audit.not_stored", who=identity.name, action=change.action, error="no worker answers")


async def _distribute(
    loaded: LoadedConfig, shared: SharedFolder, workers: Sequence[WorkerProcess]
) -> Sequence[Problem]:
    # First for the workers that start meanwhile.
    shared.use(loaded)
    found = await asyncio.gather(*map(_reload, workers))
    return next(filter(None, found), [])


async def _reload(worker: WorkerProcess) -> Sequence[Problem]:
    """Reload a worker. A stopped worker gets the config when it starts, and a hanging one is killed."""
    await worker.wait_until_settled(_SETTLE_WITHIN)
    if not worker.is_running:
        return []
    try:
        answer = await worker.client.request("/-/reload", method="POST", within=_RELOAD_WITHIN)
        return [] if answer.status == _OK else _problems(answer)
    except NoAnswerError:
        worker.kill()
        return []


def _problems(answer: WorkerAnswer) -> Sequence[Problem]:
    try:
        found = msgspec.convert(answer.json()["error"]["problems"], list[ConfigProblem])
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise NoAnswerError("no answer to a reload") from error
    return [Problem(**one) for one in found]
