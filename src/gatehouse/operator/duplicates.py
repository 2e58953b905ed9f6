"""The operator API for the later duplicates of an event, which the gateway remembers in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gatehouse.language.times import rfc3339
from gatehouse.operator.record_types import DuplicateList
from gatehouse.operator.responses import json_answer
from gatehouse.operator.route_docs import describe_route

if TYPE_CHECKING:
    from gatehouse.ingest.duplicates import Duplicates
    from gatehouse.operator.api_request import ApiRequest


class DuplicatesApi:
    """Answers requests about duplicates. It does not read the store."""

    def __init__(self, duplicates: Duplicates) -> None:
        self._duplicates = duplicates

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the operator server."""
        return [web.get("/api/v1/events/{id}/duplicates", self._list_duplicates)]

    @describe_route("Events", {200: (DuplicateList,)}, path={"id": "The id of the event."})
    async def _list_duplicates(self, request: ApiRequest) -> web.Response:
        """List the later requests with the same event, which were answered as duplicates.

        The gateway remembers them in memory only: the last 20 of each event, for up to 10,000 events. An
        event that is not known has none. If several machines share a store, each knows those that it
        answered.
        """
        known = self._duplicates.of(request.match_info["id"])
        answer: DuplicateList = {
            "since": rfc3339(self._duplicates.since),
            "count": known.count,
            "latest": [{"at": rfc3339(one.at), "client": one.client} for one in reversed(known.latest)],
        }
        return json_answer(answer)
