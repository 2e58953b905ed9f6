"""Logging: one wide structlog event per request and per attempt. Names and fields are listed here and nowhere else.

No secret, no signature and no body is ever a field. Text that a provider or destination chose is cut and stripped
of control characters, so that one event is one line.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import FilteringBoundLogger

#: Every event that is logged. tests/test_docs.py checks that docs/operations.md explains each.
EVENTS = (
    "request.accepted",
    "request.duplicate",
    "request.rejected",
    "request.failed",
    "delivery.attempted",
    "delivery.dead",
    "delivery.failed",
    "source.not_ready",
    "destination.not_ready",
    "store.opened",
    "store.purged",
    "store.unavailable",
    "gateway.started",
    "gateway.stopping",
    "gateway.stopped",
    "http.error",
)

_MAX_TEXT = 512
#: Control characters, terminal escapes, line and paragraph separators, and what is not text at all.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """Make text from outside fit for one log line."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:_MAX_TEXT])


def configure(*, json: bool | None = None, stream: TextIO = sys.stderr) -> None:
    """Set up logging for the process: JSON lines, or colours on a terminal."""
    as_json = not stream.isatty() if json is None else json
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _clean_fields,
    ]
    if as_json:
        processors.append(structlog.processors.JSONRenderer(serializer=_to_json))
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=stream.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    _quieten_libraries()


def get_logger() -> FilteringBoundLogger:
    """Return the process's logger."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def _to_json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event).decode()


def _clean_fields(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in fields.items():
        if isinstance(value, str) and (len(value) > _MAX_TEXT or not value.isprintable()):
            fields[name] = clean(value)
    return fields


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
