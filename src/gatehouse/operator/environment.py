"""Which variables the running gateway has in its environment: their names, and nothing of what they hold."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from aiohttp import web

from gatehouse.operator.api import error_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_MOST = 500


class EnvironmentApi:
    """`GET /api/v1/environment?name=A&name=B`: a process sees a new variable only after a restart."""

    def __init__(self, environment: Mapping[str, str] | None) -> None:
        self._environment = os.environ if environment is None else environment

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [web.get("/api/v1/environment", self._show)]

    async def _show(self, request: web.Request) -> web.Response:
        names = request.query.getall("name", [])
        if not names or len(names) > _MOST or not all(map(_NAME.fullmatch, names)):
            return error_answer(400, "bad_request", f"name is the name of a variable; up to {_MOST} of them")
        return web.json_response({"set": {name: name in self._environment for name in names}})
