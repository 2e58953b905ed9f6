"""Login and logout, and the page's own files. These need no session."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from aiohttp import hdrs, web

from gatehouse.operator.page import sessions
from gatehouse.operator.page.access import public
from gatehouse.operator.page.forms import sent_fields
from gatehouse.operator.page.rendering import ASSETS, asset
from gatehouse.operator.page.site import HEADERS, SESSION

if TYPE_CHECKING:
    from gatehouse.operator.page.site import Site

_THROTTLED: Final = 429
#: The address of a file changes with its content.
_KEEP: Final = "public, max-age=31536000, immutable"


class LoginScreen:
    """The form that takes an operator token once, and sets the cookie of a session."""

    #: The path and the name in the menu.
    menu: ClassVar[tuple[str, str] | None] = None

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/login", public(self._show)),
            web.post("/login", public(self._login)),
            web.post("/logout", public(self._logout)),
            *(web.get(f"/static/{name}", public(partial(_serve_file, name))) for name in ASSETS),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        tokens, target = self._site.authentication.tokens, request.query.get("next", "")
        cookie = request.cookies.get(SESSION, "")
        if tokens is None or sessions.session_identity(tokens, cookie, self._site.clock()):
            return self._lead_to(target)
        return self._form(request, target)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        tokens = self._site.authentication.tokens
        if tokens is None:
            return self._site.redirect("/")
        form = await sent_fields(request)
        target, token = form.get("next", ""), form.get("token", "").strip()
        given = [b"Bearer " + token.encode()] if token else []
        found = self._site.authentication.by_token(request, given)
        if isinstance(found, web.Response):
            message = (
                "Too many wrong tokens came from this address. Wait a minute, and try again."
                if found.status == _THROTTLED
                else "This is not an operator token of this gateway."
            )
            return self._form(request, target, message, status=found.status)
        response = self._lead_to(target)
        self._site.start_session(request, response, sessions.issue(tokens, found, self._site.clock()))
        return response

    async def _logout(self, _: web.Request) -> web.StreamResponse:
        response = self._site.redirect("/login")
        self._site.end_session(response)
        return response

    def _lead_to(self, target: str) -> web.Response:
        response = self._site.redirect("/")
        response.headers[hdrs.LOCATION] = self._site.local(target)
        return response

    def _form(
        self, request: web.Request, target: str, message: str = "", *, status: int = 200
    ) -> web.Response:
        has_ended = not message and bool(request.cookies.get(SESSION))
        return self._site.render(
            request, "login.html", status=status, next=target, message=message, has_ended=has_ended
        )


async def _serve_file(name: str, _: web.Request) -> web.Response:
    kind = ASSETS[name]
    headers = {hdrs.CONTENT_TYPE: f"{kind}; charset=utf-8", hdrs.CACHE_CONTROL: _KEEP, **HEADERS}
    return web.Response(body=asset(name), headers=headers)
