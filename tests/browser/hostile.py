"""Text that must stay text: as ids, types, subjects, headers, bodies and replies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from doubles.destination import status

if TYPE_CHECKING:
    from browser.deployment import Deployment

#: What every piece of markup calls. A page on which it exists has run something.
MARK = "ranHostileCode"

MARKUP = (
    f"<script>window.{MARK}=1</script>",
    f'"><img src=x onerror="window.{MARK}=1">',
    f"</textarea></pre></script><svg onload=window.{MARK}=1>",
    f"javascript:window.{MARK}=1",
    "{{7*7}}{% for x in [] %}${7*7}",
)
#: Right-to-left override, isolates, a zero-width space and line separators, between letters.
BIDI = "user\u202egnp.exe\u2066\u2069\u200b\u2028\u2029end"
#: Paths and queries that must not change which event a link names.
PATHS = ("../../dead", "a/b?c=d#e&f", "%2e%2e%2f", "%00", " leading and trailing ", "'\"`\\")
TEXTS = (*MARKUP, BIDI, *PATHS)

#: The largest body that the gateway takes by default.
_MIB = 1024 * 1024


def events() -> dict[str, bytes]:
    """Return bodies by what is hostile about them."""
    bodies = {
        f"text {number}": json.dumps(dict.fromkeys(("id", "type", "subject", "account"), text)).encode()
        for number, text in enumerate(TEXTS)
    }
    return bodies | {
        "data": _body("data", note=[*MARKUP, BIDI]),
        "long": _body("long", type="x" * 500, subject="y" * 1000, account="\U0001f4a3" * 300),
        "NUL": _body("nul", subject="a\0b", note="\0\x1b[2J\x07"),
        "half characters": b'{"id":"half","type":"half.character","subject":"\\ud800","note":"\\udfff"}',
        "not UTF-8": b'{"id":"bytes","type":"not.utf8","note":"\xff\xfe\x80"}',
        "not JSON": b"\0\x01\x02<script>window." + MARK.encode() + b"=1</script>\xff",
        "big numbers": b'{"id":"numbers","type":"big.numbers","n":12345678901234567890.10,"m":1e400}',
        "deep": b'{"id":"deep","type":"deep.body","note":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "1 MiB": _mebibyte(),
    }


async def send_hostile(deployment: Deployment) -> dict[str, str]:
    """Send all of it. Returns the ids of the events by what is hostile about them."""
    replies = status(422, body=MARKUP[0].encode() + BIDI.encode() + b"\0\xff", content_type="text/html")
    headers = {"User-Agent": MARKUP[1], "X-Partner-Note": BIDI, "Referer": MARKUP[3]}
    ids = {}
    for name, body in events().items():
        ids[name] = await deployment.accept(deployment.providers.partner(body, headers))
    with deployment.app.answering("/ledger", replies):
        ids["reply"] = await deployment.make_dead_letter()
    await deployment.settle()
    await _send_refused(deployment, headers)
    return ids


async def _send_refused(deployment: Deployment, headers: dict[str, str]) -> None:
    """Send requests with hostile headers and queries that are refused."""
    stranger = deployment.providers.with_secrets(PARTNER_SECRET="a-secret-of-somebody-else")
    for text in (*MARKUP, BIDI):
        request = stranger.partner(b"{}", headers | {"X-Note": text}, query="q=%3Cscript%3E&<b>=1")
        code, answer = await deployment.send(request)
        assert code == 401, answer


def _body(identity: str, **members: object) -> bytes:
    return json.dumps({"id": f"hostile-{identity}", "type": "hostile.event"} | members).encode()


def _mebibyte() -> bytes:
    start = b'{"id":"mebibyte","type":"one.mebibyte","note":"'
    return start + (MARKUP[0].encode().replace(b'"', b"'") * (_MIB // 30))[: _MIB - len(start) - 2] + b'"}'
