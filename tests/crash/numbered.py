"""The events that are sent: each has a unique id, padding, and the digest of both."""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import Any, NamedTuple

from doubles import providers


class Numbered(NamedTuple):
    """One event as its provider sends it, repeatedly until it is acknowledged."""

    id: str
    sha: str
    source: str
    body: bytes

    def headers(self) -> dict[str, str]:
        """Sign it with the current time."""
        if self.source == "mando":
            return providers.mando(self.body)
        return providers.hisab(self.body, delivery=self.id)


def make(run: str, seq: int) -> Numbered:
    """Make the event with this number, which is always the same. Odd ones are Mando's, even ones Hisab's."""
    name = f"{run}-{seq:06}"
    random = Random(name)
    padding = random.randbytes(random.randrange(40, 400)).hex()
    digest = sha(name, padding)
    data = {"id": name, "padding": padding, "sha": digest}
    if seq % 2:
        body = providers.body(id=name, type="sale.created", created="2026-01-15T10:30:00Z", data=data)
        return Numbered(name, digest, "mando", body)
    body = providers.body(event="invoice.paid", data=data, created_at="2026-01-15T10:30:00Z")
    return Numbered(name, digest, "hisab", body)


def sha(name: str, padding: str) -> str:
    """Return the digest that an event must arrive with."""
    return hashlib.sha256(f"{name} {padding}".encode()).hexdigest()


def identify(body: bytes) -> tuple[str, str]:
    """Return the id and the digest of a received event. The digest is computed from its data."""
    try:
        found: dict[str, Any] = json.loads(body)
        data = found["data"]
        return data["id"], sha(data["id"], data["padding"])
    except (ValueError, KeyError, TypeError):
        return "unreadable", hashlib.sha256(body).hexdigest()
