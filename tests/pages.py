"""Reads the operator page as a browser without scripts does: words, links and forms."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple

from gateways import Running

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


async def look(running: Running, path: str, url: str = "") -> Seen:
    """Get a screen. `url` is that of another listener."""
    async with running.client.get(
        (url or running.operator_url) + path, headers=_HTML, allow_redirects=False
    ) as answer:
        return Seen(answer.status, await answer.text(), answer.headers.get("Location"))


async def submit(running: Running, screen: str, action: str, **fields: str) -> Seen:
    """Send a form of a screen, which must have it."""
    shown = await look(running, screen)
    assert action in shown.actions
    token = re.search(r'name="form_token" value="(\w+)"', shown.html)
    assert token is not None
    form = {"form_token": token.group(1), **fields}
    async with running.client.post(
        running.operator_url + action, data=form, headers=_HTML, allow_redirects=False
    ) as answer:
        return Seen(answer.status, await answer.text(), answer.headers.get("Location"))
