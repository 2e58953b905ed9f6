"""Who may see and use the page: sessions, the origin of requests, and form tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from gatehouse.operator.access import IDENTITY, is_reading
from gatehouse.operator.page import sessions
from gatehouse.operator.page.asking import ApiError
from gatehouse.operator.page.forms import sent_fields
from gatehouse.operator.page.site import SESSION
from gatehouse.operator.tokens import LOCAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatehouse.operator.authentication import Authentication
    from gatehouse.operator.page.site import Site
    from gatehouse.operator.tokens import Identity

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The field of a form that holds its token.
FORM_TOKEN: Final = "form_token"  # noqa: S105 - the name of a field
_PUBLIC: Final = "_public_page"
#: A form is as old as its page, and a gateway without tokens makes a new key at each start.
_EXPIRED: Final = "the form has expired; go back, reload the page, and try again"
_SAFE: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


def public(handler: Handler) -> Handler:
    """Mark a handler of the page that needs no session."""
    vars(handler)[_PUBLIC] = True
    return handler


class PageAccess:
    """Checks each request to the page before a screen sees it."""

    def __init__(self, site: Site, authentication: Authentication) -> None:
        self._site = site
        self._authentication = authentication

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request: with the handler, or with a page that says why not."""
        try:
            refusal = await self._refusal(request)
            return await handler(request) if refusal is None else refusal
        except ApiError as error:
            return self._site.error(request, error.status, str(error))
        except web.HTTPException as error:
            if error.status < web.HTTPBadRequest.status_code:
                raise
            return self._site.error(request, error.status, error.reason)

    async def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        if self._authentication.foreign_host_refusal(request):
            return self._site.error(request, 403, "use a loopback address, or configure an operator token")
        if self._authentication.cross_site_refusal(request, forms=True):
            return self._site.error(request, 403, "the request came from the page of another site")
        if getattr(request.match_info.handler, _PUBLIC, False):
            return None
        identity = self._identity(request)
        if identity is None:
            return self._login(request)
        request[IDENTITY] = identity
        if request.method in _SAFE:
            return None
        return await self._form_refusal(request, identity)

    def _identity(self, request: web.Request) -> Identity | None:
        tokens = self._authentication.tokens
        if tokens is None:
            return LOCAL
        return sessions.session_identity(tokens, request.cookies.get(SESSION, ""), self._site.clock())

    def _login(self, request: web.Request) -> web.StreamResponse:
        if request.method not in _SAFE:
            return self._site.error(request, 401, "the session has ended; log in and try again")
        here = self._site.here(request)
        return self._site.redirect("/login", {} if here == self._site.url("/") else {"next": here})

    async def _form_refusal(self, request: web.Request, identity: Identity) -> web.StreamResponse | None:
        given = (await sent_fields(request)).get(FORM_TOKEN, "")
        if not sessions.is_form_token(given, self._site.form_token(request)):
            return self._site.error(request, 403, _EXPIRED)
        if identity.role == "operate" or is_reading(request):
            return None
        self._authentication.count_forbidden()
        message = f"this needs a token with the role operate; {identity.name} has the role {identity.role}"
        return self._site.error(request, 403, message)
