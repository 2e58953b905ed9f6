"""Five providers: each signs as its documentation says, without code of Gatehouse."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

SECRET = "a-provider-secret-of-some-length"


def body(**fields: Any) -> bytes:
    """Write a body as providers do."""
    return json.dumps(fields).encode()


def _mac(message: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def mandato(sent: bytes, *, delivery: str = "dlv_1", secret: str = SECRET) -> dict[str, str]:
    """Return the headers of a Mandato request."""
    return {
        "Content-Type": "application/json",
        "X-Mandato-Signature": _mac(sent, secret),
        "X-Mandato-Event": "invoice.accepted",
        "X-Mandato-Delivery-Id": delivery,
    }


def mando(sent: bytes, *, secret: str = SECRET) -> dict[str, str]:
    """Return the headers of a Mando request."""
    return {"Content-Type": "application/json", "X-Mando-Signature": "sha256=" + _mac(sent, secret)}


def getpeppr(sent: bytes, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Return the headers of a getpeppr request."""
    moment = int(time.time() if at is None else at)
    signature = _mac(f"{moment}.".encode() + sent, secret)
    return {"Content-Type": "application/json", "Getpeppr-Signature": f"t={moment},s={signature}"}


def hisab(
    sent: bytes, *, delivery: str = "del_1", secret: str = SECRET, at: float | None = None
) -> dict[str, str]:
    """Return the headers of a Hisab request."""
    moment = int(time.time() if at is None else at)
    return {
        "Content-Type": "application/json",
        "X-Webhook-Signature": "v1=" + _mac(f"{moment}.".encode() + sent, secret),
        "X-Webhook-Timestamp": str(moment),
        "X-Webhook-Event": "invoice.paid",
        "X-Webhook-Delivery-Id": delivery,
    }
