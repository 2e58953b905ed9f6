"""The time that a request says it was signed at, read as leniently as a person would."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.model import SigningConfig
from gatehouse.errors import VerificationError
from gatehouse.language.scope import Scope
from gatehouse.language.times import parse_iso8601
from gatehouse.verify.places import place
from gatehouse.verify.signature import SignaturePlace

if TYPE_CHECKING:
    from gatehouse.config.model import VerifyEntry
    from gatehouse.language.request import Request
    from gatehouse.verify.timestamp import Unit

#: Seconds have ten digits from 2001 to 2286, milliseconds thirteen.
_SECONDS, _MILLISECONDS = re.compile(r"[0-9]{1,11}", re.ASCII), re.compile(r"[0-9]{12,15}", re.ASCII)


class Claimed(NamedTuple):
    """A timestamp as it seems to be meant."""

    seconds: float
    unit: Unit


def claimed_time(entry: VerifyEntry, request: Request) -> Claimed | None:
    """Read the timestamp where the config says it is, in whatever unit; None when there is none to read."""
    if not isinstance(entry, SigningConfig) or entry.timestamp is None or entry.each is not None:
        return None
    text = _text(entry, Scope(request)) or ""
    if _SECONDS.fullmatch(text):
        return Claimed(int(text), "s")
    if _MILLISECONDS.fullmatch(text):
        return Claimed(int(text) / 1000, "ms")
    seconds = parse_iso8601(text)
    return None if seconds is None else Claimed(seconds, "iso8601")


def _text(entry: SigningConfig, scope: Scope) -> str | None:
    config = entry.timestamp
    try:
        if config is None or config.pair:
            pair = config.pair if config else None
            return SignaturePlace(entry.signature).read(scope).pairs.get(pair or "")
        headers = (config.header,) if config.header else ()
        return place(headers=headers, query=config.query, form=config.form, body=config.body).read(scope)
    except VerificationError:
        return None
