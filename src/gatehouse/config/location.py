"""Finds the config file and reads its text."""

from __future__ import annotations

import os
from pathlib import Path

from gatehouse.errors import ConfigError, Problem


def config_file(given: str | None) -> Path:
    """Return the config file: `-c`, else GATEHOUSE_CONFIG, else ./gateway.yaml."""
    return Path(given or os.environ.get("GATEHOUSE_CONFIG") or "gateway.yaml")


def read_text(file: Path) -> bytes:
    """Read a config file. Raises `ConfigError`."""
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a file name"
        hint = "name one with -c FILE, or set GATEHOUSE_CONFIG"
        raise ConfigError([Problem(str(file), 0, "", f"can't be read: {why}", hint)]) from error
