"""The command `listen`: forwards what a running gateway accepts to an app on this machine."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from gatehouse.cli.options import TIME_FORMS, complete_source, config_option, operator_option
from gatehouse.cli.output import INTERRUPTED
from gatehouse.cli.tail import clock, event_name, given, notify

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.cli.following import Entry
    from gatehouse.cli.local_app import LocalApp, Result

#: The events that are remembered, so that an event that comes twice is forwarded once.
_REMEMBERED = 10_000
_KEY_BYTES = 32
_MAX_PORT = 65535


@click.command("listen")
@click.argument("target", metavar="PORT|URL")
@click.option("--source", metavar="NAME", shell_complete=complete_source, help="Only events of this source.")
@click.option("--type", metavar="PATTERN", help="Only these event types, as in routes.")
@click.option("--since", metavar="TIME", help=f"Begin with stored events from this time on: {TIME_FORMS}.")
@click.option(
    "--secret", metavar="whsec_…", help="Sign with this secret.  [default: a new one, which is printed]"
)
@click.option(
    "--retry",
    "retries",
    type=click.IntRange(0, 100),
    default=4,
    show_default=True,
    metavar="N",
    help="Try an event again up to N times if the app does not answer, or answers 408, 425, 429 or 5xx.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each attempt.")
@operator_option
@config_option
def listen(
    target: str,
    secret: str | None,
    retries: int,
    as_json: bool,
    operator: str | None,
    config: str | None,
    **filters: str | None,
) -> None:
    """Forward the events that a running gateway accepts to an app on this machine.

    PORT|URL is where the app listens: 3000 stands for http://127.0.0.1:3000/. The app gets each event as a
    destination does: as CloudEvents, signed as Standard Webhooks specifies. Events come one after the other,
    in the order of the stream. Deliveries to the destinations of the gateway are not affected.

    When the gateway restarts, the command connects again and continues where it was. Ctrl-C ends it with exit
    code 130.
    """
    from gatehouse.cli.access import find_access
    from gatehouse.cli.following import Follower
    from gatehouse.cli.local_app import LocalApp

    url = _url(target)
    key = secret or "whsec_" + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    try:
        app = LocalApp(url, key, retries)
    except ValueError as error:
        raise click.UsageError(f"--secret: {error}; gatehouse secret new makes one") from error
    access = find_access(config, operator)
    query = {"kinds": "event", "envelope": "1"} | given(filters)
    notify(f"forwarding events of {access.url} to {url}")
    notify(f"signed with {key if secret is None else 'the secret of --secret'}")
    forwarding = Forwarding(app, lambda entry, result: click.echo(_line(entry, result, as_json=as_json)))
    try:
        for entry in Follower(access, query, notify, complete=True).entries():
            forwarding.handle(entry)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


class Forwarding:
    """Forwards each event once."""

    def __init__(self, app: LocalApp, report: Callable[[dict[str, Any], Result], None]) -> None:
        """`report` gets an event and the result of each attempt."""
        self._app = app
        self._report = report
        #: The ids of the last events, in order.
        self._seen: dict[str, None] = {}

    def handle(self, entry: Entry) -> None:
        """Forward the event of an entry, unless it came before."""
        data = entry.data
        if entry.kind == "left_out":
            number = "some" if data["count"] is None else f"{data['count']:,}"
            notify(f"{number} events are missing here: the gateway left them out")
        if entry.kind != "event" or data["id"] in self._seen:
            return
        body = base64.b64decode(data["envelope_base64"])
        for result in self._app.forward(data["id"], body):
            self._report(data, result)
        self._seen[data["id"]] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]


def _url(target: str) -> str:
    if target.isdecimal() and 0 < int(target) <= _MAX_PORT:
        return f"http://127.0.0.1:{target}/"
    try:
        parts = urlsplit(target)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise click.UsageError(
            f"{target!r} is neither a port nor a URL; use 3000 or http://localhost:3000/in"
        )
    return target


def _line(event: dict[str, Any], result: Result, *, as_json: bool) -> str:
    if as_json:
        about = {key: event[key] for key in ("id", "source", "type", "external_id", "received")}
        return json.dumps(about | result._asdict())
    outcome = str(result.status) if result.status else result.error or ""
    parts = [click.style(outcome, fg="green" if result.ok else "red"), f"{result.duration_ms:.0f} ms"]
    if not result.ok:
        again = f"again in {result.next_in:.0f} s" if result.next_in is not None else "given up"
        parts.append(f"attempt {result.number}, {again}")
    return f"{clock(event['received'])}  {event_name(event)}  → {'  '.join(parts)}"
