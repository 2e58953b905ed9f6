"""How `tail` and `listen` read the stream: positions, interruptions, and what was left out."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any

import pytest

from gatehouse.cli.access import Access
from gatehouse.cli.following import Entry, Follower
from gatehouse.cli.listen import Forwarding
from gatehouse.cli.local_app import LocalApp, Result
from gatehouse.errors import GatewayError

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class ScriptedStream:
    """Answers each request with the next scripted answer, and records what was asked."""

    def __init__(self) -> None:
        self.answers: deque[tuple[int, bytes]] = deque()
        self.asked: list[tuple[str, str | None]] = []
        self.access = Access("", None)

    def script(self, *blocks: bytes, status: int = 200) -> None:
        self.answers.append((status, b"".join(blocks)))


@contextmanager
def serving() -> Iterator[ScriptedStream]:
    scripted = ScriptedStream()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scripted.asked.append((self.path, self.headers["Last-Event-ID"]))
            status, body = scripted.answers.popleft()
            self.send_response(status)
            kind = "text/event-stream; charset=utf-8" if status == 200 else "application/json"
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    scripted.access = Access(f"http://127.0.0.1:{server.server_port}", None)
    try:
        yield scripted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def block(position: str, kind: str, **data: Any) -> bytes:
    return f"id: {position}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def read(stream: ScriptedStream, number: int, *, complete: bool = False, **query: str) -> list[str]:
    """Read so many entries. Returns their ids of the event."""
    follower = Follower(stream.access, query, lambda _: None, complete=complete)
    return [entry.data.get("id", entry.kind) for entry in islice(follower.entries(), number)]


def test_a_reader_comes_back_with_the_id_of_the_last_entry_that_it_handled() -> None:
    with serving() as stream:
        stream.script(b": hello\n\n", block("1-a-1", "event", id="one"))
        stream.script(b"id: 1-a-9\n\n", b": \n")
        stream.script(block("1-b-0", "event", id="two"))

        assert read(stream, 2, since="1h", source="shop") == ["one", "two"]
        assert stream.asked == [
            ("/api/v1/stream?since=1h&source=shop", None),
            ("/api/v1/stream?source=shop", "1-a-1"),
            ("/api/v1/stream?source=shop", "1-a-9"),
        ]


def test_a_half_entry_is_not_handled() -> None:
    with serving() as stream:
        stream.script(block("1-a-1", "event", id="one"), b'id: 1-a-2\nevent: event\ndata: {"id": "tw')
        stream.script(block("1-a-2", "event", id="two"))

        assert read(stream, 2) == ["one", "two"]
        assert stream.asked[1][1] == "1-a-1"


def test_events_that_were_left_out_are_read_again() -> None:
    left_out = block("1-a-5", "left_out", count=3)
    with serving() as stream:
        stream.script(block("1-a-1", "event", id="one"), left_out, block("1-a-6", "event", id="six"))
        # At its beginning, a connection is not ended for it: otherwise this could go on forever.
        stream.script(left_out, block("1-a-2", "event", id="two"))

        assert read(stream, 3, complete=True) == ["one", "left_out", "two"]
        assert stream.asked[1][1] == "1-a-1"
    with serving() as stream:
        stream.script(block("1-a-1", "event", id="one"), left_out, block("1-a-6", "event", id="six"))

        assert read(stream, 3) == ["one", "left_out", "six"]


def test_a_reader_waits_for_a_busy_gateway_but_not_after_a_refusal() -> None:
    refusal = json.dumps({"error": {"code": "unauthorized", "message": "no"}}).encode()
    with serving() as stream:
        stream.script(block("1-a-1", "event", id="one"))
        stream.script(b"{}", status=503)
        stream.script(b"<html>from a proxy</html>", status=502)
        stream.script(refusal, status=401)

        with pytest.raises(GatewayError, match="answered 401: no"):
            read(stream, 2)
        assert len(stream.asked) == 4


class App(BaseHTTPRequestHandler):
    """Answers with the statuses of its server, one after the other."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.server.statuses.popleft())  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def forward(*statuses: int, retries: int = 4) -> tuple[list[Result], list[float]]:
    """Forward one event to an app. Returns the results, and the pauses between the attempts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    server.statuses = deque(statuses)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    paused: list[float] = []
    try:
        app = LocalApp(f"http://127.0.0.1:{server.server_port}/in?a=1", KEY, retries, sleep=paused.append)
        return list(app.forward("evt_1", b"{}")), paused
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("statuses", "pauses"),
    [
        ((204,), []),
        ((422,), []),
        ((301,), []),
        ((500, 429, 204), [1.0, 2.0]),
        ((503, 503, 503, 503, 503), [1.0, 2.0, 4.0, 8.0]),
    ],
)
def test_an_event_is_tried_again_with_growing_pauses(statuses: tuple[int, ...], pauses: list[float]) -> None:
    results, paused = forward(*statuses)

    assert [result.status for result in results] == list(statuses)
    assert [result.number for result in results] == list(range(1, len(statuses) + 1))
    assert paused == pauses
    assert results[-1].ok == (statuses[-1] < 300)


def test_each_event_is_forwarded_once_and_the_ids_take_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gatehouse.cli.listen._REMEMBERED", 2)
    forwarded: list[str] = []

    class Recorder(LocalApp):
        def forward(self, event_id: str, body: bytes) -> Iterator[Result]:
            forwarded.append(event_id)
            yield Result(1, 204, None, 1.0, None)

    forwarding = Forwarding(Recorder("http://127.0.0.1:1/", KEY, 0), lambda _event, _result: None)
    for name in ("a", "b", "a", "b", "c", "a"):
        forwarding.handle(Entry("", "event", {"id": name, "envelope_base64": "e30="}))

    assert forwarded == ["a", "b", "c", "a"]
