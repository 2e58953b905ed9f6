"""One event is one line, whatever its fields contain."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatehouse.telemetry import log


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Log JSON to memory, and restore the settings."""
    stream = io.StringIO()
    log.configure(json=True, stream=stream)
    yield stream
    log.reset()
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def test_an_event_is_one_json_line_with_its_fields(lines: io.StringIO) -> None:
    log.get_logger().info("request.accepted", source="mandato", duration_ms=1.5)

    (line,) = lines.getvalue().splitlines()
    fields = json.loads(line)
    assert (fields["event"], fields["level"], fields["source"]) == ("request.accepted", "info", "mandato")
    assert fields["time"].endswith("Z")


@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[31mred", "\u2028", "\x00", "\udcff", "\u202e", "x" * 100_000, "\x85", "\u200b"]
)
@pytest.mark.case("S-47", "F-15")
def test_text_from_outside_is_one_short_line(lines: io.StringIO, text: str) -> None:
    log.get_logger().info("request.accepted", type=text)

    written = lines.getvalue()
    assert written.count("\n") == 1
    assert len(written) < 1000
    shown = json.loads(written.encode("utf-8", "strict"))["type"]
    assert shown.isprintable()
    assert text[:512].isprintable() or "\\" in shown


_FIELD = st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(0, 1) | st.text()


@pytest.mark.case("S-47", "F-15")
@given(st.dictionaries(st.sampled_from("abcd"), _FIELD | st.lists(st.integers(0, 9))))
@example({"a": "\x7f"})
@example({"a": "\x01"})
@example({"a": "\udcff"})
@example({"a": "x" * 600})
@example({"a": [1] * 21})
def test_a_line_holds_exactly_the_clean_fields(fields: dict[str, object]) -> None:
    stream = io.StringIO()
    log.configure(json=True, stream=stream)
    log.get_logger().info("request.accepted", **fields)
    log.reset()

    kept = json.loads(stream.getvalue())
    for name, value in fields.items():
        shown = kept.get(name)
        if isinstance(value, str):
            assert shown == log.clean(value)
        elif isinstance(value, list) and len(value) > 20:
            assert shown == [*value[:20], f"and {len(value) - 20} more"]
        else:
            assert shown == value
            assert (name in kept) == (value is not None)


@pytest.mark.case("S-47", "S-48")
def test_a_librarys_traceback_becomes_one_line_without_its_message(lines: io.StringIO) -> None:
    try:
        int("attacker's bytes")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling %s", "attacker's bytes")

    (line,) = lines.getvalue().splitlines()
    assert "attacker" not in line
    assert json.loads(line)["error"] == "ValueError"


@pytest.mark.case("S-47")
def test_text_on_a_terminal_is_also_one_line() -> None:
    stream = io.StringIO()
    log.configure(json=False, stream=stream)
    log.get_logger().info("request.accepted", type="a\nb")
    log.reset()

    assert len(stream.getvalue().splitlines()) == 1


class Written(io.StringIO):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


@pytest.mark.parametrize("worker", [None, 2])
async def test_the_lines_of_a_worker_reach_a_shared_pipe_in_one_piece(worker: int | None) -> None:
    stream = Written()
    log.configure(json=True, stream=stream, worker=worker)
    for number in range(100):
        log.get_logger().info("request.accepted", type="é" * 100, number=number)
    log.get_logger().info("config.reloaded", problems=["x" * 6000])
    await asyncio.sleep(0)
    log.reset()

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("number") for line in lines] == [*range(100), None]
    assert {line.get("worker") for line in lines} == {worker}
    assert all(piece.endswith("\n") for piece in stream.pieces)
    if worker is None:
        assert len(stream.pieces) == 1
    else:
        # A write of more than 4096 bytes to a pipe can be interleaved with that of another worker.
        assert [piece.count("\n") for piece in stream.pieces if len(piece.encode()) > 4096] == [1]
        assert 4 < len(stream.pieces) < 50
