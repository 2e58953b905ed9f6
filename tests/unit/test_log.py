"""One event is one line, whatever a field holds."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from gatehouse import log


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Log JSON into memory, and undo the set-up."""
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
    "text", ["a\nb", "\x1b[31mred", "\u2028", "\x00", "\udcff", "\u202e", "x" * 100_000, "\x85"]
)
@pytest.mark.case("S-47")
def test_text_from_outside_stays_on_one_line_and_short(lines: io.StringIO, text: str) -> None:
    log.get_logger().info("request.accepted", type=text)

    written = lines.getvalue()
    assert written.count("\n") == 1
    assert len(written) < 1000
    assert "\x1b" not in written
    json.loads(written.encode("utf-8", "strict"))


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
def test_text_on_a_terminal_is_one_line_too() -> None:
    stream = io.StringIO()
    log.configure(json=False, stream=stream)
    log.get_logger().info("request.accepted", type="a\nb")
    log.reset()

    assert len(stream.getvalue().splitlines()) == 1
