"""A thread that may block writes the lines, from a bounded buffer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TextIO

import pytest

from gatehouse.telemetry import log_writer
from gatehouse.telemetry.log_writer import ATOMIC_WRITE, LineWriter

LINE = "x" * 99


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Create a pipe: the reading end, and a stream to write to it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield reading, stream
    os.close(reading)


def writer(stream: TextIO) -> LineWriter:
    return LineWriter(stream, ATOMIC_WRITE, lambda count: f"{count} lines are missing")


def read(reading: int, until: str) -> list[str]:
    """Read whole lines, up to one with this end."""
    text = ""
    while not text.endswith(until + "\n"):
        text += os.read(reading, 65536).decode()
    return text.splitlines()


@pytest.mark.case("F-06")
def test_lines_reach_a_pipe_in_order(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    lines = writer(stream)
    for number in range(200):
        lines.msg(f"{number} é")
    lines.close(5)

    assert read(reading, "199 é") == [f"{number} é" for number in range(200)]
    assert lines.dropped == 0


@pytest.mark.case("F-06")
def test_lines_above_the_buffer_are_dropped_counted_and_reported_later(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_MAX_BUFFERED", 100 * len(LINE))
    reading, stream = pipe
    lines = writer(stream)
    sent = 2000  # about 650 fill the pipe, and 100 the buffer
    for _ in range(sent):
        lines.msg(LINE)

    assert lines.dropped > 0
    got: list[str] = []
    missing = 0
    while len(got) + missing < sent:
        for line in read(reading, ""):
            count, is_report, _ = line.partition(" lines are missing")
            if is_report:
                missing += int(count)
            else:
                got.append(line)
    assert missing == lines.dropped
    assert got == [LINE] * (sent - missing)
    lines.close(5)


@pytest.mark.case("F-06")
def test_a_pipe_without_a_reader_loses_lines_and_raises_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        lines = writer(stream)
        for _ in range(10):
            lines.msg(LINE)
        lines.close(5)

        assert lines.dropped == 10


def test_a_non_blocking_pipe_loses_no_lines(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    lines = writer(stream)
    for _ in range(2000):
        lines.msg(LINE)
    lines.msg("the end")

    assert len(read(reading, "the end")) == 2001
    lines.close(5)
    assert lines.dropped == 0
