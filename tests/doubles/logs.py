"""Captures the log in a test, as a list instead of lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from gatehouse.telemetry import log


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """Capture the events until the block ends: their fields, with the level as `log_level`."""
    found: list[dict[str, Any]] = []

    def keep(level: str, fields: dict[str, Any]) -> str:
        found.append({**fields, "log_level": level})
        return ""

    with mock.patch.object(log, "_logger", log.Logger(lambda _: None, keep)):
        yield found
