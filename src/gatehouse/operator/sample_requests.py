"""The operator API that sends a sample request to a source: `POST /api/v1/sources/{name}/sample`.

The gateway sends it to its own listener over a real connection, so it passes everything that a request of the
provider passes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from gatehouse import __version__
from gatehouse.config.addresses import Address, BindAddresses
from gatehouse.errors import ConflictError, GatewayError
from gatehouse.network.sockets import client_host
from gatehouse.operator.body import json_object
from gatehouse.operator.error_answers import with_error_answers
from gatehouse.operator.queries import BadQueryError
from gatehouse.operator.request_types import SampleBody
from gatehouse.operator.responses import error_answer, json_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.operator.source_types import SampleSent
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.ingest.source import Source
    from gatehouse.language.request import Request
    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.audit import Audit

_NO_ANSWER = "the listener for providers does not answer; try again later"
#: Seconds for the answer of the gateway's own listener. A relayed request takes as long as its destination.
_ANSWER_WITHIN = 60.0
#: How much of an answer is shown (bytes).
_MAX_ANSWER = 1024
_LONGEST_TYPE = 1024


class _Accepted(msgspec.Struct):
    """The gateway's own answer to a request that it accepted."""

    id: str | None = None
    ids: list[str] = []


_read_accepted = msgspec.json.Decoder(_Accepted).decode


class SampleRequestsApi:
    """Sends samples. `listening` returns the addresses of the listener for providers, or none yet."""

    def __init__(
        self,
        sources: Callable[[], Mapping[str, Source]],
        listening: Callable[[], BindAddresses],
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._sources = sources
        self._listening = listening
        self._audit = audit
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [web.post("/api/v1/sources/{name}/sample", with_error_answers(self._send_sample))]

    @describe_route(
        "Configuration",
        {200: (SampleSent,)},
        errors=(404, 409),
        path={"name": "The name of the source."},
        body=SampleBody,
    )
    async def _send_sample(self, request: ApiRequest) -> web.Response:
        """Send a sample request to a source, signed as its provider signs, and show the answer.

        The sample is an example of the provider with new ids and the current time. The gateway sends it to
        its own listener, so it becomes a real event: it is stored, and delivered to the destinations that the
        routes select. The status is 409 if only the provider can sign, or if a secret is missing
        (`cannot_sign`), and if the source has no example (`no_sample`).
        """
        source = self._sources().get(request.match_info["name"])
        wanted = _wanted_type(await json_object(request))
        if source is None:
            return error_answer(404, "not_found", "no source has this name")
        listening = self._listening()
        # In a thread: the first sample of a source is read from a file.
        sample = await asyncio.to_thread(_make, source, wanted, self._clock())
        answered = await _post(listening, sample.request) if listening else None
        if answered is None:
            return error_answer(503, "unavailable", _NO_ANSWER)
        status, body = answered
        get_logger().info("source.sampled", source=source.name, type=sample.type, status=status)
        await self._audit.record(request, "test", {"source": source.name, "type": sample.type}, 1)
        answer: SampleSent = {
            "status": status,
            "type": sample.type,
            "event_ids": _event_ids(source, body),
            "answer": body[:_MAX_ANSWER].decode("utf-8", "replace"),
        }
        return json_answer(answer)


class _Made(NamedTuple):
    """A signed sample, and the type of its first event."""

    request: Request
    type: str | None


def _wanted_type(body: Mapping[str, Any]) -> str | None:
    """Return the type that the body asks for, if any. Raises `BadQueryError`."""
    wanted = body.get("type")
    if wanted is None or (isinstance(wanted, str) and 0 < len(wanted) <= _LONGEST_TYPE):
        return wanted
    raise BadQueryError(f"type must be a text of 1 to {_LONGEST_TYPE} characters")


def _make(source: Source, wanted: str | None, now: float) -> _Made:
    """Make and sign a sample. Raises `BadQueryError` for an impossible type, otherwise `ConflictError`."""
    # Imported here, because a gateway that sends no samples needs no memory for them.
    from gatehouse.samples.event_type import with_type  # noqa: PLC0415
    from gatehouse.samples.sample import sign_sample, type_of  # noqa: PLC0415
    from gatehouse.samples.typed import Samples  # noqa: PLC0415

    samples = Samples(source.settings)
    sample = samples.make(samples.nearest(wanted), now)
    if sample is None:
        raise ConflictError("no_sample", f"source {source.name} has no documented example")
    try:
        sample = sample if wanted is None else with_type(sample, source.settings, wanted)
    except GatewayError as error:
        raise BadQueryError(error.message) from error
    try:
        return _Made(sign_sample(source, sample, now), type_of(sample, source.settings))
    except GatewayError as error:
        raise ConflictError("cannot_sign", error.message) from error


async def _post(listening: BindAddresses, request: Request) -> tuple[int, bytes] | None:
    """Send a request to the first of the addresses. Return status and body; None without an answer."""
    connector, authority = _connection(listening)
    query = f"?{request.query}" if request.query else ""
    url = URL(f"http://{authority}{request.path}{query}", encoded=True)
    headers = CIMultiDict(request.headers)
    headers.setdefault(hdrs.USER_AGENT, f"Gatehouse/{__version__}")
    timeout = aiohttp.ClientTimeout(total=_ANSWER_WITHIN)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session,
            session.request(
                request.method, url, data=request.body, headers=headers, allow_redirects=False
            ) as answer,
        ):
            return answer.status, await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _connection(listening: BindAddresses) -> tuple[aiohttp.BaseConnector, str]:
    """Return how to connect, and the host of the URL."""
    if not listening.addresses:
        return aiohttp.UnixConnector(listening.sockets[0].path), "localhost"
    host, port = listening.addresses[0]
    return aiohttp.TCPConnector(), str(Address(client_host(host), port))


def _event_ids(source: Source, body: bytes) -> list[str]:
    """Read the ids of the events from an answer; none if the answer is not the gateway's own."""
    if source.settings.answers.body is not None or source.settings.respond == "relay":
        return []
    try:
        answer = _read_accepted(body)
    except msgspec.MsgspecError:
        return []
    return answer.ids if answer.id is None else [answer.id]
