"""Fixtures that several kinds of tests use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from machine import lacking

ROOT = Path(__file__).parents[1]
FETCHED = ROOT / ".tools/usr/bin/promtool"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own checker."""
    found = os.environ.get("GATEHOUSE_TEST_PROMTOOL") or shutil.which("promtool")
    if found is None and FETCHED.is_file():
        found = str(FETCHED)
    if found is None:
        lacking("no promtool: run tests/acceptance/fetch_promtool.sh, or set GATEHOUSE_TEST_PROMTOOL")
    return found
