"""An operator API for the tests of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doubles.operator_api import ScriptedApi


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ScriptedApi]:
    """Run the API."""
    made_up = ScriptedApi(tmp_path)
    runner = await made_up.start()
    yield made_up
    await runner.cleanup()
