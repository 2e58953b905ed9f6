"""Parses what operators ask for: filters, limits, times, cursors and names. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import msgspec
from pydantic_core import PydanticCustomError

from gatehouse.config.quantities import parse_duration
from gatehouse.errors import OUTCOME_REASONS, GatewayError
from gatehouse.language.times import parse_time
from gatehouse.operator.request_types import (
    DEFAULT_LIMIT,
    FIRST_HTTP_STATUS,
    LAST_HTTP_STATUS,
    MAX_LIMIT,
    MAX_RATE,
    MAX_TEXT,
    MIN_RATE,
    AuditFilters,
    AuditListQuery,
    DeadFilters,
    DeadListQuery,
    DeliveryFilters,
    DeliveryListQuery,
    EventFilters,
    EventListQuery,
    ReloadBody,
    ReplayBody,
    RetryBody,
    StreamFilters,
    StreamQuery,
)
from gatehouse.operator.stream.wanted import KINDS, Position, Wanted
from gatehouse.store.records import Action, AuditQuery, DeliveryQuery, EventQuery, Status
from gatehouse.store.searching import PAGE_TIME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.telemetry.live import Kind

_STATUSES = get_args(Status)
_HTTP_STATUS = re.compile(r"[1-5]\d\d", re.ASCII)
_ACTIONS = get_args(Action)
#: The longest time between the first and the last step of one retry, in seconds.
_LONGEST_RETRY = 24 * 3600.0
#: Seconds. A search needs time for at least one step.
_SHORTEST_PAGE = 0.01


class BadQueryError(GatewayError):
    """The request has an invalid query or body."""


class RetryRequest(NamedTuple):
    """Which dead letters to retry."""

    query: DeliveryQuery
    #: Only count them.
    dry_run: bool
    #: Where the count continues.
    cursor: str | None
    #: When the first of several steps was requested (Unix time). Later dead letters are not retried.
    as_of: float


class StreamStart(NamedTuple):
    """What a reader of the stream wants, and from where on."""

    wanted: Wanted
    #: The last entry that it has.
    after: Position | None
    #: Stored events that were received from this time on, before this time (Unix seconds). With `until`, the
    #: stream ends there.
    since: float | None
    until: float | None


def event_query(given: Mapping[str, str], now: float = 0.0) -> EventQuery:
    """Parse the filters of a list of events. Raises `BadQueryError`."""
    _check_names(given, EventListQuery, EventFilters)
    return EventQuery(
        source=_text(given, "source"),
        type=_text(given, "type"),
        external_id=_text(given, "external_id"),
        subject=_text(given, "subject"),
        account=_text(given, "account"),
        contains=_contains(given),
        since=_time(given, "since", now),
        until=_time(given, "until", now),
        destination=_text(given, "destination"),
        status=_status(given),
        reason=_reason(given),
        http_status=_http_status(given),
    )


def delivery_query(given: Mapping[str, str], now: float = 0.0) -> DeliveryQuery:
    """Parse the filters of a list of deliveries. Raises `BadQueryError`."""
    _check_names(given, DeliveryListQuery, DeliveryFilters)
    return _delivery_query(given, now)


def dead_query(given: Mapping[str, str], now: float = 0.0) -> DeliveryQuery:
    """Parse the filters of the groups of dead letters. Raises `BadQueryError`."""
    _check_names(given, DeadListQuery, DeadFilters)
    return _delivery_query(given, now)


def audit_query(given: Mapping[str, str], now: float = 0.0) -> AuditQuery:
    """Parse the filters of a list of audit entries. Raises `BadQueryError`."""
    _check_names(given, AuditListQuery, AuditFilters)
    action = given.get("action")
    if action is not None and action not in _ACTIONS:
        raise BadQueryError(f"action must be one of: {', '.join(_ACTIONS)}")
    return AuditQuery(
        who=_text(given, "who"),
        action=cast("Action | None", action),
        since=_time(given, "since", now),
        until=_time(given, "until", now),
    )


def stream_start(given: Mapping[str, str], last_event_id: str | None, now: float) -> StreamStart:
    """Parse the query of the stream, and the header `Last-Event-ID`. Raises `BadQueryError`."""
    _check_names(given, StreamQuery, StreamFilters)
    wanted = Wanted(
        source=_text(given, "source"),
        type=_text(given, "type"),
        destination=_text(given, "destination"),
        kinds=_kinds(given),
        bodies=_switch(given, "bodies"),
        envelope=_switch(given, "envelope"),
        at_most=_rate(given),
    )
    start = StreamStart(
        wanted, _position(given, last_event_id), _time(given, "since", now), _time(given, "until", now)
    )
    if start.until is not None and start.since is None:
        raise BadQueryError("until needs since")
    if wanted.at_most is not None and start.since is not None:
        raise BadQueryError("at_most is not possible with since, because stored events come at once")
    return start


def _rate(given: Mapping[str, str]) -> int | None:
    """Parse how many entries per second the stream may have."""
    text = given.get("at_most")
    if text is None:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_RATE))
    if not is_number or not MIN_RATE <= int(text) <= MAX_RATE:
        raise BadQueryError(f"at_most must be a number from {MIN_RATE} to {MAX_RATE}")
    return int(text)


def _kinds(given: Mapping[str, str]) -> frozenset[Kind]:
    names = given.get("kinds", ",".join(KINDS)).split(",")
    kinds = frozenset(kind for kind in KINDS if kind in names)
    if len(kinds) != len(names):
        raise BadQueryError(f"kinds must be one or more of {', '.join(KINDS)}, separated by commas")
    return kinds


def _switch(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "0")
    if text not in ("0", "1"):
        raise BadQueryError(f"{name} must be 1 or 0")
    return text == "1"


def _position(given: Mapping[str, str], last_event_id: str | None) -> Position | None:
    text = last_event_id or given.get("last_event_id")
    position = None if text is None else Position.parse(text)
    if text is not None and position is None:
        raise BadQueryError("last_event_id is not the id of an entry")
    return position


def page_limit(given: Mapping[str, str]) -> int:
    """Parse the limit of a page. Raises `BadQueryError`."""
    text = given.get("limit", str(DEFAULT_LIMIT))
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 0 < int(text) <= MAX_LIMIT:
        return int(text)
    raise BadQueryError(f"limit must be a number from 1 to {MAX_LIMIT}")


def page_time(given: Mapping[str, str], default: float = PAGE_TIME) -> float:
    """Parse how long the search for one page may take, in seconds. Raises `BadQueryError`."""
    if "within" not in given:
        return default
    seconds = _seconds(given["within"])
    if seconds is None or not _SHORTEST_PAGE <= seconds <= PAGE_TIME:
        raise BadQueryError("within must be a duration from 10ms to 150ms")
    return seconds


def retry_request(given: Mapping[str, Any], now: float) -> RetryRequest:
    """Parse which dead letters to retry. Raises `BadQueryError`.

    Without a filter, `all` is required. Otherwise a request that lost its body would retry every dead letter.
    """
    _check_names(given, RetryBody, DeliveryFilters)
    texts = {name: as_text(name, value) for name, value in given.items() if name not in ("all", "dry_run")}
    query = _delivery_query(texts, now)
    if query.status not in (None, "dead"):
        raise BadQueryError("only dead deliveries are retried")
    if query == DeliveryQuery(status=query.status) and not flag(given, "all"):
        raise BadQueryError('give a filter, or {"all": true} for every dead letter')
    as_of = _as_of(texts, now)
    query = msgspec.structs.replace(query, status="dead")
    return RetryRequest(query, flag(given, "dry_run"), texts.get("cursor"), as_of)


def replay_destinations(given: Mapping[str, Any]) -> list[str] | None:
    """Parse the destinations of a replay; None means those that had the event. Raises `BadQueryError`."""
    if given.keys() - ReplayBody.__annotations__.keys():
        raise BadQueryError("a replay has no members except destinations")
    if "destinations" not in given:
        return None
    names = given["destinations"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise BadQueryError("destinations must be a list of names")
    return list(dict.fromkeys(names))


def reload_is_dry_run(given: Mapping[str, Any]) -> bool:
    """Parse whether a reload only checks the file. Raises `BadQueryError`."""
    if given.keys() - ReloadBody.__annotations__.keys():
        raise BadQueryError("a reload has no members except dry_run")
    return flag(given, "dry_run")


def check_text(text: str, name: str) -> str:
    """Return text that may be a name, an id or a pattern. Raises `BadQueryError` for anything else."""
    if not (0 < len(text) <= MAX_TEXT and text.isprintable()):
        raise BadQueryError(f"{name} must be one line of text")
    return text


def _delivery_query(given: Mapping[str, str], now: float) -> DeliveryQuery:
    return DeliveryQuery(
        destination=_text(given, "destination"),
        status=_status(given),
        event_id=_text(given, "event_id"),
        source=_text(given, "source"),
        type=_text(given, "type"),
        external_id=_text(given, "external_id"),
        reason=_reason(given),
        http_status=_http_status(given),
        since=_time(given, "since", now),
        until=_time(given, "until", now),
    )


def _check_names(given: Mapping[str, object], allowed: type, filters: type) -> None:
    if given.keys() - allowed.__annotations__.keys():
        names = ", ".join(sorted(filters.__annotations__))
        raise BadQueryError(f"unknown filter; the filters are: {names}")
    if len(given) != len(set(given)):
        raise BadQueryError("each filter can be given only once")


def _text(given: Mapping[str, str], name: str) -> str | None:
    text = given.get(name)
    return None if text is None else check_text(text, name)


def _contains(given: Mapping[str, str]) -> bytes | None:
    """Read the text to search for, which may contain any characters, as the bytes of UTF-8."""
    text = given.get("contains")
    if text is None:
        return None
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or len(text) > MAX_TEXT:
        raise BadQueryError(f"contains must be text of 1 to {MAX_TEXT} characters in UTF-8")
    return encoded


def _status(given: Mapping[str, str]) -> Status | None:
    text = given.get("status")
    if text is not None and text not in _STATUSES:
        raise BadQueryError(f"status must be one of: {', '.join(_STATUSES)}")
    return cast("Status | None", text)


def _reason(given: Mapping[str, str]) -> str | None:
    text = given.get("reason")
    if text is not None and text not in OUTCOME_REASONS:
        raise BadQueryError(f"reason must be one of: {', '.join(OUTCOME_REASONS)}")
    return text


def _http_status(given: Mapping[str, str]) -> int | None:
    text = given.get("http_status")
    if text is None:
        return None
    if _HTTP_STATUS.fullmatch(text):
        return int(text)
    raise BadQueryError(f"http_status must be a number from {FIRST_HTTP_STATUS} to {LAST_HTTP_STATUS}")


def _time(given: Mapping[str, str], name: str, now: float) -> float | None:
    text = given.get(name)
    seconds = None if text is None else parse_point_in_time(text, now, UTC)
    if text is not None and seconds is None:
        raise BadQueryError(f"{name} must be a time: {EXAMPLES}")
    return seconds


def _as_of(given: Mapping[str, str], now: float) -> float:
    seconds = _time(given, "as_of", now)
    if seconds is None:
        return now
    if seconds < now - _LONGEST_RETRY:
        raise BadQueryError("as_of is too long ago; start again without it")
    return min(seconds, now)


def as_text(name: str, value: object) -> str:
    """Return a member of a body as a query would contain it. Raises `BadQueryError`."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise BadQueryError(f"{name} must be text")


def flag(given: Mapping[str, Any], name: str) -> bool:
    """Return a member of a body that is true or false; false if it is absent. Raises `BadQueryError`."""
    value = given.get(name, False)
    if isinstance(value, bool):
        return value
    raise BadQueryError(f"{name} must be true or false")


_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DAYS_AGO = {"today": 0, "yesterday": 1}
_AGO = re.compile(r"\s*ago$")
#: The examples in the error text.
EXAMPLES = "1h, 2d, today, yesterday, 2026-01-31, 2026-01-31T12:00:00Z, or unix seconds"


def parse_point_in_time(text: str, now: float, zone: tzinfo) -> float | None:
    """Parse a time as Unix time; None for anything else.

    `1h` is an hour before `now`. A day starts at midnight in `zone`. A time without an offset is in `zone`
    too.
    """
    text = text.strip()
    word = text.lower()
    if word == "now":
        return now
    if word in _DAYS_AGO:
        today = datetime.fromtimestamp(now, zone).date()
        return _midnight(datetime.combine(today, datetime.min.time()) - timedelta(days=_DAYS_AGO[word]), zone)
    if (ago := _seconds(_AGO.sub("", word))) is not None:
        return now - ago
    if _DATE.fullmatch(text):
        return _on(text, zone)
    return parse_time(text)


def _on(date: str, zone: tzinfo) -> float | None:
    try:
        return _midnight(datetime.fromisoformat(date), zone)
    except ValueError:
        return None


def _midnight(day: datetime, zone: tzinfo) -> float | None:
    try:
        return day.replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError):
        return None


def _seconds(text: str) -> float | None:
    try:
        return float(parse_duration(text))
    except PydanticCustomError:
        return None
