"""What an operator changed, in words and with links to it. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.operator.page.selection import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The screens that show what an entry names.
_SCREENS: Final = {
    "event_id": "/events/",
    "destination": "/destinations/",
    "destinations": "/destinations/",
    "to": "/destinations/",
    "source": "/sources/",
}
#: How the paths of the API name replays and retries of many events.
_OPERATIONS: Final = {"replay": "replays", "retry": "retries"}
_NAMES: Final = {"event_id": "event", "ids": "events", "filter": "chosen"}
#: So many ids an entry shows.
_MOST_IDS: Final = 5


class Value(NamedTuple):
    """A value, and the path of the screen that shows it; empty if there is none."""

    text: str
    path: str = ""


class Part(NamedTuple):
    """One thing that an entry tells about a change."""

    name: str
    values: tuple[Value, ...]


def with_parts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an audit entry of the API with the parts that tell what was changed."""
    return {**entry, "parts": list(_parts(entry["action"], entry["what"]))}


def _parts(action: str, what: Mapping[str, Any]) -> Iterator[Part]:
    for name, value in what.items():
        if name == "filter" and isinstance(value, dict):
            yield from _chosen(action, value)
        elif value not in (None, {}, []):
            yield Part(_NAMES.get(name, name), tuple(_values(action, name, value)))


def _chosen(action: str, filters: Mapping[str, Any]) -> Iterator[Part]:
    """Say which events or dead letters were chosen. A filter may name a single event."""
    if event_id := filters.get("event_id"):
        yield Part(_NAMES["event_id"], (_value("event_id", event_id),))
    else:
        shown = {name: str(value) for name, value in filters.items()}
        words = in_words(shown, "events" if action == "replay" else "dead letters")
        yield Part(_NAMES["filter"], (Value(words),))


def _values(action: str, name: str, value: object) -> Iterator[Value]:
    if name in ("started", "stopped") and action in _OPERATIONS:
        yield Value(str(value), f"/operations/{_OPERATIONS[action]}/{value}")
    elif name == "ids" and isinstance(value, list):
        # The id of a delivery is that of the event and the name of the destination.
        yield from (_value("event_id", str(one).partition(":")[0]) for one in value[:_MOST_IDS])
        if len(value) > _MOST_IDS:
            yield Value(f"and {len(value) - _MOST_IDS} more")
    elif isinstance(value, list):
        yield from (_value(name, one) for one in value)
    else:
        yield _value(name, value)


def _value(name: str, value: object) -> Value:
    text = value if isinstance(value, str) else json.dumps(value)
    return Value(text, _SCREENS[name] + text if name in _SCREENS else "")
