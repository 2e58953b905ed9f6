"""Signed timestamps: read strictly, and compared with the clock on both sides."""

from __future__ import annotations

import math
import re
from typing import Literal

from gatehouse.errors import VerificationError
from gatehouse.language.sent import as_sent
from gatehouse.language.times import parse_iso8601

Unit = Literal["s", "ms", "iso8601"]

#: `int()` would also read signs, spaces, underscores and the digits of other scripts.
_DIGITS = {"s": re.compile(r"[0-9]{1,12}"), "ms": re.compile(r"[0-9]{1,15}")}
#: Unix seconds have as many digits from 2001 to 2286. Where age says nothing, a shorter one may have lost its
#: last digits to the body signed behind it.
_SHORTEST = 10


def check_timestamp(text: str | None, unit: Unit, tolerance: float, now: float) -> bytes:
    """Return the timestamp as sent when it is within `tolerance` seconds of `now`.

    Raises `VerificationError`: malformed, stale or future.
    """
    seconds = _seconds(text, unit) if text else None
    if text is None or seconds is None or (tolerance == math.inf and len(text) < _SHORTEST):
        raise VerificationError("malformed_timestamp")
    if now - seconds > tolerance:
        raise VerificationError("stale_timestamp")
    if seconds - now > tolerance:
        raise VerificationError("future_timestamp")
    return as_sent(text)


def _seconds(text: str, unit: Unit) -> float | None:
    if unit == "iso8601":
        return parse_iso8601(text)
    if not _DIGITS[unit].fullmatch(text):
        return None
    return int(text) / 1000 if unit == "ms" else int(text)
