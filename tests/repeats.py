"""Similar requests: two genuine events, and a retry of the first one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode

from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.samples.sample import Sample, sign_sample
from presets import source

NOW = 1_800_000_000
HOUR = 3600
DAY = 24 * HOUR
Headers = Mapping[str, str]


class Repeat(NamedTuple):
    """Two similar genuine events, and the time between the first one and its last retry."""

    preset: str
    name: str
    first: Any
    #: The second event: only what differs from the first.
    second: Any = None
    headers: Headers = MappingProxyType({})
    again: Headers = MappingProxyType({})
    #: The seconds between the two events.
    apart: float = 600
    #: The seconds between the first request and its last retry.
    retry: float = HOUR
    #: Whether a retry has a new signature, with its own time.
    resigned: bool = False
    #: The document of a retry, with a higher attempt number.
    counted: Any = None
    #: The form field that contains the document.
    form: str = ""


def delivery(name: str, event: str = "", value: str = "") -> tuple[Headers, Headers]:
    """Return the headers of two requests that differ in their delivery id."""
    kept = {event: value} if event else {}
    return {**kept, name: "72d3162e-cc78-11e3-81ab-4c9367dc0958"}, {
        **kept,
        name: "0b989ba4-242f-11e5-81e1-c7b6966d2516",
    }


def changed(document: Any, **values: Any) -> Any:
    """Return a document in which every member with one of these names has another value."""
    match document:
        case dict():
            return {name: values.get(name, changed(value, **values)) for name, value in document.items()}
        case list():
            return [changed(value, **values) for value in document]
        case _:
            return document


def assert_two_events(repeat: Repeat) -> None:
    """Send the first event, the second, and the last retry of the first."""
    of = source(repeat.preset)
    seen = Seen(of)
    soon, late = NOW + repeat.apart, NOW + repeat.retry

    assert seen.are_new(sent(of, repeat, repeat.first, repeat.headers, NOW), NOW)
    assert seen.are_new(sent(of, repeat, repeat.second or repeat.first, repeat.again, soon), soon)

    retried = late if repeat.resigned else NOW
    retry = sent(of, repeat, repeat.counted or repeat.first, repeat.headers, retried)
    assert not seen.are_new(retry, late)


def sent(of: Source, repeat: Repeat, body: Any, headers: Headers, now: float) -> Request:
    """Send the request as the provider does."""
    raw, content_type = json.dumps(body).encode(), "application/json"
    if repeat.form:
        raw, content_type = urlencode({repeat.form: raw}).encode(), "application/x-www-form-urlencoded"
    return sign_sample(of, Sample({"Content-Type": content_type, **headers}, raw), now)


class Seen:
    """Remembers each dedupe key for as long as its window."""

    def __init__(self, of: Source) -> None:
        self._of = of
        self._until: dict[bytes, float] = {}

    def are_new(self, request: Request, now: float) -> bool:
        """Verify a request, and tell whether its events are new."""
        verified = self._of.verification.verify(request, now)
        keys = [key for _, found, _ in self._of.reader.read(verified, now, ()) for key in found if key]
        assert keys, "no dedupe key distinguishes the event"
        if any(self._until.get(key.scoped, 0) > now for key in keys):
            return False
        self._until |= {key.scoped: key.until for key in keys}
        return True
