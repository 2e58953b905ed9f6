"""What some tests need from the machine on which they run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip a test that can't run on this machine. In CI it fails, because CI must have everything."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
