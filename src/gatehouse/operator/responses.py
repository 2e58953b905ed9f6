"""Events and deliveries as the operator's API shows them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from aiohttp import web

from gatehouse.language.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gatehouse.operator.record_types import BodyShown, DeliveryState, EventDetails, EventSummary
    from gatehouse.operator.response_types import ErrorAnswer
    from gatehouse.store.records import DeliveryRow, EventRow, Page, StoredEvent


def error_answer(status: int, code: str, message: str) -> web.Response:
    """Answer with an error in the shape that all of them have."""
    answer: ErrorAnswer = {"error": {"code": code, "message": message}}
    return web.json_response(answer, status=status)


def json_answer(value: object) -> web.Response:
    """Answer with JSON. What was no UTF-8 when it came in, as headers may hold, is replaced."""
    # Lone surrogates stand for such bytes. JSON readers refuse them, and so does msgspec's own encoder.
    plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    text = msgspec.json.format(plain, indent=2) + "\n"
    return web.Response(text=text, content_type="application/json")


def page_answer(name: str, page: Page[Any], convert: Callable[[Any], Mapping[str, Any]]) -> web.Response:
    """Answer with part of a list, and the cursor that asks for what follows."""
    return json_answer({name: [convert(item) for item in page.items], "cursor": page.cursor})


def event_summary(row: EventRow) -> EventSummary:
    """Show an event in a list."""
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
        "deliveries": {"pending": row.pending, "delivered": row.delivered, "dead": row.dead},
    }


#: When a delivery to a destination that is due at a time may indeed start; None when nobody knows.
StartsAt: TypeAlias = "Callable[[str, float], float | None]"


def delivery_state(row: DeliveryRow, starts_at: StartsAt) -> DeliveryState:
    """Show a delivery. Its id is the event's, a colon, and the destination."""
    due = None if row.due is None else starts_at(row.destination, row.due)
    return {
        "id": f"{row.event_id}:{row.destination}",
        "event_id": row.event_id,
        "source": row.source,
        "type": row.type,
        "destination": row.destination,
        "status": row.status,
        "attempts": row.attempts,
        "received": rfc3339(row.received),
        "due": None if due is None else rfc3339(due),
        "last_reason": row.last_reason,
        "last_http_status": row.last_http_status,
        "updated": rfc3339(row.updated),
    }


def event_details(stored: StoredEvent, starts_at: StartsAt, routed: Iterable[str]) -> EventDetails:
    """Show an event with its headers, its body, its deliveries, and where the routes give it to now."""
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
        **_body(event.body),
        "deliveries": [delivery_state(row, starts_at) for row in stored.deliveries],
        "routed": sorted(routed),
    }


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
