"""Receive events from Gatehouse with Flask: verify, deduplicate, commit, answer.

Install and run it:

    pip install -r requirements.txt
    WEBHOOK_SECRETS=whsec_... gunicorn --bind 127.0.0.1:8000 --workers 2 app:app
"""

import json
import os
import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import Any

from flask import Flask, abort, request
from standardwebhooks import Webhook, WebhookVerificationError

DATABASE = os.environ.get("DATABASE", "app.db")
# During a rotation: the new and the old secret, with a space between them.
WEBHOOKS = [Webhook(secret) for secret in os.environ["WEBHOOK_SECRETS"].split()]

app = Flask(__name__)
# Gatehouse accepts 1 MiB from a provider by default. The event's attributes come on top.
# Flask answers 413 to a longer body.
app.config["MAX_CONTENT_LENGTH"] = 2 * 1024 * 1024


@app.post("/events")
def receive() -> tuple[str, int]:
    """Answer 204 after the commit. An exception becomes a 500, and Gatehouse tries again."""
    # The bytes as they were sent: `request.json`, written again, has another signature.
    body = request.get_data()
    if not is_signed(body, dict(request.headers)):
        abort(401)
    event = json.loads(body, parse_float=Decimal)  # a float would lose digits
    # IMMEDIATE takes the write lock first: of two attempts at the same time, the second one waits.
    with closing(sqlite3.connect(DATABASE, timeout=5, isolation_level="IMMEDIATE")) as db, db:
        inserted = db.execute(
            "INSERT INTO received_events (webhook_id) VALUES (?) ON CONFLICT DO NOTHING",
            [request.headers["webhook-id"]],
        )
        if inserted.rowcount:  # 0: a duplicate, which is done already
            handle(db, event)
    return "", 204


def is_signed(body: bytes, headers: dict[str, str]) -> bool:
    """Check the signature (in constant time) and the timestamp (at most 5 minutes old)."""
    for webhook in WEBHOOKS:
        try:
            webhook.verify(body, headers, json_parse=False)
        except (WebhookVerificationError, ValueError):  # ValueError: malformed headers or body
            continue
        return True
    return False


def handle(db: sqlite3.Connection, event: dict[str, Any]) -> None:
    """Do your work here, in the transaction that stores the id."""
    if event["type"] == "sale.created":
        sale = event["data"]
        db.execute("INSERT INTO sales (sale, total) VALUES (?, ?)", [sale["id"], str(sale["total"])])


with closing(sqlite3.connect(DATABASE)) as setup:
    setup.executescript("""
        CREATE TABLE IF NOT EXISTS received_events (
            webhook_id TEXT PRIMARY KEY, received_at TEXT DEFAULT CURRENT_TIMESTAMP
        );
        CREATE TABLE IF NOT EXISTS sales (sale TEXT NOT NULL, total TEXT NOT NULL);
    """)
