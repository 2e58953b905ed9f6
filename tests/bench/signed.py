"""Requests that were signed before anything is measured: each is a new event, and all have one length.

As Mando sends them, whose signature covers the body alone, so that they don't get stale.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

SECRET = "a-secret-of-the-benchmark"
_BODY_BYTES = 800
_ITEM = {"sku": "tea-green-100", "name": "Green tea, 100 g", "quantity": 2, "price": "7.90"}


def body(name: str, number: int) -> bytes:
    """Return an event of about 0.8 KB."""
    data = {"id": f"sale_{name}_{number:08}", "total": "47.40", "currency": "EUR", "items": [_ITEM] * 7}
    event = {
        "id": f"evt_{name}_{number:08}",
        "type": "sale.created",
        "created": "2026-01-15T10:30:00Z",
        "data": data,
    }
    written = json.dumps(event)
    data["note"] = "x" * (_BODY_BYTES - len(written) - len(', "note": ""'))
    return json.dumps(event).encode()


def request(path: str, name: str, number: int) -> bytes:
    """Return a whole request as it goes over the line."""
    content = body(name, number)
    signature = hmac.digest(SECRET.encode(), content, hashlib.sha256).hex()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-Mando-Signature: sha256={signature}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def write(file: Path, path: str, name: str, count: int) -> None:
    """Write requests, below a line with their length and their number: what wrk.lua reads."""
    length = len(request(path, name, 0))
    with file.open("wb") as opened:
        opened.write(f"{length} {count}\n".encode())
        opened.writelines(request(path, name, number) for number in range(count))
