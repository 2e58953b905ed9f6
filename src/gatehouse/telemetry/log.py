"""Writes the log: one line with many fields per request and per attempt.

Secrets, signatures and bodies are never fields. Text that a provider or destination chose is shortened, and
its control characters are escaped, so that each event is one line.
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from gatehouse.language.times import rfc3339
from gatehouse.telemetry.log_limit import LineLimit
from gatehouse.telemetry.log_writer import ATOMIC_WRITE, LineWriter
from gatehouse.telemetry.terminal import is_colored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: All log events. tests/test_docs.py checks that docs/operations.md explains each of them.
EVENTS = (
    "request.accepted",
    "request.duplicate",
    "request.handshake",
    "request.rejected",
    "request.failed",
    "delivery.attempted",
    "delivery.dead",
    "delivery.failed",
    "breaker.opened",
    "breaker.closed",
    "handshake.secret_shown",
    "source.not_ready",
    "source.sampled",
    "destination.not_ready",
    "operator.not_ready",
    "keys.unavailable",
    "config.reloaded",
    "config.reload_failed",
    "config.needs_restart",
    "dedupe.keys_lost",
    "destination.parked",
    "destination.paused",
    "destination.resumed",
    "destination.probed",
    "destination.tested",
    "deliveries.retried",
    "deliveries.discarded",
    "event.replayed",
    "operation.running",
    "operation.ended",
    "operation.failed",
    "operator.changed",
    "audit.not_stored",
    "operator.throttled",
    "store.opened",
    "store.unsynced",
    "store.clock_differs",
    "store.purged",
    "store.corrupt",
    "store.unavailable",
    "store.file_lost",
    "store.file_back",
    "store.disk_low",
    "store.disk_enough",
    "clock.jumped",
    "gateway.failpoints",
    "gateway.started",
    "gateway.stopping",
    "gateway.stopped",
    "worker.ended",
    "worker.hangs",
    "http.error",
    "log.lines_dropped",
    "log.lines_suppressed",
)

_MAX_TEXT = 512
#: Seconds to write the last lines when logging ends. A pipe may be full, with no reader.
_FLUSH_TIMEOUT = 1.0
#: Items of a list to log.
_MAX_ITEMS = 20
_LISTS = (list, tuple)
_NUMBERS = (float, int, bool)
#: The codes of a terminal for parts of a line of text and for the levels.
_STYLES = {"dim": 2, "bold": 1, "cyan": 36, "magenta": 35, "info": 32, "warning": 33, "error": 31}


def clean(text: str) -> str:
    """Make text from outside safe for a log line.

    Characters that Unicode does not call printable are escaped: control characters, terminal escapes, line
    separators, lone surrogates, and characters that are invisible or change the direction of text.
    """
    text = text[:_MAX_TEXT]
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)[:_MAX_TEXT]


class Logger:
    """Writes one line per event. `context` are the fields of every line.

    `to_line` gets the level and all fields, with the event as the field `event`, and may change the fields.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        to_line: Callable[[str, dict[str, Any]], str],
        context: Mapping[str, Any] | None = None,
    ) -> None:
        self._write = write
        self._to_line = to_line
        self._context = dict(context or {})

    def info(self, event: str, **fields: Any) -> None:
        """Log what happens in normal operation."""
        self._write(self._to_line("info", {**self._context, **fields, "event": event}))

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator may have to look at."""
        self._write(self._to_line("warning", {**self._context, **fields, "event": event}))

    def error(self, event: str, **fields: Any) -> None:
        """Log what an operator has to fix."""
        self._write(self._to_line("error", {**self._context, **fields, "event": event}))


_logger: Logger | None = None
_writer: LineWriter | None = None


def configure(*, json: bool | None = None, stream: TextIO = sys.stderr, worker: int | None = None) -> None:
    """Set up logging for the process: JSON lines, or colored text on a terminal.

    With `worker`, each line contains this number, and other workers write to the same stream.
    """
    is_terminal = stream.isatty()
    as_json = not is_terminal if json is None else json
    to_line = _to_json if as_json else partial(_to_text, colored=is_colored(is_terminal=is_terminal))
    context = {} if worker is None else {"worker": worker}

    def dropped_line(count: int) -> str:
        return to_line("warning", {**context, "count": count, "event": "log.lines_dropped"})

    global _logger, _writer  # noqa: PLW0603 - one log per process
    _end_writer()
    _writer = LineWriter(stream, sys.maxsize if worker is None else ATOMIC_WRITE, dropped_line)
    _logger = Logger(_writer.msg, to_line, context)
    atexit.register(_end_writer)
    _quiet_libraries()


def reset() -> None:
    """Undo `configure`, for tests."""
    global _logger  # noqa: PLW0603 - as above
    _end_writer()
    _logger = None


def _end_writer() -> None:
    global _writer
    ended, _writer = _writer, None
    if ended is not None:
        ended.close(_FLUSH_TIMEOUT)


def flush() -> None:
    """Wait until all logged lines are written, for at most one second."""
    if _writer is not None:
        _writer.flush(_FLUSH_TIMEOUT)


def lines_dropped() -> int:
    """Return how many lines were dropped because the reader was too slow or the write failed."""
    return 0 if _writer is None else _writer.dropped


def get_logger() -> Logger:
    """Return the logger of the process, as configured last. Before that, it writes JSON to stderr."""
    return _logger or _unconfigured


def line_limit(event: str) -> LineLimit:
    """Return a rate limit for the lines of an event that anyone can cause."""

    def report(count: int, kind: Mapping[str, str | None]) -> None:
        get_logger().warning("log.lines_suppressed", of=event, count=count, **kind)

    return LineLimit(report)


def _to_json(level: str, fields: dict[str, Any]) -> str:
    """Format an event as JSON: time, level and event first, then all fields that are not None."""
    line = {"time": rfc3339(time.time()), "level": level, "event": fields.pop("event")}
    return msgspec.json.encode(_clean_into(line, fields)).decode()


def _clean_into(line: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    for name, value in fields.items():
        kind = value.__class__
        if kind is str:
            line[name] = value if len(value) <= _MAX_TEXT and value.isprintable() else clean(value)
        elif kind in _NUMBERS:
            line[name] = value
        elif isinstance(value, str):
            line[name] = clean(value)
        elif kind in _LISTS and len(value) > _MAX_ITEMS:
            line[name] = [*value[:_MAX_ITEMS], f"and {len(value) - _MAX_ITEMS} more"]
        elif value is not None:
            line[name] = value
    return line


def _to_text(level: str, fields: dict[str, Any], *, colored: bool) -> str:
    """Format an event for people: time, level and event in columns, then all fields that are not None."""
    event = fields.pop("event")
    paint = _paint if colored else _leave_plain
    shown = [
        f"{paint('cyan', name)}={paint('magenta', _text_of(value))}"
        for name, value in sorted(_clean_into({}, fields).items())
    ]
    columns = (paint("dim", rfc3339(time.time())), paint(level, f"{level:7}"), paint("bold", f"{event:27}"))
    return " ".join([*columns, *shown]).rstrip()


def _text_of(value: Any) -> str:
    """Write a value so that it is clear where it ends."""
    is_word = isinstance(value, str) and value and " " not in value and value[0] not in "\"'"
    return value if is_word else repr(value)


def _paint(style: str, text: str) -> str:
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def _leave_plain(_style: str, text: str) -> str:
    return text


def _quiet_libraries() -> None:
    """Let aiohttp and asyncio report that something failed, without the bytes of a request.

    Their records carry tracebacks whose messages quote what the client sent.
    """
    for name in ("aiohttp", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [_LibraryHandler()]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


class _LibraryHandler(logging.Handler):
    """Turns a library's record into one `http.error` line, without the content of the record."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = line_limit("http.error")

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        if self._limit.allows(logger=record.name, where=record.funcName):
            get_logger().warning("http.error", logger=record.name, error=error, where=record.funcName)


_unconfigured = Logger(lambda line: print(line, file=sys.stderr), _to_json)  # noqa: T201 - as a log does
