"""Posts events to an app on this machine, as a destination gets them."""

from __future__ import annotations

import contextlib
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from gatehouse import __version__
from gatehouse.delivery.signing import signature, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds for each step of an attempt: the default `timeout` of a destination.
_TIMEOUT = 10.0
#: Seconds before the first retry, and at most.
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 30.0
_MAX_REPLY = 64 * 1024
_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_RETRIED = (408, 425, 429)
_OK, _REDIRECT, _SERVER_ERROR = 200, 300, 500


class Result(NamedTuple):
    """The result of one attempt."""

    number: int
    #: None if the app did not answer.
    status: int | None
    #: Why it did not answer.
    error: str | None
    duration_ms: float
    #: Seconds until the next attempt; None if there is none.
    next_in: float | None

    @property
    def ok(self) -> bool:
        """Whether the app accepted the event."""
        return self.status is not None and _OK <= self.status < _REDIRECT


class LocalApp:
    """The app, and the key that its requests are signed with."""

    def __init__(
        self, url: str, secret: str, retries: int, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Raises `ValueError` if the secret is not in the form of Standard Webhooks."""
        self._parts = urlsplit(url)
        self._key = signing_key(secret)
        self._retries = retries
        self._sleep = sleep

    def forward(self, event_id: str, body: bytes) -> Iterator[Result]:
        """Attempt an event until the app accepts or refuses it. Yield the result of each attempt."""
        pause = _FIRST_PAUSE
        for number in range(1, self._retries + 2):
            status, error, duration = self._attempt(event_id, body, number)
            is_retried = status is None or status in _RETRIED or status >= _SERVER_ERROR
            next_in = pause if is_retried and number <= self._retries else None
            yield Result(number, status, error, duration, next_in)
            if next_in is None:
                return
            self._sleep(next_in)
            pause = min(pause * 2, _MAX_PAUSE)

    def _attempt(self, event_id: str, body: bytes, number: int) -> tuple[int | None, str | None, float]:
        started = time.perf_counter()
        try:
            status, error = self._post(event_id, body, number), None
        except (HTTPException, OSError) as failure:
            status, error = None, _describe(failure)
        return status, error, round((time.perf_counter() - started) * 1000, 1)

    def _post(self, event_id: str, body: bytes, number: int) -> int:
        timestamp = int(time.time())
        headers = {
            "Content-Type": _CONTENT_TYPE,
            "User-Agent": f"Gatehouse/{__version__}",
            "gatehouse-attempt": str(number),
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature((self._key,), event_id, timestamp, body),
        }
        path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        # Each attempt has a connection of its own: an app that restarts closes those that are open.
        with contextlib.closing(self._connect()) as connection:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read(_MAX_REPLY)
            return answer.status

    def _connect(self) -> HTTPConnection:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=_TIMEOUT)


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT:.0f} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "no valid HTTP answer"
