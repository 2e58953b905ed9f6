"""A browser without JavaScript: it keeps cookies, reads the forms of a page, and sends them."""

from __future__ import annotations

import re
from html import unescape
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

_TAG = re.compile(r"<[^>]*>")


class Seen(NamedTuple):
    """What a browser got."""

    status: int
    #: The HTML.
    html: str
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """What a person reads: without tags, with single spaces."""
        return " ".join(unescape(_TAG.sub(" ", self.html)).split())


class Browser:
    """Asks the operator page. It follows no redirect on its own."""

    def __init__(self, url: str, connector: aiohttp.BaseConnector | None = None) -> None:
        self.url = url
        jar = aiohttp.CookieJar(unsafe=True)  # the host is an IP address
        self.session = aiohttp.ClientSession(
            connector=connector, cookie_jar=jar, headers={"Accept": "text/html"}
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def get(self, path: str, **headers: str) -> Seen:
        """Open a page."""
        return await self._ask("GET", path, None, headers)

    async def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Seen:
        """Send a form exactly as given."""
        return await self._ask("POST", path, form or {}, headers)

    async def log_in(self, token: str, **form: str) -> Seen:
        """Send the form of the login."""
        return await self.post("/login", {"token": token, **form})

    async def press(self, page: str, action: str, **fields: str) -> Seen:
        """Open a page, and send the form on it that leads to `action`. Returns the page it leads to."""
        seen = await self.get(page)
        sent = await self.post(action, _hidden(seen.html, action) | fields)
        target = sent.headers.get("location")
        return sent if target is None else await self.get(target)

    async def form_token(self, prefix: str = "") -> str:
        """Return the token of the forms of this session."""
        found = re.search(r'name="form_token" value="(\w+)"', (await self.get(f"{prefix}/events")).html)
        assert found is not None
        return found.group(1)

    async def _ask(
        self, method: str, path: str, form: dict[str, str] | None, headers: dict[str, str]
    ) -> Seen:
        url = URL(f"{self.url}{path}", encoded=True)
        async with self.session.request(
            method, url, data=form, headers=headers, allow_redirects=False
        ) as answer:
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Seen(answer.status, await answer.text(), named)


def _hidden(html: str, action: str) -> dict[str, str]:
    """Return the hidden fields of the form that leads to `action`."""
    forms = re.findall(r'<form[^>]* action="([^"]*)"[^>]*>(.*?)</form>', html, re.DOTALL)
    inner = next((inner for target, inner in forms if unescape(target) == action), None)
    assert inner is not None, f"no form leads to {action}: {[target for target, _ in forms]}"
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', inner)
    return {name: unescape(value) for name, value in fields}
