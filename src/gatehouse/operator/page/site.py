"""What all screens share: links, HTML answers, redirects, errors, and the API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlencode

from aiohttp import hdrs, web

from gatehouse import __version__
from gatehouse.language.times import rfc3339
from gatehouse.operator.access import IDENTITY
from gatehouse.operator.page import sessions
from gatehouse.operator.page.rendering import Templates
from gatehouse.operator.responses import error_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.operator.authentication import Authentication
    from gatehouse.operator.page.asking import Api

#: The cookie of a session.
SESSION: Final = "gatehouse_session"
#: The cookie that takes the result of an action to the next page.
_NOTICE: Final = "gatehouse_notice"
#: Seconds in which the next page has to show it.
_NOTICE_WITHIN: Final = 60
_LONGEST_NOTICE: Final = 400
_PATH_END: Final = re.compile("[?#]")
#: The page runs only its own script and style, and sends forms only to itself.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
#: The codes of errors, as those of the API.
_CODES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "busy",
    503: "unavailable",
}
HEADERS: Final = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin"}


class Site:
    """The operator page, as its screens see it. `clock` returns Unix time.

    `path` is the prefix of all links, for a proxy in front: `/gatehouse`, or nothing.
    """

    def __init__(
        self, api: Api, authentication: Authentication, clock: Callable[[], float], path: str = ""
    ) -> None:
        self.api = api
        self.authentication = authentication
        self.clock = clock
        self._path = path
        self._templates = Templates(self.url)
        #: The path and the name of each screen in the menu.
        self.menu: list[tuple[str, str]] = []

    def url(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """Return a link to a screen. Parameters without a value are left out; a list is repeated.

        `path` is as a person reads it. A name in it can have any character.
        """
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        return f"{self._path}{quote(path)}" + (f"?{urlencode(given, doseq=True)}" if given else "")

    def here(self, request: web.Request) -> str:
        """Return the link to what was asked for, also if a proxy has removed the prefix."""
        asked = request.rel_url.raw_path_qs
        return self.local(asked if asked.startswith(f"{self._path}/") else f"{self._path}{asked}")

    def local(self, target: str) -> str:
        """Return a link that a request named, if it leads to this page; otherwise the overview."""
        is_local = target.startswith(f"{self._path}/") and not target.startswith("//")
        # A browser takes "\\" for "/", and follows ".." out of the prefix.
        steps = unquote(_PATH_END.split(target, 1)[0]).split("/")
        is_straight = "\\" not in target and not {".", ".."} & set(steps)
        return target if is_local and is_straight and target.isprintable() else self.url("/")

    def compile(self, *names: str) -> None:
        """Compile these templates, or all of them, so that no screen waits for it."""
        self._templates.compile(*names)

    def render(
        self,
        request: web.Request,
        template: str,
        *,
        status: int = 200,
        **values: Any,  # noqa: ANN401 - what a template shows
    ) -> web.Response:
        """Answer with a template. `values` are its variables, beside those of every page."""
        identity = request.get(IDENTITY)
        now, notice = self.clock(), unquote(request.cookies.get(_NOTICE, ""))
        everywhere = {
            "identity": identity,
            "can_operate": identity is not None and identity.role == "operate",
            "has_sessions": self.authentication.tokens is not None,
            "form_token": self.form_token(request) if identity else "",
            "screens": self.menu,
            "here": self.here(request),
            "notice": notice,
            "now": now,
            "as_of": rfc3339(int(now)),
            "version": __version__,
        }
        text = self._templates.render(template, everywhere | values)
        response = web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)
        if notice:
            response.del_cookie(_NOTICE, path=self._path or "/")
        return response

    def error(self, request: web.Request, status: int, message: str) -> web.Response:
        """Answer with a page that says what went wrong, or with JSON to a program."""
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            return error_answer(status, _CODES.get(status, "error"), message)
        return self.render(request, "error.html", status=status, code=status, message=message)

    def redirect(
        self, path: str, query: Mapping[str, object] | None = None, *, notice: str = ""
    ) -> web.Response:
        """Send the browser to a screen, which shows the notice once."""
        response = web.Response(status=303, headers={hdrs.LOCATION: self.url(path, query), **HEADERS})
        if notice:
            self._set_cookie(response, _NOTICE, quote(notice[:_LONGEST_NOTICE]), _NOTICE_WITHIN)
        return response

    def start_session(self, request: web.Request, response: web.Response, value: str) -> None:
        """Set the cookie of a session."""
        is_https = request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        seconds, secure = int(sessions.LIFETIME), request.secure or is_https
        self._set_cookie(response, SESSION, value, seconds, secure=secure)

    def end_session(self, response: web.Response) -> None:
        """Remove the cookie of a session."""
        response.del_cookie(SESSION, path=self._path or "/")

    def form_token(self, request: web.Request) -> str:
        """Return the token for the forms of whoever sent the request."""
        cookie = request.cookies.get(SESSION, "")
        return sessions.form_token(self.authentication.tokens, request[IDENTITY], cookie)

    def _set_cookie(
        self, response: web.Response, name: str, value: str, seconds: int, *, secure: bool = False
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=self._path or "/",
            httponly=True,
            samesite="Strict",
            secure=secure,
        )
