"""Logging: one wide structlog event per request and per attempt.

No secret, no signature and no body is ever a field. Text that a provider or destination chose is cut and
stripped of control characters, so that one event is one line.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import structlog

from gatehouse.times import rfc3339

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

#: Every event that is logged. tests/test_docs.py checks that docs/operations.md explains each.
EVENTS = (
    "request.accepted",
    "request.duplicate",
    "request.handshake",
    "request.rejected",
    "request.failed",
    "delivery.attempted",
    "delivery.dead",
    "delivery.failed",
    "handshake.secret_shown",
    "source.not_ready",
    "destination.not_ready",
    "operator.not_ready",
    "keys.unavailable",
    "config.reloaded",
    "config.reload_failed",
    "config.needs_restart",
    "destination.parked",
    "destination.paused",
    "destination.resumed",
    "deliveries.retried",
    "event.replayed",
    "operator.throttled",
    "store.opened",
    "store.unsynced",
    "store.clock_differs",
    "store.purged",
    "store.corrupt",
    "store.unavailable",
    "store.disk_low",
    "store.disk_enough",
    "gateway.failpoints",
    "gateway.started",
    "gateway.stopping",
    "gateway.stopped",
    "worker.ended",
    "worker.hangs",
    "http.error",
)

_logger: FilteringBoundLogger | None = None

_MAX_TEXT = 512
#: Bytes that reach a pipe in one piece, whoever else writes to it (POSIX's PIPE_BUF, and Linux's).
_WHOLE = 4096
#: Control characters, terminal escapes, line and paragraph separators, and what is not text at all.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """Make text from outside fit for one log line."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:_MAX_TEXT])


def configure(*, json: bool | None = None, stream: TextIO = sys.stderr, worker: int | None = None) -> None:
    """Set up logging for the process: JSON lines, or colours on a terminal.

    With `worker` each line has that number in it, and the stream is one that other workers write to as well.
    """
    as_json = not stream.isatty() if json is None else json
    processors: list[Any] = [_to_line] if as_json else [_add_time, _to_text(stream)]
    writer = _LineWriter(stream, at_once=sys.maxsize if worker is None else _WHOLE)
    structlog.configure(
        processors=processors,
        wrapper_class=_Logger,
        logger_factory=lambda *_: writer,
    )
    # Bound once: structlog's lazy proxy would put a logger together for every line.
    global _logger  # noqa: PLW0603 - the process has one log
    _logger = structlog.get_logger().bind(**({} if worker is None else {"worker": worker}))
    _quieten_libraries()


def reset() -> None:
    """Undo `configure`, for tests: the process logs as structlog does by default."""
    global _logger  # noqa: PLW0603 - as above
    _logger = None
    structlog.reset_defaults()


def get_logger() -> FilteringBoundLogger:
    """Return the process's logger, as last configured."""
    return _logger or structlog.get_logger()


Fields = MutableMapping[str, Any]


class _Logger(structlog.BoundLoggerBase):
    """structlog's own passes the fields on from call to call, and looks for values to put into the text."""

    def info(self, event: str, **fields: Any) -> None:
        self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log("error", event, fields)

    def _log(self, level: str, event: str, fields: Fields) -> None:
        line: Any = {**self._context, **fields, "event": event}
        try:
            for processor in self._processors:
                line = processor(self._logger, level, line)
        except structlog.DropEvent:
            return
        self._logger.msg(line)


def _to_line(_logger: Any, level: str, fields: Fields) -> str:
    """Write an event as JSON: when and what first, then its fields but for the empty ones."""
    line = {"time": rfc3339(time.time()), "level": level, "event": fields.pop("event")}
    return msgspec.json.encode(_clean_into(line, fields)).decode()


def _add_time(_logger: Any, level: str, fields: Fields) -> Fields:
    return _clean_into({"timestamp": rfc3339(time.time()), "level": level}, fields)


def _clean_into(line: Fields, fields: Fields) -> Fields:
    for name, value in fields.items():
        if isinstance(value, str) and not (len(value) <= _MAX_TEXT and value.isprintable()):
            line[name] = clean(value)
        elif value is not None:
            line[name] = value
    return line


def _to_text(stream: TextIO) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=stream.isatty())


class _LineWriter:
    """Writes lines; those of one turn of the event loop together: a write costs more than a line does.

    No more than `at_once` bytes of them: longer ones could be torn apart by those of another process.
    """

    def __init__(self, stream: TextIO, at_once: int) -> None:
        self._stream = stream
        self._at_once = at_once
        self._lines: list[str] = []

    def msg(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:  # no event loop here: nothing would come to write it
            self.flush()

    debug = info = warning = error = critical = msg

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        for text in _together(lines, self._at_once):
            self._stream.write(text)
            self._stream.flush()


def _together(lines: list[str], at_once: int) -> Iterator[str]:
    """Join lines to texts of at most so many bytes; one that is longer alone stays whole."""
    together: list[str] = []
    length = 0
    for line in lines:
        more = len(line.encode("utf-8", "replace")) + 1 if at_once < sys.maxsize else 0
        if together and length + more > at_once:
            yield "\n".join([*together, ""])
            together, length = [], 0
        together.append(line)
        length += more
    if together:
        yield "\n".join([*together, ""])


def _quieten_libraries() -> None:
    """Let aiohttp and asyncio say that something went wrong, but not repeat a request's bytes.

    Their records carry tracebacks whose messages quote what the peer sent.
    """
    for name in ("aiohttp", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [_OneLine()]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


class _OneLine(logging.Handler):
    """Turns a library's record into one `http.error` line: where and what kind, never what was in it."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        get_logger().warning("http.error", logger=record.name, error=error, where=record.funcName)
