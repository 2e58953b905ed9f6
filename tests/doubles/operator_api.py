"""An operator API that gives scripted answers, and what it answers about an event and a dead letter."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from pathlib import Path
from typing import Any

from aiohttp import web
from click.testing import CliRunner, Result

from gatehouse.cli import main

CONFIG = """\
sources:
  shop: {provider: mando, secrets: env:SECRET}
destinations:
  billing: {url: "http://127.0.0.1:1/"}
routes: [{from: shop, to: billing}]
"""
ID = "01JD0000000000000000000000"
DEAD = {
    "id": f"{ID}:billing",
    "event_id": ID,
    "source": "shop",
    "type": "sale.created",
    "destination": "billing",
    "status": "dead",
    "attempts": 5,
    "received": "2025-06-15T15:06:40Z",
    "due": None,
    "last_reason": "rejected",
    "last_http_status": 422,
    "updated": "2025-06-15T15:21:40.123Z",
    "note": None,
    "discarded_by": None,
}
ATTEMPT = {
    "number": 1,
    "at": "2025-06-15T15:06:41.5Z",
    "reason": "connect",
    "http_status": None,
    "duration_ms": None,
    "error": "Connection refused",
    "reply": None,
}
ATTEMPTS = [
    ATTEMPT,
    ATTEMPT
    | {"number": 2, "http_status": 422, "duration_ms": 38, "error": None}
    | {"reason": "rejected", "reply": "\r\n <p>no\x1b[31m customer</p>\nsecond line" + "x" * 900},
]
EVENT = {
    "id": ID,
    "source": "shop",
    "provider": "mando",
    "external_id": "evt_1",
    "type": "sale.created",
    "time": "2025-06-15T15:06:40Z",
    "received": "2025-06-15T15:06:40.5Z",
    "subject": None,
    "account": None,
    "deliveries": {"pending": 1, "delivered": 0, "dead": 2},
}
NOTHING: dict[str, Any] = {"events": [], "cursor": None, "searched_to": None}
SHOWN = EVENT | {
    "content_type": "application/json",
    "verified": {"by": "HMAC-SHA256", "secret": "file:/run/shop\x1b[2J"},
    "stored": "2025-06-15T15:06:40.504Z",
    "headers": [["user-agent", "Mando/1\x1b[2J"]],
    "body": '{"note":\t"' + "x" * 2000 + '\x1b[31m"}\n',
    "deliveries": [
        DEAD | {"attempts_made": 5, "attempts": ATTEMPTS},
        DEAD
        | {"destination": "ledger", "status": "pending", "attempts_made": 1, "attempts": []}
        | {"due": "2025-06-15T15:30:00Z"}
        | {"last_reason": None, "last_http_status": None},
    ],
}


def refusal(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"code": "x", "message": message}}


class ScriptedApi:
    """Gives scripted answers and records the requests."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: deque[tuple[int, Any]] = deque()
        self.file = directory / "gateway.yaml"
        self.file.write_text(CONFIG)

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append((request.method, str(request.rel_url), json.loads(body) if body else None))
        status, answer = self.answers.popleft()
        return web.json_response(answer, status=status)

    async def run(self, *arguments: str, answers: list[Any] | None = None) -> Result:
        """Run a command against the API, which gives these answers: 200, or (status, answer)."""
        self.asked.clear()
        self.answers = deque(one if isinstance(one, tuple) else (200, one) for one in answers or [])
        where = ("--operator", self.url, "-c", str(self.file))
        # In a thread: the command runs an event loop of its own.
        return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, *where])
