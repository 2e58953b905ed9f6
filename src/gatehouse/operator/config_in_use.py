"""Shows operators the config in use, without credentials: `GET /api/v1/config`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from gatehouse.config.masked_text import masked_text
from gatehouse.language.times import rfc3339
from gatehouse.operator.response_types import ConfigShown
from gatehouse.operator.responses import json_answer
from gatehouse.operator.route_docs import describe_route

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.operator.api_request import ApiRequest
    from gatehouse.operator.reload_result import ConfigInUse


class ConfigApi:
    """Answers `GET /api/v1/config`."""

    def __init__(self, in_use: Callable[[], ConfigInUse]) -> None:
        self._in_use = in_use

    def routes(self) -> list[web.RouteDef]:
        """Return the route, for the operator server."""
        return [web.get("/api/v1/config", self._show_config)]

    @describe_route("Configuration", {200: (ConfigShown,)})
    async def _show_config(self, _: ApiRequest) -> web.Response:
        """Show the config in use, as it was loaded.

        Comments are left out. So are values that can be credentials: queries of URLs, user names, `values`,
        and text that the gateway does not know to be harmless. `…` stands for them. Secrets are references,
        so they are shown as they are.
        """
        config = self._in_use()
        answer: ConfigShown = {
            "file": config.file,
            "loaded": rfc3339(config.loaded),
            "text": await asyncio.to_thread(masked_text, config.text),
            "needs_restart": list(config.needs_restart),
        }
        return json_answer(answer)
