"""The addresses of all screens of the operator page. They come from its routes, so that none is forgotten."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlencode

from bench.flat_servers import ask
from bench.search_files import FREQUENT, NOWHERE, RARE
from gatehouse.operator.authentication import Authentication
from gatehouse.operator.page.page import Page

_WITHIN: Final = 60.0
_ENDLESS: Final = frozenset({"/live/stream", "/events/export"})
#: These screens count what an action would change, because the operator asks for it.
COUNTING: Final = frozenset({"/events/replay", "/events/selected", "/dead/retry", "/dead/discard"})
#: Queries of screens that have filters, beside those of the list of events.
_QUERIES: Final[Mapping[str, tuple[Mapping[str, str], ...]]] = {
    "/dead": ({"destination": "sent"}, {"source": "stored"}),
    "/events/replay": ({"destination": "sent", "since": "1h"}, {"status": "dead"}),
    "/dead/retry": ({"destination": "sent"}, {"destination": "sent", "reason": "timeout"}),
    "/dead/discard": ({"destination": "sent"},),
    "/refused": ({"source": "stripe"},),
    "/system": ({"source": "stored", "type": "sale.created"},),
    "/system/audit": ({"who": "ada"}, {"action": "retry"}),
}
_DEEP: Final = 20


class Address(NamedTuple):
    """The address of a screen."""

    #: The path of its route.
    route: str
    target: str

    @property
    def is_cheap(self) -> bool:
        """Whether the goal applies: the screen counts nothing."""
        return self.route not in COUNTING

    @property
    def is_endless(self) -> bool:
        """Whether the answer does not end, or contains all events."""
        return self.route in _ENDLESS

    @property
    def title(self) -> str:
        """The target, short enough for a table."""
        return self.target if len(self.target) <= 60 else self.target[:59] + "…"


class Answer(NamedTuple):
    """One answer: its status, and milliseconds until its first byte and its last one."""

    status: int
    first: float
    last: float


def addresses(port: int) -> tuple[list[Address], list[str]]:
    """Return the addresses of a gateway whose operator listener is on this port, and routes without one."""
    page = Page((), Authentication(None, cast("Any", None)), time.time)
    known = _examples(port)
    found: list[Address] = []
    unknown: list[str] = []
    for path in dict.fromkeys(route.path for route in page.routes() if route.method == "GET"):
        start, _, _ = path.partition("{")
        if start == path:
            found.append(Address(path, path))
        elif start in known:
            example = known[start]
            found.append(Address(path, start + example + path.partition("}")[2]))
        else:
            unknown.append(path)
    return [each for one in found for each in (one, *_with_queries(one, port))], unknown


def _with_queries(one: Address, port: int) -> list[Address]:
    queries = list(_QUERIES.get(one.route, ()))
    if one.route == "/events":
        queries += [{}, *(query for query in (*FREQUENT, *RARE, *NOWHERE) if query)]
        queries[0] = {"cursor": _deep_cursor(port)}
    return [Address(one.route, f"{one.target}?{urlencode(query)}") for query in queries]


def _examples(port: int) -> dict[str, str]:
    """Return what replaces the parameter after the start of a path."""
    found = {"/destinations/": "sent", "/sources/": "stored"}
    for start, path, name in (
        ("/events/", "/api/v1/events?status=dead&limit=1", "events"),
        ("/refused/", "/api/v1/rejected?limit=1", "rejected"),
        ("/operations/replays/", "/api/v1/replays", "replays"),
    ):
        if entries := json.loads(ask(port, path))[name]:
            found[start] = entries[0]["id"]
    return found


def _deep_cursor(port: int) -> str:
    cursor = ""
    for _ in range(_DEEP):
        query = urlencode({"limit": 500} | ({"cursor": cursor} if cursor else {}))
        cursor = json.loads(ask(port, f"/api/v1/events?{query}"))["cursor"] or cursor
    return cursor


class Browser:
    """Loads screens over one connection, as a browser does."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WITHIN)

    def load(self, address: Address) -> Answer:
        """Load a screen."""
        connection = self._connection
        if connection.sock is None:
            connection.connect()
        started = time.perf_counter()
        connection.request("GET", address.target, headers={"Accept": "text/html"})
        connection.sock.recv(1, socket.MSG_PEEK)
        first = (time.perf_counter() - started) * 1000
        answer = connection.getresponse()
        if address.is_endless:
            connection.close()
        else:
            answer.read()
        return Answer(answer.status, first, (time.perf_counter() - started) * 1000)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
