"""A hand-written receiver, for comparison: FastAPI, a table of the ids of known events, and httpx.

It verifies the signature, commits the event's id with an fsync, and forwards the body within the request.
`/webhooks/stored` stores the body instead of forwarding it. The program prints its port. It runs as one
process with uvloop and httptools and without an access log. If it crashes between the commit and the
forwarding, the event is lost, because it treats the provider's retry as a duplicate.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiosqlite
import httpx
import uvicorn  # type: ignore[import-not-found,unused-ignore] # of the extra `bench`, as FastAPI
from fastapi import FastAPI, HTTPException, Request  # type: ignore[import-not-found,unused-ignore]

_TABLE = "CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, body BLOB)"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiosqlite.connect("events.db") as database, httpx.AsyncClient() as client:
        await database.execute("PRAGMA journal_mode = WAL")
        await database.execute("PRAGMA synchronous = FULL")
        await database.execute(_TABLE)
        app.state.database, app.state.client = database, client
        yield


async def _verified(request: Request) -> bytes:
    body: bytes = await request.body()
    expected = "sha256=" + hmac.digest(os.environ["SECRET"].encode(), body, hashlib.sha256).hex()
    if not hmac.compare_digest(request.headers.get("x-mando-signature", ""), expected):
        raise HTTPException(HTTPStatus.UNAUTHORIZED)
    return body


async def _is_new(request: Request, body: bytes, kept: bytes | None) -> bool:
    database: aiosqlite.Connection = request.app.state.database
    row = (json.loads(body)["id"], kept)
    cursor = await database.execute("INSERT OR IGNORE INTO events VALUES (?, ?)", row)
    await database.commit()
    return cursor.rowcount == 1


async def stored(request: Request) -> dict[str, str]:
    """Verify the request, and store the id with the body."""
    body = await _verified(request)
    return {"status": "accepted" if await _is_new(request, body, body) else "duplicate"}


async def sent(request: Request) -> dict[str, str]:
    """Verify the request, store the id, and forward the body."""
    body = await _verified(request)
    if not await _is_new(request, body, None):
        return {"status": "duplicate"}
    client: httpx.AsyncClient = request.app.state.client
    headers = {"Content-Type": request.headers["content-type"]}
    reply = await client.post(os.environ["DESTINATION"], content=body, headers=headers)
    if not reply.is_success:
        raise HTTPException(HTTPStatus.BAD_GATEWAY)
    return {"status": "accepted"}


def application() -> FastAPI:
    """Build the application."""
    app = FastAPI(lifespan=_lifespan)
    app.add_api_route("/webhooks/stored", stored, methods=["POST"])
    app.add_api_route("/webhooks/sent", sent, methods=["POST"])
    return app


def main() -> None:
    """Serve until the process is terminated."""
    config = uvicorn.Config(
        application(), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
