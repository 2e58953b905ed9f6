"""The operator page under a path of nginx and of Caddy, configured as docs/operations.md shows."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from browsing import Browser, Seen
from doubles import providers
from doubles.destination import ScriptedDestination
from doubles.proxies import HOST, ROOT, caddy_host, find, nginx_host, proxying
from gatehouse.operator.page.site import SESSION
from gateways import RunGateway, Running
from machine import lacking
from operators import VALUES, WITH_TOKENS

PREFIX = "/gatehouse"
PREFIXED = WITH_TOKENS.replace("operator: {{", f'operator: {{{{path: "{PREFIX}", ')
#: By proxy: what docs/operations.md tells to change, so that the proxy removes the prefix.
REMOVING = {
    "nginx": ("proxy_pass http://127.0.0.1:9090;", "proxy_pass http://127.0.0.1:9090/;"),
    "caddy": (
        "reverse_proxy /gatehouse/* 127.0.0.1:9090",
        "handle_path /gatehouse/* {\n\treverse_proxy 127.0.0.1:9090\n}",
    ),
}


def documented(name: str, *, removes_prefix: bool) -> str:
    """Return what docs/operations.md shows for a proxy."""
    text = (ROOT / "docs/operations.md").read_text()
    language = {"nginx": "nginx", "caddy": "caddyfile"}[name]
    shown: str
    (shown,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    whole, removed = REMOVING[name]
    assert whole in shown
    return shown.replace(whole, removed) if removes_prefix else shown


class OnLoopback(AbstractResolver):
    """Finds every host on this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found: Any = {"hostname": host, "host": "127.0.0.1", "port": port, "family": family}
        return [found | {"proto": 0, "flags": socket.AI_NUMERICHOST}]

    async def close(self) -> None:
        pass


class RealBrowser(Browser):
    """Says with each form which page it is from."""

    async def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Seen:
        own = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        return await super().post(path, form, **(own | headers))


@pytest.fixture
async def running(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway whose page has the prefix."""
    async with run_gateway(PREFIXED.format(url=destination.url), **VALUES) as running:
        yield running


@pytest.fixture(
    params=[(name, removes) for name in REMOVING for removes in (False, True)],
    ids=lambda param: f"{param[0]} {'removes the prefix' if param[1] else 'passes on the path'}",
)
async def browser(
    running: Running, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[RealBrowser]:
    """Yield a browser whose requests go through each proxy. CI must have both."""
    name, removes_prefix = request.param
    if find(name) is None:
        lacking(f"no {name}: run tests/integration/fetch_proxies.sh, or set GATEHOUSE_TEST_…")
    shown = documented(name, removes_prefix=removes_prefix)
    host = {"nginx": nginx_host, "caddy": caddy_host}[name]

    def configure(port: int, upstream: int, certificate: Path) -> str:
        return host(port, certificate, shown.replace("127.0.0.1:9090", f"127.0.0.1:{upstream}"))

    async with proxying(name, running.gateway.operator.port, tmp_path, configure) as front:
        connector = aiohttp.TCPConnector(ssl=front.tls, resolver=OnLoopback())
        async with RealBrowser(f"https://{HOST}:{front.port}", connector) as browser:
            yield browser


async def test_an_operator_uses_the_page_through_a_proxy(
    running: Running, browser: RealBrowser, destination: ScriptedDestination
) -> None:
    sent = providers.body(id="evt_1", type="sale.created", data={"total": 1})
    _, answer = await running.send("mando", sent, providers.mando(sent))
    await destination.wait_for(1)
    event = f"{PREFIX}/events/{answer['id']}"

    entry = (await browser.get(PREFIX)).headers["location"]
    assert entry.removeprefix(browser.url) == f"{PREFIX}/"
    login = (await browser.get(event)).headers["location"]
    assert login.startswith(f"{PREFIX}/login?next=%2Fgatehouse%2Fevents%2F")
    seen = await browser.press(login, f"{PREFIX}/login", token=VALUES["ALICE"])
    assert (seen.status, "Verified" in seen.text) == (200, True)
    (cookie,) = [one for one in browser.session.cookie_jar if one.key == SESSION]
    kept = {name: cookie[name] for name in ("path", "secure", "httponly", "samesite")}
    assert kept == {"path": PREFIX, "secure": True, "httponly": True, "samesite": "Strict"}

    await each_link_has_the_prefix(
        browser, event, f"{PREFIX}/events?source=mando&status=delivered", f"{PREFIX}/destinations/app"
    )

    assert (await browser.press(event, f"{event}/replay", to="app")).status == 200
    await destination.wait_for(2)
    token = {"form_token": await browser.form_token(PREFIX), "to": "app"}
    foreign = await browser.post(f"{event}/replay", token, Origin="https://evil.example")
    assert (foreign.status, "another site" in foreign.text) == (403, True)

    await the_stream_is_not_buffered(running, browser)


async def each_link_has_the_prefix(browser: Browser, *others: str) -> None:
    """Open all screens of the menu, others, and the files that they need."""
    menu = re.search(r"<nav.*?</nav>", (await browser.get(f"{PREFIX}/")).html, re.DOTALL)
    assert menu is not None
    screens = re.findall(r'href="([^"]+)"', menu.group())
    assert {f"{PREFIX}/events", f"{PREFIX}/live"} <= set(screens)
    for screen in (*screens, *others):
        seen = await browser.get(screen)
        assert seen.status == 200, screen
        links = re.findall(r'(?:href|src|action|data-\w+)="(/[^"]*)"', seen.html)
        assert [link for link in links if not link.startswith(f"{PREFIX}/")] == [], screen
        refresh = re.search(r'href="([^"]+)" data-refresh', seen.html)
        assert refresh is not None
        assert unescape(refresh.group(1)) == screen
    files = re.findall(rf'(?:href|src)="({PREFIX}/static/[^"]+)"', seen.html)
    assert [(await browser.get(file)).status for file in files] == [200] * 3


async def the_stream_is_not_buffered(running: Running, browser: Browser) -> None:
    """Read the stream of the screen Live through the proxy while a request arrives."""
    sent = providers.body(id="evt_2", type="sale.created", data={"total": 2})
    stream = browser.session.get(f"{browser.url}{PREFIX}/live/stream?kinds=request")
    async with asyncio.timeout(5), stream as answer:
        assert answer.status == 200
        await answer.content.readline()
        await running.send("mando", sent, providers.mando(sent))
        async with asyncio.timeout(1):
            while await answer.content.readline() != b"event: request\n":
                pass
