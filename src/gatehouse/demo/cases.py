"""What each provider sends in the demo: its documented example, and what must not count as a second event."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gatehouse.config.model import HmacConfig
from gatehouse.demo.sample import Sample, documented, signed, tampered, with_delivery_id, with_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.ingest.source import Source

Kind = Literal["example", "retry", "forged", "old"]
KINDS: tuple[Kind, ...] = ("example", "retry", "forged", "old")

_MINUTE = 60
_HOUR = 60 * _MINUTE
#: How old a request is that is too old, and by how much where a provider's retries may be older than that.
_OLD = 15 * _MINUTE
_TOO_LATE = _HOUR


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answers: the HTTP status, and in a word what that means."""

    status: int
    word: str
    #: The id of the event, when the answer names one.
    event_id: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.word}"

    def says_the_same_as(self, other: Answer) -> bool:
        """Compare without the event's id."""
        return str(self) == str(other)


ACCEPTED = Answer(200, "accepted")
DUPLICATE = Answer(200, "duplicate")
REFUSED = Answer(401, "refused")


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and what the gateway should answer."""

    kind: Kind
    headers: Mapping[str, str]
    body: bytes
    expected: Answer
    #: What is special about it, in three words.
    note: str = ""


def cases(source: Source, now: float) -> list[Case]:
    """Make the requests of one source: signed as its provider signs, at `now`."""
    sample = documented(source.settings)
    if sample is None:
        return []
    sample = with_time(sample, source.settings, now)
    request = signed(source, sample, now)
    example = Case("example", dict(request.headers), request.body, ACCEPTED)
    made = [
        example,
        replace(example, kind="retry", expected=DUPLICATE),
        replace(example, kind="forged", body=tampered(example.body), expected=REFUSED),
    ]
    old = _stale(source, sample, now) or _replayed(source, example)
    return [*made, old] if old else made


def read_answer(status: int, body: bytes) -> Answer:
    """Read an answer of the gateway, or whatever came instead of one."""
    try:
        document = json.loads(body)
        if "error" in document:
            code = str(document["error"]["code"])
            return Answer(status, "refused" if code == "unauthorized" else code)
        return Answer(status, str(document["status"]), str(document["id"]))
    except (ValueError, KeyError, TypeError):
        return Answer(status, "unknown answer")


def _stale(source: Source, sample: Sample, now: float) -> Case | None:
    """Sign properly, too long ago; None when the scheme signs no time, or its age does not matter."""
    timestamps = [entry.timestamp for entry in source.settings.verify if isinstance(entry, HmacConfig)]
    tolerance = max((timestamp.tolerance for timestamp in timestamps if timestamp), default=math.inf)
    if tolerance == math.inf:
        return None
    age = _OLD if tolerance < _OLD else tolerance + _TOO_LATE
    request = signed(source, sample, now - age)
    note = f"{age // _MINUTE:.0f} min old" if age < _HOUR else f"{age // _HOUR:.0f} h old"
    return Case("old", dict(request.headers), request.body, REFUSED, note)


def _replayed(source: Source, captured: Case) -> Case | None:
    """Send what was captured under another delivery id; None when the provider gives none.

    That header is not signed, so the signature still fits: only the dedupe keys tell.
    """
    changed = with_delivery_id(Sample(captured.headers, captured.body), source.settings)
    if changed is None:
        return None
    return replace(captured, kind="old", headers=changed.headers, expected=DUPLICATE, note="new delivery id")
