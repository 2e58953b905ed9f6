"""Fixtures that several kinds of tests use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FETCHED = ROOT / ".tools/usr/bin/promtool"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own checker. CI must have it; elsewhere its tests are skipped without it."""
    found = os.environ.get("GATEHOUSE_TEST_PROMTOOL") or shutil.which("promtool")
    if found is None and FETCHED.is_file():
        found = str(FETCHED)
    if found is not None:
        return found
    reason = "no promtool: run tests/acceptance/fetch_promtool.sh, or set GATEHOUSE_TEST_PROMTOOL"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
