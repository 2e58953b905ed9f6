"""What came of a reload, as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from gatehouse.reload import ReloadResult


def reload_answer(result: ReloadResult) -> web.Response:
    """Answer 200 with what changed, or 400 with every problem."""
    if result.changes is None:
        problems = [asdict(problem) for problem in result.problems]
        error = {"code": "bad_config", "message": "the config stays as it was", "problems": problems}
        return web.json_response({"error": error | {"file": result.file}}, status=400)
    return web.json_response(
        {
            "status": "reloaded",
            "file": result.file,
            "sha256": result.sha256,
            **msgspec.to_builtins(result.changes),
            "needs_restart": result.needs_restart,
            "not_ready": result.not_ready,
            "keys_lost": result.keys_lost,
        }
    )
