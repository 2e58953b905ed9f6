"""Reads the operator page as a browser without scripts does: words, links and forms."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import urlencode

from gateways import Running
from operators import ask

_HTML = {"Accept": "text/html"}


class Seen(NamedTuple):
    """An answer of the page."""

    status: int
    html: str
    #: The target of a redirect.
    location: str | None

    @property
    def words(self) -> str:
        """What a reader sees of the content, with single spaces between words."""
        reader = _Reader()
        reader.feed("<main" + self.html.partition("<main")[2].partition("</main>")[0])
        return " ".join("".join(reader.words).split())

    @property
    def links(self) -> set[str]:
        """The targets of all links."""
        reader = _Reader()
        reader.feed(self.html)
        return reader.links

    @property
    def actions(self) -> set[str]:
        """The targets of all forms that change something."""
        return set(re.findall(r'<form[^>]* method="post" action="([^"]+)"', self.html))


async def counted_since(running: Running) -> str:
    """Return the parameter of lists that begin when the gateway began to count."""
    _, history = await ask(running, "GET", "/api/v1/history", {})
    return urlencode({"since": history["since"]})


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: set[str] = set()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("a", "b", "code", "span", "time", "use", "strong"):
            self.words.append(" ")
        if tag == "a":
            self.links.add(dict(attrs).get("href") or "")


class _Form(HTMLParser):
    """Collects what a browser sends with one form, if nobody changes anything."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self.fields: list[tuple[str, str]] = []
        self._action = action
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._is_inside = (given.get("method"), given.get("action")) == ("post", self._action)
        if not self._is_inside or tag != "input" or "name" not in given:
            return
        if given.get("type") != "checkbox" or "checked" in given:
            self.fields.append((given["name"], given.get("value", "")))


def form_of(seen: Seen, action: str) -> list[tuple[str, str]]:
    """Return the fields of a form as a browser sends them. A name can be there several times."""
    assert action in seen.actions
    reader = _Form(action)
    reader.feed(seen.html)
    return reader.fields


async def send(running: Running, action: str, fields: list[tuple[str, str]]) -> Seen:
    """Send a form with exactly these fields."""
    async with running.client.post(
        running.operator_url + action, data=fields, headers=_HTML, allow_redirects=False
    ) as answer:
        return Seen(answer.status, await answer.text(), answer.headers.get("Location"))


async def look(running: Running, path: str, url: str = "") -> Seen:
    """Get a screen. `url` is that of another listener."""
    async with running.client.get(
        (url or running.operator_url) + path, headers=_HTML, allow_redirects=False
    ) as answer:
        return Seen(answer.status, await answer.text(), answer.headers.get("Location"))


async def submit(running: Running, screen: str, action: str, url: str = "", **fields: str) -> Seen:
    """Send a form of a screen, which must have it. `url` is that of another listener."""
    shown = await look(running, screen, url)
    assert action in shown.actions
    token = re.search(r'name="form_token" value="(\w+)"', shown.html)
    assert token is not None
    form = {"form_token": token.group(1), **fields}
    async with running.client.post(
        (url or running.operator_url) + action, data=form, headers=_HTML, allow_redirects=False
    ) as answer:
        return Seen(answer.status, await answer.text(), answer.headers.get("Location"))
