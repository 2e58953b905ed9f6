"""An app behind Gatehouse. It checks the signature of each event, prints the event and answers 204.

The same event can arrive twice, after a crash of the gateway or if the answer was lost. Its `webhook-id` is
then the same. A real app stores this id in the transaction that processes the event. This app keeps the last
ids in memory.
"""  # noqa: INP001 - a file to copy, not a package

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

REMEMBERED = 10_000


class Receiver:
    """Receives events that are signed with the secret."""

    def __init__(self, secret: str) -> None:
        self._webhook = Webhook(secret)
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def receive(self, request: web.Request) -> web.Response:
        """Answer 2xx only if the event is done. The gateway retries after any other answer."""
        body = await request.read()
        try:
            event = self._webhook.verify(body, dict(request.headers))
        except (
            WebhookVerificationError,
            ValueError,
        ):  # the library also raises ValueError for malformed headers
            return web.Response(status=401, text="not signed with our secret\n")
        if self._is_new(request.headers["webhook-id"]):
            show(event)
        return web.Response(status=204)

    def _is_new(self, event_id: str) -> bool:
        if event_id in self._seen:
            return False
        self._seen[event_id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True


def show(event: dict[str, Any]) -> None:
    """Print one line per event: its time, source, type and subject."""
    print(event["time"], event["source"], event["type"], event.get("subject", "-"))  # noqa: T201 - its purpose


def build(secret: str) -> web.Application:
    """Build the app. The gateway posts to /events."""
    app = web.Application(
        client_max_size=2 * 1024 * 1024
    )  # the gateway accepts 1 MiB, and its envelope adds to that
    app.add_routes([web.post("/events", Receiver(secret).receive)])
    return app


if __name__ == "__main__":
    file = os.environ.get("SECRET_FILE")
    if file is None:
        sys.exit("SECRET_FILE must name the file with the secret that the gateway signs with")
    host = os.environ.get("HOST", "0.0.0.0")  # noqa: S104 - other containers reach it there
    web.run_app(build(Path(file).read_text().strip()), host=host, port=int(os.environ.get("PORT", "8000")))
