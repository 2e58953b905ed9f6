"""Makes signed requests before the measurement: each is a new event, and all have the same length.

The requests are Mando's, whose signature covers only the body, so they don't become stale.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
from pathlib import Path

SECRET = "a-secret-of-the-benchmark"
_BODY_BYTES = 800
_ITEM = {"sku": "tea-green-100", "name": "Green tea, 100 g", "quantity": 2, "price": "7.90"}
#: A placeholder for the number in a body, with the same length as a number.
_NUMBER = "@@@@@@@@"


def body(name: str, number: int, size: int = _BODY_BYTES) -> bytes:
    """Return an event of about 0.8 KB, or of `size` bytes."""
    return _body(name, size).replace(_NUMBER.encode(), b"%08d" % number)


@functools.lru_cache(maxsize=4)
def _body(name: str, size: int) -> bytes:
    data = {"id": f"sale_{name}_{_NUMBER}", "total": "47.40", "currency": "EUR", "items": [_ITEM] * 7}
    event = {
        "id": event_id(name),
        "type": "sale.created",
        "created": "2026-01-15T10:30:00Z",
        "data": data,
    }
    written = json.dumps(event)
    data["note"] = "x" * (size - len(written) - len(', "note": ""'))
    return json.dumps(event).encode()


def event_id(name: str, number: int | None = None) -> str:
    """Return the id of the event with a number."""
    return f"evt_{name}_{_NUMBER if number is None else format(number, '08')}"


def headers(content: bytes) -> dict[str, str]:
    """Return the headers that go with a body."""
    signature = hmac.digest(SECRET.encode(), content, hashlib.sha256).hex()
    return {"Content-Type": "application/json", "X-Mando-Signature": f"sha256={signature}"}


def request(path: str, name: str, number: int, size: int = _BODY_BYTES) -> bytes:
    """Return a whole request as it is sent."""
    content = body(name, number, size)
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers(content).items())
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def write(file: Path, path: str, name: str, count: int, size: int = _BODY_BYTES) -> None:
    """Write the file that wrk.lua reads: a line with the length and number of the requests, then the
    requests.
    """
    length = len(request(path, name, 0, size))
    with file.open("wb") as opened:
        opened.write(f"{length} {count}\n".encode())
        opened.writelines(request(path, name, number, size) for number in range(count))
