"""Which variables the running gateway has in its environment: their names, and nothing of what they hold."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from aiohttp import web

from gatehouse.operator.api import error_answer
from gatehouse.operator.asked import MOST_NAMES, EnvironmentQuery
from gatehouse.operator.described import described
from gatehouse.operator.shapes import EnvironmentNames

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


class EnvironmentApi:
    """`GET /api/v1/environment?name=A&name=B`: a process sees a new variable only after a restart."""

    def __init__(self, environment: Mapping[str, str] | None) -> None:
        self._environment = os.environ if environment is None else environment

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [web.get("/api/v1/environment", self._show_environment)]

    @described("Configuration", {200: (EnvironmentNames,)}, query=EnvironmentQuery)
    async def _show_environment(self, request: web.Request) -> web.Response:
        """Tell which environment variables the gateway's process has.

        The values are never shown. A process gets a new variable only after a restart.
        """
        names = request.query.getall("name", [])
        if not names or len(names) > MOST_NAMES or not all(map(_NAME.fullmatch, names)):
            return error_answer(
                400, "bad_request", f"name is the name of a variable; up to {MOST_NAMES} of them"
            )
        answer: EnvironmentNames = {"set": {name: name in self._environment for name in names}}
        return web.json_response(answer)
