"""The operator's API as OpenAPI 3.1: `python -m gatehouse.reference.openapi` prints it.

Every route of the operator server is here because it is there: the description is at its handler.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from aiohttp import hdrs

from gatehouse import __version__
from gatehouse.config.addresses import Address
from gatehouse.errors import ConflictCode
from gatehouse.gateway.operator_routes import ApiParts, api_routes
from gatehouse.ingest.rejected import RejectedRequests
from gatehouse.operator.api import OperatorApi
from gatehouse.operator.audit import Audit
from gatehouse.operator.response_types import ErrorAnswer
from gatehouse.operator.route_docs import RouteDescription, route_description
from gatehouse.operator.server import PUBLIC_PATHS, OperatorServer
from gatehouse.operator.stream.api import StreamApi
from gatehouse.reference.components import Schema, components, example, members, reference
from gatehouse.telemetry.live import Hub
from gatehouse.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

_ABOUT = (
    "The second listener of Gatehouse, for operators and their tools. It listens on a loopback address, or "
    "asks for an operator token. A token with the role `read` may use `GET` and `HEAD`, and `POST` with "
    "`dry_run` where that changes nothing. New members may be added to the JSON; existing members are never "
    "renamed or removed. Every answer says `Cache-Control: no-store`. `HEAD` works where `GET` does."
)
#: The chapters, in order.
GROUPS = {
    "Health": "For probes and Prometheus.",
    "Events": "What the gateway accepted and stored.",
    "Deliveries": "One event for one destination. A delivery that the gateway gave up on is a dead letter.",
    "Replays and retries": "Many events at once, at a rate. An operation survives a restart of the gateway.",
    "Destinations": "Where events go.",
    "Stream": "What happens at the moment.",
    "Refused requests": "Why the requests of a provider fail.",
    "Configuration": "What the gateway uses now.",
    "Audit": "Who changed what.",
}
_TOKEN = "operatorToken"  # noqa: S105 - the name of the scheme


class ErrorKind(NamedTuple):
    """One way in which a request can fail."""

    #: Its name among the document's responses.
    name: str
    #: What `code` can be.
    codes: tuple[str, ...]
    description: str


#: By status.
ERRORS = {
    400: ErrorKind("BadRequest", ("bad_request",), "The request is not valid. `message` says what is wrong."),
    401: ErrorKind("Unauthorized", ("unauthorized",), "The operator token is missing or wrong."),
    403: ErrorKind(
        "Forbidden",
        ("cross_site", "forbidden"),
        (
            "`cross_site`: the request comes from a web page of another site, or has the content type of a "
            "form. `forbidden`: the role of the token does not allow the request, or the config has no "
            "operator token and the host of the request is not a loopback address."
        ),
    ),
    404: ErrorKind("NotFound", ("not_found",), "Nothing has this id or name, or it is no longer kept."),
    409: ErrorKind(
        "Conflict",
        get_args(ConflictCode),
        "The state of something does not allow the request. `message` says why. `busy`: 16 replays and "
        "retries are running already.",
    ),
    413: ErrorKind(
        "BodyTooLarge",
        ("request_entity_too_large",),
        "The body is longer than 64 KiB.",
    ),
    429: ErrorKind(
        "Throttled",
        ("throttled",),
        "Ten wrong tokens came from this address within a minute. It has to wait.",
    ),
    503: ErrorKind(
        "Unavailable", ("unavailable",), "The store or the workers do not answer. Ask again later."
    ),
}
_RETRY_AFTER = {
    "description": "The seconds to wait.",
    "schema": {"type": "integer", "minimum": 1},
    "required": True,
}


def document() -> dict[str, Any]:
    """Make the whole document."""
    routes = list(described_routes())
    known = components(sorted(_shapes(routes), key=lambda shape: shape.__name__))
    paths: dict[str, dict[str, Any]] = {}
    for method, path, about in routes:
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, about, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gatehouse operator API",
            "version": __version__,
            "summary": "Metrics, health, events, deliveries and destinations of a gateway.",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:9090", "description": "The default of `operator.listen`."}],
        # The empty one: on a loopback address the token may be left out of the config.
        "security": [{_TOKEN: []}, {}],
        "tags": [{"name": name, "description": text} for name, text in GROUPS.items()],
        "paths": paths,
        "components": {
            "schemas": known,
            "responses": _error_responses(),
            "securitySchemes": {
                _TOKEN: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A secret that `operator.token` or `operator.tokens` in the config names.",
                }
            },
        },
    }


def router() -> web.UrlDispatcher:
    """Return the router of the operator server. Nothing is behind it: no handler is ever called."""
    nothing = cast("Any", None)
    metrics = Metrics()
    parts = ApiParts(
        *(nothing, nothing, nothing),
        memory=OperatorApi({}, RejectedRequests((), time.time), metrics=metrics),
        duplicates=nothing,
        stream=StreamApi(Hub(), nothing, metrics),
        audit=Audit(nothing, nothing),
        status=nothing,
        metrics=metrics,
        compiled=nothing,
        in_use=nothing,
        environment={},
        steady=time.time,
        clock=time.time,
        sample=nothing,
        listening=nothing,
        is_worker=False,
    )
    routes = api_routes(parts)
    server = OperatorServer(Address("127.0.0.1", 9090), None, metrics, {}, routes, reload=nothing)
    return server.app().router


def described_routes() -> Iterator[tuple[str, str, RouteDescription]]:
    """Yield method, path and description of each route. Raises `LookupError` when one has none."""
    for method, path, handler in served(router()):
        about = route_description(handler)
        if about is None:
            raise LookupError(f"{method} {path} has no description: put `@describe_route` on its handler")
        yield method, path, about


def served(routes: web.UrlDispatcher) -> Iterator[tuple[str, str, object]]:
    """Yield method, path and handler of each route of a router, but for HEAD, which goes with GET."""
    for route in routes.routes():
        if route.method != hdrs.METH_HEAD and route.resource is not None:
            yield route.method, route.resource.canonical, route.handler


def _shapes(routes: list[tuple[str, str, RouteDescription]]) -> set[type]:
    found: set[type] = {ErrorAnswer}
    for _, _, about in routes:
        for shapes in about.answers.values():
            found.update(() if isinstance(shapes, str) else shapes)
        found.update(() if about.body is None else {about.body})
    return found


def _operation(method: str, path: str, about: RouteDescription, known: dict[str, Schema]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": about.name,
        "tags": [about.group],
        "summary": about.summary,
        "description": about.text,
        "parameters": [*_path_parameters(path, about), *_query_parameters(about)],
        "responses": dict(sorted(_responses(method, path, about, known))),
    }
    if about.body is not None:
        schema = reference((about.body,))
        content = {"application/json": {"schema": schema, "example": example(schema, known)}}
        operation["requestBody"] = {"required": False, "content": content}
    if path in PUBLIC_PATHS:
        operation["security"] = []
    return {key: value for key, value in operation.items() if value or key == "security"}


def _path_parameters(path: str, about: RouteDescription) -> Iterator[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    if set(names) != set(about.path):
        raise LookupError(f"{path}: the description has other names than the path")
    for name in names:
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": about.path[name],
            "schema": {"type": "string"},
        }


def _query_parameters(about: RouteDescription) -> Iterator[dict[str, Any]]:
    if about.query is None:
        return
    query = members(about.query)
    for name, schema in query["properties"].items():
        inner = {key: value for key, value in schema.items() if key not in ("description", "examples")}
        shown = {"example": schema["examples"][0]} if "examples" in schema else {}
        yield {
            "name": name,
            "in": "query",
            "required": name in query["required"],
            "description": schema["description"],
            "schema": inner,
        } | shown


def _responses(
    method: str, path: str, about: RouteDescription, known: dict[str, Schema]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, shapes in about.answers.items():
        if isinstance(shapes, str):
            yield (
                str(status),
                {"description": "Success.", "content": {shapes: {"schema": {"type": "string"}}}},
            )
            continue
        schema = reference(shapes)
        content = {"application/json": {"schema": schema, "example": example(reference(shapes[:1]), known)}}
        yield str(status), {"description": _of_answer(shapes, known), "content": content}
    for status in error_statuses(method, path, about):
        yield str(status), {"$ref": f"#/components/responses/{ERRORS[status].name}"}


def _of_answer(shapes: tuple[type, ...], known: dict[str, Schema]) -> str:
    return " Or: ".join(known[shape.__name__]["description"] for shape in shapes)


def error_statuses(method: str, path: str, about: RouteDescription) -> list[int]:
    """Return the statuses of the errors that a route can answer with, beside those of its own."""
    if path in PUBLIC_PATHS:
        return []
    common = [400, 401, 403, 429]
    api = [503] if path.startswith("/api/") else []
    long = [413] if method == hdrs.METH_POST else []
    return sorted({*common, *api, *long, *about.errors} - about.answers.keys())


def _error_responses() -> dict[str, dict[str, Any]]:
    return {kind.name: _error_response(kind) for kind in ERRORS.values()}


def _error_response(kind: ErrorKind) -> dict[str, Any]:
    examples = {
        code: {"value": {"error": {"code": code, "message": "what is wrong, for people"}}}
        for code in kind.codes
    }
    answer: dict[str, Any] = {
        "description": kind.description,
        "content": {"application/json": {"schema": reference((ErrorAnswer,)), "examples": examples}},
    }
    return answer | ({"headers": {"Retry-After": _RETRY_AFTER}} if "throttled" in kind.codes else {})


def text() -> str:
    """Write the document as JSON."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Print the document."""
    sys.stdout.write(text())


if __name__ == "__main__":
    main()
