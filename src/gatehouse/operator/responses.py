"""Builds the answers of the operator API: errors, pages, events and deliveries."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from aiohttp import web

from gatehouse.language.times import rfc3339
from gatehouse.verify.verified_by import scheme_and_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gatehouse.operator.record_types import (
        AttemptDetails,
        BodyShown,
        DeadGroupState,
        DeliveryDetails,
        DeliveryFacts,
        DeliveryState,
        EventDetails,
        EventSummary,
        VerifiedBy,
    )
    from gatehouse.operator.response_types import ErrorAnswer
    from gatehouse.store.records import (
        Attempt,
        DeadGroup,
        DeliveryQuery,
        DeliveryRow,
        EventRow,
        Page,
        StoredEvent,
    )


def error_answer(status: int, code: str, message: str) -> web.Response:
    """Answer with an error, in the form that all errors have."""
    answer: ErrorAnswer = {"error": {"code": code, "message": message}}
    return web.json_response(answer, status=status)


def json_answer(value: object, status: int = 200) -> web.Response:
    """Answer with JSON. Bytes that were not UTF-8, as headers may contain, are replaced."""
    # Lone surrogates stand for such bytes. JSON parsers and msgspec's encoder refuse them.
    plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    text = msgspec.json.format(plain, indent=2) + "\n"
    return web.Response(text=text, content_type="application/json", status=status)


def page_answer(
    name: str, page: Page[Any], convert: Callable[[Any], Mapping[str, Any]], **more: object
) -> web.Response:
    """Answer with one page of a list, and the cursor of the next page."""
    return json_answer({name: [convert(item) for item in page.items], "cursor": page.cursor, **more})


def search_answer(name: str, page: Page[Any], convert: Callable[[Any], Mapping[str, Any]]) -> web.Response:
    """Answer with one page of a search, which also tells how far back the search has come."""
    searched_to = None if page.searched_to is None else rfc3339(page.searched_to)
    return page_answer(name, page, convert, searched_to=searched_to)


def event_summary(row: EventRow) -> EventSummary:
    """Return an event as a list shows it."""
    return {
        "id": row.id,
        "source": row.source,
        "provider": row.provider,
        "external_id": row.external_id,
        "type": row.type,
        "time": row.time,
        "received": rfc3339(row.received),
        "subject": row.subject,
        "account": row.account,
        "deliveries": {
            "pending": row.pending,
            "delivered": row.delivered,
            "dead": row.dead,
            "discarded": row.discarded,
        },
    }


#: Returns when a delivery that is due at a time can start; None if that is unknown.
StartsAt: TypeAlias = "Callable[[str, float], float | None]"


def delivery_state(row: DeliveryRow, starts_at: StartsAt) -> DeliveryState:
    """Return a delivery. Its id is the event's id, a colon and the destination."""
    return {**_delivery_facts(row, starts_at), "attempts": row.attempts}


def dead_group_state(group: DeadGroup) -> DeadGroupState:
    """Return a group of dead letters."""
    return {
        "destination": group.destination,
        "reason": group.reason,
        "http_status": group.http_status,
        "count": group.count,
        "oldest": rfc3339(group.oldest),
        "newest": rfc3339(group.newest),
    }


def _delivery_details(row: DeliveryRow, attempts: Iterable[Attempt], starts_at: StartsAt) -> DeliveryDetails:
    return {
        **_delivery_facts(row, starts_at),
        "attempts_made": row.attempts,
        "attempts": [_attempt(each) for each in attempts],
    }


def _delivery_facts(row: DeliveryRow, starts_at: StartsAt) -> DeliveryFacts:
    due = None if row.due is None else starts_at(row.destination, row.due)
    return {
        "id": f"{row.event_id}:{row.destination}",
        "event_id": row.event_id,
        "source": row.source,
        "type": row.type,
        "destination": row.destination,
        "status": row.status,
        "received": rfc3339(row.received),
        "due": None if due is None else rfc3339(due),
        "last_reason": row.last_reason,
        "last_http_status": row.last_http_status,
        "updated": rfc3339(row.updated),
        "note": row.note,
        "discarded_by": row.discarded_by,
    }


def _attempt(attempt: Attempt) -> AttemptDetails:
    return {
        "number": attempt.number,
        "at": rfc3339(attempt.at),
        "reason": attempt.reason,
        "http_status": attempt.http_status,
        "duration_ms": None if attempt.duration is None else round(attempt.duration * 1000),
        "error": attempt.error,
        "reply": None if attempt.reply is None else attempt.reply.decode("utf-8", "replace"),
    }


def event_details(stored: StoredEvent, starts_at: StartsAt, routed: Iterable[str]) -> EventDetails:
    """Return an event with headers, body and deliveries, and the destinations of the current routes."""
    event = stored.event
    return {
        "id": event.id,
        "source": event.source,
        "provider": event.provider,
        "external_id": event.external_id,
        "type": event.type,
        "time": event.time,
        "received": rfc3339(event.received),
        "subject": event.subject,
        "account": event.account,
        "content_type": event.content_type,
        "headers": list(event.headers),
        "verified": _verified(stored.verified_by),
        "stored": None if stored.stored is None else rfc3339(stored.stored),
        **_body(event.body),
        "deliveries": [
            _delivery_details(row, stored.attempts.get(row.destination, ()), starts_at)
            for row in stored.deliveries
        ],
        "routed": sorted(routed),
    }


def _verified(text: str | None) -> VerifiedBy | None:
    if text is None:
        return None
    scheme, secret = scheme_and_secret(text)
    return {"by": scheme, "secret": secret}


def filters(query: DeliveryQuery) -> dict[str, Any]:
    """Return the given conditions of a query, except the status, with times as text."""
    given = {name: value for name, value in msgspec.structs.asdict(query).items() if value is not None}
    given.pop("status", None)
    return {name: rfc3339(value) if name in ("since", "until") else value for name, value in given.items()}


def count_by_destination(rows: Iterable[DeliveryRow]) -> dict[str, int]:
    """Count deliveries by destination."""
    numbers: dict[str, int] = {}
    for row in rows:
        numbers[row.destination] = numbers.get(row.destination, 0) + 1
    return numbers


def _body(body: bytes) -> BodyShown:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}
