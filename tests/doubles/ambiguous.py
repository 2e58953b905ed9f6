"""Requests that two parsers could read differently, with another request hidden in them."""

from __future__ import annotations

from doubles.raw import head

#: Bytes that must not appear in any output.
CANARY = "attackers-own-bytes"
SMUGGLED = f"GET /{CANARY} HTTP/1.1\r\nHost: h\r\n\r\n".encode()

_OPENINGS = {
    "CL.TE": head("Content-Length: 6", "Transfer-Encoding: chunked") + b"0\r\n\r\nX",
    "CL.TE, with all in the length": head(
        f"Content-Length: {5 + len(SMUGGLED)}", "Transfer-Encoding: chunked"
    )
    + b"0\r\n\r\n",
    "TE.CL": head("Transfer-Encoding: chunked", "Content-Length: 6") + b"0\r\n\r\nX",
    "two lengths": head("Content-Length: 2", "Content-Length: 3") + b"{}",
    "a length twice": head("Content-Length: 2", "Content-Length: 2") + b"{}",
    "a list of lengths": head("Content-Length: 2, 2") + b"{}",
    "a length with a sign": head("Content-Length: +2") + b"{}",
    "a length with a space": head("Content-Length: 2 2") + b"{}",
    "a length in hex": head("Content-Length: 0x2") + b"{}",
    "a negative length": head("Content-Length: -2") + b"{}",
    "a length without measure": head("Content-Length: 99999999999999999999999") + b"{}",
    "an empty length": head("Content-Length: ") + b"{}",
    "TE.TE, unknown": head("Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "TE.TE, not the last": head("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "TE.TE, twice": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "TE.TE, with another": head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"0\r\n\r\n",
    "TE.TE, a control character": head("Transfer-Encoding:\x0bchunked") + b"0\r\n\r\n",
    "TE.TE, folded": head("Transfer-Encoding:", " chunked") + b"0\r\n\r\n",
    "a folded line": head("X: a", " folded", "Content-Length: 2") + b"{}",
    "a space before the colon": head("Content-Length : 2") + b"{}",
    "bare line feeds": head("Content-Length: 2").replace(b"\r\n", b"\n") + b"{}",
    "a bare line feed in the head": head("X: a\nContent-Length: 2") + b"{}",
    "NUL in a header": head("X: a\0b", "Content-Length: 2") + b"{}",
    "a bare carriage return": head("X: a\rb", "Content-Length: 2") + b"{}",
    "two hosts": head("Host: other", "Content-Length: 2") + b"{}",
    "no host": head("Content-Length: 2").replace(b"Host: h\r\n", b"") + b"{}",
}
#: The requests, by a name that says what is ambiguous.
SHAPES = {name: opening + SMUGGLED for name, opening in _OPENINGS.items()} | {
    "TE.CL, with all in a chunk": head("Transfer-Encoding: chunked", "Content-Length: 4")
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
}
#: Every header that the gateway reads, with a value that would change the meaning of the next request.
READ = {
    "X-Mando-Signature": "sha256=forged",
    "X-Webhook-Timestamp": "1",
    "X-Webhook-Delivery-Id": "dlv_forged",
    "X-Webhook-Event": "forged.type",
    "Content-Encoding": "gzip",
    "Content-Type": "application/x-www-form-urlencoded",
    "X-Forwarded-For": "203.0.113.9",
    "Expect": "100-continue",
    "Connection": "close",
    "Upgrade": "websocket",
    "Transfer-Encoding": "chunked",
    "Content-Length": "0",
    "Host": "forged.example",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "forged=1",
    "User-Agent": "forged",
    "Authorization": "Basic Zm9yZ2Vk",
    "Sec-WebSocket-Key1": "forged",
}
