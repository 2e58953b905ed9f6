"""Reads the stream of a running gateway, and comes back after an interruption without a gap."""

from __future__ import annotations

import json
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple

from gatehouse.cli.operator_client import no_answer, open_request, parse_answer, with_query
from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPConnection, HTTPResponse

    from gatehouse.cli.access import Access

#: The gateway sends something at least every 15 seconds. After this many seconds without anything, the
#: connection counts as dead.
_SILENCE = 45.0
#: Seconds before the first and before each later attempt to come back.
_FIRST_PAUSE, _MAX_PAUSE = 0.2, 5.0
_OK, _UNAVAILABLE = 200, 503


class Entry(NamedTuple):
    """One entry of the stream."""

    id: str
    #: `request`, `event`, `attempt` or `left_out`.
    kind: str
    data: dict[str, Any]


class Follower:
    """Yields the entries of the stream, from one connection after the other."""

    def __init__(
        self, access: Access, query: dict[str, str], notify: Callable[[str], None], *, complete: bool = False
    ) -> None:
        """`notify` gets a line when the connection ends, and when it is back.

        With `complete`, events that the gateway left out because they were read too slowly are read again,
        from its store. Some events then come twice.
        """
        self._access = access
        self._query = query
        self._notify = notify
        self._complete = complete
        #: The id of the last entry that was handled, or of the position after it.
        self._last_id: str | None = None

    def entries(self) -> Iterator[Entry]:
        """Yield entries without an end. The next entry is read when the caller has handled the one before.

        Raises `GatewayError` if there is no gateway at the start, or when it refuses to continue.
        """
        connection, answer = self._open()
        while True:
            try:
                yield from self._read(answer)
                reason = "the gateway closed the stream"
            except TimeoutError:
                reason = f"nothing came for {_SILENCE:.0f} s"
            except (HTTPException, OSError, ValueError):
                reason = "the connection was lost"
            except _LeftOutError:
                reason = "the gateway left out events, because they were read too slowly"
            finally:
                connection.close()
            self._notify(f"{reason}; connecting again …")
            connection, answer = self._open_again()
            self._notify("connected again")

    def _open(self) -> tuple[HTTPConnection, HTTPResponse]:
        headers = {"Accept": "text/event-stream"}
        query = dict(self._query)
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
            query.pop("since", None)
        path = with_query("/api/v1/stream", **query)
        connection, answer = open_request("GET", self._access, path, within=_SILENCE, headers=headers)
        if answer.status != _OK or answer.headers.get_content_type() != "text/event-stream":
            body = _body(answer)
            connection.close()
            if answer.status == _UNAVAILABLE:
                raise _UnavailableError(
                    f"{self._access.url} answered 503", hint="run the command again in a moment"
                )
            parse_answer(answer.status, body, self._access.url)
            raise no_answer(HTTPException("not a stream"), self._access)
        return connection, answer

    def _open_again(self) -> tuple[HTTPConnection, HTTPResponse]:
        """Connect until it works. Raises `GatewayError` when the gateway refuses, as with a wrong token."""
        pause = _FIRST_PAUSE
        while True:
            time.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE)
            try:
                return self._open()
            except GatewayError as error:
                if not isinstance(error, _UnavailableError) and error.__cause__ is None:
                    raise

    def _read(self, answer: HTTPResponse) -> Iterator[Entry]:
        fields: dict[str, str] = {}
        had_entry = False
        while line := answer.readline():
            text = line.decode().rstrip("\n")
            name, _, value = text.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
                continue
            if text:  # a comment
                continue
            if "data" in fields:
                entry = Entry(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
                if entry.kind == "left_out" and self._complete and had_entry:
                    raise _LeftOutError
                yield entry
                had_entry = True
            self._last_id = fields.get("id", self._last_id)
            fields = {}


class _LeftOutError(Exception):
    """The gateway left out entries that can be read again."""


class _UnavailableError(GatewayError):
    """The gateway is there, but can't serve the stream at the moment."""


def _body(answer: HTTPResponse) -> bytes:
    try:
        return answer.read(65536)
    except (HTTPException, OSError):
        return b""
