"""Attempts within a provider's request, to relay the destination's reply: at once or not at all.

They pass the same throttle as other attempts and count in it. At most as many run at a
time as the lane's workers may attempt. The workers are limited separately, so a backlog delays no relayed
request.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from gatehouse.errors import RelayFailedError, RelayTimeoutError, UnavailableError
from gatehouse.store.base import Delivery, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery import http_client
    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.forwarder import Forwarder
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.delivery.recorder import Recorder
    from gatehouse.delivery.throttle import Throttle
    from gatehouse.events.event import Event

_LONGEST_CONTENT_TYPE = 256


class RelayAttempts:
    """Attempts for one destination within providers' requests."""

    def __init__(
        self,
        destination: Destination,
        *,
        forwarder: Forwarder,
        recorder: Recorder,
        throttle: Throttle,
        on_change: Callable[[], None],
        most: Callable[[], int],
    ) -> None:
        """`most` returns how many attempts may run at a time."""
        self._destination = destination
        self._forwarder = forwarder
        self._recorder = recorder
        self._throttle = throttle
        #: Called when the breaker's state may have changed.
        self._on_change = on_change
        self._most = most
        self._in_flight = 0

    async def attempt(self, event: Event, number: int, *, within: float) -> Reply:
        """Attempt an event and return a 2xx reply that is complete `within` seconds.

        `number` counts the attempts of this event. Raises `RelayTimeoutError` if no reply came in time.
        Raises `RelayFailedError` for any other outcome, and if the breaker or a pause prevents the attempt.
        Raises `UnavailableError` if too many attempts are in progress or a secret is missing.
        """
        self._refuse_if_waiting()
        probe = self._throttle.breaker_open
        if not self._throttle.admit():
            raise RelayFailedError("breaker_open")
        self._throttle.count_started(1)
        self._in_flight += 1
        try:
            outcome, reply = await self._forwarder.attempt_with_reply(event, number, within=within)
        finally:
            self._in_flight -= 1
        self._recorder.count_relay_attempt(Delivery(event, self._destination.name, number - 1, 0.0), outcome)
        if self._throttle.observe(outcome, probe=probe, event=event.id):
            self._on_change()
        return _reply_to_relay(outcome, reply)

    def count_relayed(self, event: Event) -> None:
        """Count an event that is stored as delivered."""
        self._recorder.count_relayed(event)

    def _refuse_if_waiting(self) -> None:
        """Refuse at once what would have to wait."""
        if self._destination.not_ready is not None:
            raise UnavailableError("the destination is not ready; send again later", reason="not_ready")
        if self._in_flight >= self._most():
            raise UnavailableError("the destination is busy; send again later", reason="busy")
        if self._throttle.paused:
            raise RelayFailedError("paused")
        if self._throttle.delay() > 0 and not self._throttle.breaker_open:
            raise UnavailableError("the destination is busy; send again later", reason="busy")


def _reply_to_relay(outcome: Outcome, reply: http_client.Reply | None) -> Reply:
    """Return the reply as the provider gets it. Raises if it can't be relayed."""
    if outcome.reason == "timeout":
        raise RelayTimeoutError(outcome.reason)
    if outcome.reason != "ok" or reply is None:
        raise RelayFailedError(outcome.reason)
    if reply.body is None or not _is_plain(reply):
        # It is too long, incomplete, compressed without being asked, or has a header that can't be sent on.
        raise RelayFailedError("unusable_reply")
    if reply.status in (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT):
        return Reply(reply.status, None, b"")
    return Reply(reply.status, reply.content_type, reply.body)


def _is_plain(reply: http_client.Reply) -> bool:
    kind = reply.content_type or ""
    sendable = kind.isascii() and kind.isprintable() and len(kind) <= _LONGEST_CONTENT_TYPE
    return sendable and (reply.encoding or "identity").lower() == "identity"
