"""Limits the age of a request, by its signed timestamp or, with `max_age`, by any signed time.

The signature of a captured request stays valid forever, but its dedupe keys are known only for the dedupe
window. After that, only its age distinguishes a replay from a new request.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal

from gatehouse.config.coverage import (
    covers_body,
    covers_time,
    effective_max_age,
    proves_timestamp,
    signs,
    signs_time,
)
from gatehouse.errors import VerificationError
from gatehouse.language.document import MalformedDocumentError
from gatehouse.language.request import as_sent
from gatehouse.language.split import EventScopes
from gatehouse.language.times import parse_iso8601, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.config.model import ProviderConfig
    from gatehouse.language.request import Request
    from gatehouse.language.scope import Scope
    from gatehouse.verify.base import Facts


class SignedTimeLimit:
    """Compares the signed timestamp of a request, or the time of its newest event, with `max_age`."""

    def __init__(self, max_age: float, config: ProviderConfig) -> None:
        self._max_age = max_age
        self._proves_timestamp = proves_timestamp(config)
        self._time = config.event.time if covers_time(config) else None
        self._scopes = EventScopes(document=config.event.document, split=config.event.split)
        # If an attacker could remove the time, a missing time would get around the limit.
        self._requires_time = not (signs(config) and all(map(covers_body, config.verify)))

    def check(self, request: Request, facts: Facts, now: float) -> tuple[Scope, ...] | None:
        """Raise `VerificationError` if the request is too old, or if a required time is missing."""
        sent = facts.get("timestamp") if self._proves_timestamp else None
        if sent is not None:
            self._check_age(parse_time(sent.decode()), now)
            return None
        if self._time is None:
            self._check_age(None, now)
            return None
        try:
            scopes = self._scopes.of(request, facts)
        except MalformedDocumentError:
            self._check_age(None, now)
            return None
        self._check_age(self._newest(scopes, now), now)
        return scopes

    def _newest(self, scopes: Iterable[Scope], now: float) -> float | None:
        """Return the time of the newest event, or of one within the limit; None if an event has no time."""
        newest: float | None = None
        for scope in scopes:
            seconds = self._time_of(scope)
            if seconds is None or now - seconds <= self._max_age:
                return seconds
            newest = seconds if newest is None else max(newest, seconds)
        return newest

    def _time_of(self, scope: Scope) -> float | None:
        try:
            text = self._time.text(scope) if self._time else None
        except MalformedDocumentError:
            return None
        return parse_time(text) if text else None

    def _check_age(self, seconds: float | None, now: float) -> None:
        if seconds is None:
            if self._requires_time:
                raise VerificationError("malformed_timestamp")
        elif now - seconds > self._max_age:
            raise VerificationError("stale_timestamp")


def age_limit(config: ProviderConfig) -> SignedTimeLimit | None:
    """Create the age limit of a source; None if it has no limit, or if no time is signed."""
    max_age = effective_max_age(config)
    return SignedTimeLimit(max_age, config) if max_age is not None and signs_time(config) else None


Unit = Literal["s", "ms", "iso8601"]

#: `int()` would also accept a sign, spaces, underscores and the digits of other scripts.
_DIGITS = {"s": re.compile(r"[0-9]{1,12}"), "ms": re.compile(r"[0-9]{1,15}")}
#: Unix seconds have 10 digits from 2001 to 2286. If the body directly follows the timestamp in the signed
#: bytes, an attacker could move its last digits to the body. This minimum prevents that where the
#: tolerance is unlimited.
_MIN_DIGITS = 10


def check_timestamp(text: str | None, unit: Unit, tolerance: float, now: float) -> bytes:
    """Return the timestamp as sent, if it is within `tolerance` seconds of `now`.

    Raises `VerificationError` if it is malformed, stale or in the future.
    """
    seconds = _parse_seconds(text, unit) if text else None
    if text is None or seconds is None or (tolerance == math.inf and len(text) < _MIN_DIGITS):
        raise VerificationError("malformed_timestamp")
    if now - seconds > tolerance:
        raise VerificationError("stale_timestamp")
    if seconds - now > tolerance:
        raise VerificationError("future_timestamp")
    return as_sent(text)


def _parse_seconds(text: str, unit: Unit) -> float | None:
    if unit == "iso8601":
        return parse_iso8601(text)
    if not _DIGITS[unit].fullmatch(text):
        return None
    return int(text) / 1000 if unit == "ms" else int(text)
