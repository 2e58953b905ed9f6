"""Writes the log: one structlog event with many fields per request and per attempt.

Secrets, signatures and bodies are never fields. Text that a provider or destination chose is shortened, and
its control characters are escaped, so that each event is one line.
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from gatehouse.language.times import rfc3339
from gatehouse.telemetry.log_limit import LineLimit
from gatehouse.telemetry.log_writer import ATOMIC_WRITE, LineWriter
from gatehouse.telemetry.terminal import is_colored

# structlog imports rich, if it can, to print tracebacks. The log has none. Without rich, a gateway needs 4 MB
# less and starts 50 ms sooner.
_imports_rich = "rich" not in sys.modules
if _imports_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _imports_rich:
        del sys.modules["rich"]

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

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
    "destination.tls_reloaded",
    "destination.tls_unusable",
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

_logger: FilteringBoundLogger | None = None
_writer: LineWriter | None = None

_MAX_TEXT = 512
#: Seconds to write the last lines when logging ends. A pipe may be full, with no reader.
_FLUSH_TIMEOUT = 1.0
#: Items of a list to log.
_MAX_ITEMS = 20


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


def configure(*, json: bool | None = None, stream: TextIO = sys.stderr, worker: int | None = None) -> None:
    """Set up logging for the process: JSON lines, or colored text on a terminal.

    With `worker`, each line contains this number, and other workers write to the same stream.
    """
    as_json = not stream.isatty() if json is None else json
    processors: list[Any] = [_to_json] if as_json else [_add_time, _text_renderer(stream)]
    context = {} if worker is None else {"worker": worker}

    def dropped_line(count: int) -> str:
        line: Any = {**context, "count": count, "event": "log.lines_dropped"}
        for processor in processors:
            line = processor(None, "warning", line)
        return str(line)

    writer = LineWriter(stream, sys.maxsize if worker is None else ATOMIC_WRITE, dropped_line)
    structlog.configure(
        processors=processors,
        wrapper_class=_Logger,
        logger_factory=lambda *_: writer,
    )
    # Bind the logger once: structlog's lazy proxy would create a new logger for every line.
    global _logger, _writer
    _end_writer()
    _logger, _writer = structlog.get_logger().bind(**context), writer
    atexit.register(_end_writer)
    _quiet_libraries()


def reset() -> None:
    """Undo `configure`, for tests: the process logs with structlog's defaults."""
    global _logger  # noqa: PLW0603 - as above
    _end_writer()
    _logger = None
    structlog.reset_defaults()


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


def get_logger() -> FilteringBoundLogger:
    """Return the logger of the process, as configured last."""
    return _logger or structlog.get_logger()


def line_limit(event: str) -> LineLimit:
    """Return a rate limit for the lines of an event that anyone can cause."""

    def report(count: int, kind: Mapping[str, str | None]) -> None:
        get_logger().warning("log.lines_suppressed", of=event, count=count, **kind)

    return LineLimit(report)


def log_fields(level: str, event: str, fields: Fields) -> None:
    """Log fields that are a dict already, which this function may change.

    Use it for lines of every request: keywords would be copied, which costs 3 % of ingest.
    """
    logger = get_logger()
    if isinstance(logger, _Logger):
        logger.write(level, event, fields)
    else:
        getattr(logger, level)(event, **fields)


Fields = MutableMapping[str, Any]


class _Logger(structlog.BoundLoggerBase):
    """A faster logger: structlog's own copies the fields for each call and looks for format arguments."""

    def info(self, event: str, **fields: Any) -> None:
        self.write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self.write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self.write("error", event, fields)

    def write(self, level: str, event: str, fields: Fields) -> None:
        """Write a line with these fields, which may be changed."""
        fields["event"] = event
        line: Any = {**self._context, **fields} if self._context else fields
        try:
            for processor in self._processors:
                line = processor(self._logger, level, line)
        except structlog.DropEvent:
            return
        self._logger.msg(line)


def _to_json(_logger: Any, level: str, fields: Fields) -> str:
    """Format an event as JSON: time, level and event first, then all fields that are not None."""
    line = {"time": rfc3339(time.time()), "level": level, "event": fields.pop("event"), **fields}
    return _clean_line(line) or msgspec.json.encode(_clean_fields(line)).decode()


def _add_time(_logger: Any, level: str, fields: Fields) -> Fields:
    return _clean_fields({"timestamp": rfc3339(time.time()), "level": level, **fields})


def _clean_line(line: Fields) -> str | None:
    """Return the line as JSON if it is already clean. None if a field must change, or if that is not sure.

    Almost every line is clean. To look at the line once, and not at each field, makes an event 3 % cheaper.
    """
    try:
        written = msgspec.json.encode(line).decode()
    except UnicodeEncodeError:  # a lone surrogate
        return None
    is_short_ascii = len(written) <= _MAX_TEXT and written.isascii() and "\x7f" not in written
    # JSON writes a control character with a backslash. Lists are rare, and long ones have to be cut.
    is_clean = is_short_ascii and "\\" not in written and "[" not in written and ":null" not in written
    return written if is_clean else None


def _clean_fields(fields: Fields) -> Fields:
    """Return the fields that are not None, with clean texts and short lists."""
    cleaned: Fields = {}
    for name, value in fields.items():
        if isinstance(value, str):
            cleaned[name] = clean(value)
        elif isinstance(value, list | tuple) and len(value) > _MAX_ITEMS:
            cleaned[name] = [*value[:_MAX_ITEMS], f"and {len(value) - _MAX_ITEMS} more"]
        elif value is not None:
            cleaned[name] = value
    return cleaned


def _text_renderer(stream: TextIO) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=is_colored(is_terminal=stream.isatty()))


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
