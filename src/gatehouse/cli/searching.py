"""Follows the pages of a list of events, and shows how far back the search has come."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gatehouse.cli.operator_client import RefusedError, fetch, with_query
from gatehouse.cli.output import INTERRUPTED
from gatehouse.errors import GatewayError

if TYPE_CHECKING:
    from gatehouse.cli.access import Access

_EVENTS = "/api/v1/events"
#: A ULID. A provider's id may have this form too.
_OUR_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


class EventSearch:
    """A search that asks for page after page, until it has enough events or there are no more."""

    def __init__(self, access: Access, filters: dict[str, str]) -> None:
        self._access = access
        self._filters = filters
        #: What has been found until now, in the form of one page of the API.
        self.answer: dict[str, Any] = {"events": [], "cursor": None, "searched_to": None}

    def run(self, limit: int, cursor: str | None = None) -> dict[str, Any]:
        """Search until `limit` events are found, and return them as one page. Raises `GatewayError`."""
        self.answer["cursor"] = cursor
        try:
            while True:
                found, at = self.answer["events"], self.answer["cursor"]
                path = with_query(_EVENTS, limit=limit - len(found), cursor=at, **self._filters)
                page = fetch(self._access, path)
                self.answer = page | {"events": found + page["events"]}
                if page["cursor"] is None or len(self.answer["events"]) >= limit:
                    return self.answer
                _show_progress(page["searched_to"])
        finally:
            _show_progress(None)


def search(
    access: Access, filters: dict[str, str], *, limit: int, cursor: str | None
) -> tuple[dict[str, Any], int]:
    """Search for events. Returns what was found, and the exit code: Ctrl-C ends the search early."""
    running = EventSearch(access, filters)
    try:
        return running.run(limit, cursor), 0
    except KeyboardInterrupt:
        return running.answer, INTERRUPTED


def find(access: Access, given: str, *, limit: int) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Find an event by its id, or by the provider's id.

    Returns the event with its body, or None and the page of the events that have this id of the provider.
    Raises `GatewayError` if there is none.
    """
    missing: GatewayError
    if _OUR_ID.fullmatch(given):
        try:
            return fetch(access, f"{_EVENTS}/{given}"), {}
        except RefusedError as error:
            missing = error
    else:
        missing = GatewayError(
            "no event has this id of the gateway or of the provider, or it is no longer kept",
            hint="look for it with gatehouse events --source NAME --since 1d, or --contains TEXT",
        )
    page = EventSearch(access, {"external_id": given}).run(limit)
    if not page["events"]:
        raise missing
    if len(page["events"]) == 1 and page["cursor"] is None:
        return fetch(access, f"{_EVENTS}/{quote(page['events'][0]['id'], safe='')}"), {}
    return None, page


def _show_progress(searched_to: str | None) -> None:
    """Show on a line of the terminal how far back the search has come. None removes the line."""
    if is_watched():
        text = "" if searched_to is None else f"searched back to {searched_to[:16].replace('T', ' ')} …"
        click.echo(f"\r\x1b[K{text}", nl=False, err=True, color=True)


def is_watched() -> bool:
    """Tell whether someone sees the progress."""
    return sys.stderr.isatty()
