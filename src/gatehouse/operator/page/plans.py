"""Plans of replays and retries of many events: what would happen, where to and how fast, and the start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiohttp import web

from gatehouse.operator.page.asking import ApiError
from gatehouse.operator.page.events import event_state
from gatehouse.operator.page.forms import sent_fields
from gatehouse.operator.page.planning import (
    MOST_SELECTED,
    Form,
    find_same,
    read_form,
    replayed_in_words,
    targets,
)
from gatehouse.operator.page.progress import NOUNS, lasts, shown
from gatehouse.operator.page.selection import in_words
from gatehouse.operator.page.waiting import with_beginning

if TYPE_CHECKING:
    from gatehouse.operator.page.progress import Operations
    from gatehouse.operator.page.site import Site

_BAD, _NOT_FOUND, _CONFLICT = 400, 404, 409
#: How many plans are counted at a time.
_AT_A_TIME: Final = 2
_PATHS: Final[dict[Operations, str]] = {"replays": "/events/replay", "retries": "/dead/retry"}


class PlansScreen:
    """`/events/replay` and `/dead/retry`."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = None

    def __init__(self, site: Site) -> None:
        self._site = site
        self._api = site.api
        #: Two people who start the same thing at the same moment start it once.
        self._starting = asyncio.Lock()
        #: A plan of many events reads the store for seconds.
        self._counting = asyncio.Semaphore(_AT_A_TIME)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/events/replay", self._plan_replay),
            web.post("/events/replay", self._start_replay),
            web.get("/dead/retry", self._plan_retry),
            web.post("/dead/retry", self._start_retry),
        ]

    async def _plan_replay(self, request: web.Request) -> web.StreamResponse:
        form = read_form(request.query, self._site.clock())
        screen = (self._show_selected if form.ids else self._show)(request, "replays", form)
        return await with_beginning(self._site, request, "/events", "Plan a replay", screen)

    async def _plan_retry(self, request: web.Request) -> web.StreamResponse:
        screen = self._show(request, "retries", read_form(request.query, self._site.clock()))
        return await with_beginning(self._site, request, "/dead", "Plan a retry", screen)

    async def _start_replay(self, request: web.Request) -> web.StreamResponse:
        return await self._sent(request, "replays")

    async def _start_retry(self, request: web.Request) -> web.StreamResponse:
        return await self._sent(request, "retries")

    async def _sent(self, request: web.Request, kind: Operations) -> web.StreamResponse:
        """Start what a form asks for, unless the person has not seen its numbers yet."""
        fields = await sent_fields(request)
        form = read_form(fields, self._site.clock())
        if form.is_nowhere:
            notice = "Choose at least one destination. Nothing was started."
        elif "again" in fields:
            notice = ""
        elif form.is_counted:
            return await (self._replay_selected if form.ids else self._start)(request, kind, form)
        else:
            notice = "The destinations have changed. Check the new numbers, then start."
        return self._site.redirect(_PATHS[kind], form.link(), notice=notice)

    async def _start(self, request: web.Request, kind: Operations, form: Form) -> web.StreamResponse:
        async with self._starting:
            listed = await self._api.get(request, f"/api/v1/{kind}")
            same = find_same(listed[kind], form, kind)
            if same is not None:
                return await self._show(request, kind, form, same=same, status=_CONFLICT)
            try:
                started = await self._api.post(
                    request, f"/api/v1/{kind}", form.body(kind) | {"rate": form.rate}
                )
            except ApiError as error:
                if error.status not in (_BAD, _CONFLICT):
                    raise
                return await self._show(request, kind, form, problem=str(error), status=error.status)
        notice = f"The {NOUNS[kind]} has started. It goes on when this page is closed."
        return self._site.redirect(f"/operations/{kind}/{started['id']}", notice=notice)

    async def _show(
        self,
        request: web.Request,
        kind: Operations,
        form: Form,
        *,
        same: dict[str, Any] | None = None,
        problem: str = "",
        status: int = 200,
    ) -> web.Response:
        """Show the plan. `same` is an operation that already does it."""
        plan, refused = await self._plan(request, kind, form)
        return await self._render(
            request,
            kind,
            form,
            status=_BAD if refused and status == web.HTTPOk.status_code else status,
            problem=problem or refused,
            same=None if same is None else shown(kind, same),
            chosen=in_words(form.body(kind)["filter"], "events" if kind == "replays" else "dead letters"),
            list_filter=dict(form.filters) | ({"status": "dead"} if kind == "retries" else {}),
            plan=plan,
            takes=lasts(plan["events"], form.rate) if plan else "",
            counted=plan["by"]["destination"] if plan else {},
        )

    async def _plan(
        self, request: web.Request, kind: Operations, form: Form
    ) -> tuple[dict[str, Any] | None, str]:
        """Return the numbers, or what is wrong with the filters."""
        body = form.body(kind) | {"dry_run": True}
        try:
            async with self._counting:
                return await self._api.post(request, f"/api/v1/{kind}", body), ""
        except ApiError as error:
            if error.status != _BAD:
                raise
            return None, str(error)

    async def _show_selected(
        self, request: web.Request, kind: Operations, form: Form, *, problem: str = ""
    ) -> web.Response:
        """Show the plan of selected events, which are few enough to be listed."""
        if len(form.ids) > MOST_SELECTED:
            problem = f"Select at most {MOST_SELECTED} events, or use filters."
        chosen = form.ids[:MOST_SELECTED]
        found = await asyncio.gather(*(self._event(request, event_id) for event_id in chosen))
        events = [event for event in found if event is not None]
        counted: dict[str, int] = {}
        for event in events:
            for delivery in event["deliveries"]:
                counted[delivery["destination"]] = counted.get(delivery["destination"], 0) + 1
        return await self._render(
            request,
            kind,
            form._replace(ids=tuple(event["id"] for event in events)),
            status=_BAD if problem else 200,
            problem=problem,
            events=events,
            missing=len(chosen) - len(events),
            counted={name: len(events) for name in form.to} or counted,
        )

    async def _render(
        self,
        request: web.Request,
        kind: Operations,
        form: Form,
        *,
        counted: dict[str, int],
        **values: Any,  # noqa: ANN401 - for the template
    ) -> web.Response:
        listed = await self._api.get(request, "/api/v1/destinations")
        return self._site.render(
            request,
            "plan.html",
            kind=kind,
            noun=NOUNS[kind],
            form=form,
            targets=targets(listed["destinations"], counted, form, kind, self._site.clock()),
            **{"events": None, "plan": None, "same": None, "takes": ""} | values,
        )

    async def _event(self, request: web.Request, event_id: str) -> dict[str, Any] | None:
        try:
            event: dict[str, Any] = await self._api.get(request, "/api/v1/events/{id}", id=event_id)
        except ApiError as error:
            if error.status not in (_BAD, _NOT_FOUND):
                raise
            return None
        statuses = [delivery["status"] for delivery in event["deliveries"]]
        counts = {name: statuses.count(name) for name in ("pending", "delivered", "dead", "discarded")}
        return event | {"state": event_state(counts)}

    async def _replay_selected(
        self, request: web.Request, kind: Operations, form: Form
    ) -> web.StreamResponse:
        if len(form.ids) > MOST_SELECTED:
            return await self._show_selected(request, kind, form)
        deliveries = left_alone = 0
        problems = []
        body = {"destinations": list(form.to)} if form.to else {}
        for event_id in form.ids:
            try:
                result = await self._api.post(request, "/api/v1/events/{id}/replay", body, id=event_id)
            except ApiError as error:
                if error.status not in (_BAD, _NOT_FOUND):
                    raise
                problems.append(str(error))
                continue
            deliveries += len(result["replayed"])
            left_alone += len(result["left_alone"])
        notice = replayed_in_words(len(form.ids), deliveries, left_alone, problems)
        return self._site.redirect("/events", notice=notice)
