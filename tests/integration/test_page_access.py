"""Who may see and use the operator page: sessions, form tokens, origins, roles, and the path prefix."""

from __future__ import annotations

import asyncio
import io
import re
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import aiohttp
import pytest

from browsing import Browser
from doubles.destination import ScriptedDestination
from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.operator.authentication import Authentication
from gatehouse.operator.page import export, forms
from gatehouse.operator.page.page import Page
from gatehouse.operator.page.sessions import LIFETIME
from gatehouse.operator.page.site import SESSION
from gatehouse.operator.tokens import OperatorTokens
from gateways import RunGateway, Running
from operators import VALUES, WITH_TOKENS

#: What a browser sends with a form of another site.
FOREIGN = (("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("Origin", "null"))
PREFIXED = WITH_TOKENS.replace("operator: {{", 'operator: {{path: "/gatehouse", ')


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Scene(NamedTuple):
    """A gateway with tokens, and the clock of its sessions."""

    running: Running
    clock: Clock


@pytest.fixture
async def scene(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Scene]:
    """Run a gateway with the tokens operator and alice (role operate) and ci (role read)."""
    clock = Clock()
    async with run_gateway(WITH_TOKENS.format(url=destination.url), clock=clock, **VALUES) as running:
        yield Scene(running, clock)


@pytest.fixture
async def browser(scene: Scene) -> AsyncIterator[Browser]:
    """Yield a browser that has not logged in."""
    async with Browser(scene.running.operator_url) as browser:
        yield browser


def changing() -> list[str]:
    """Return the path of each screen's form, with a value for each parameter."""
    page = Page((), Authentication(None, cast("Any", None)), time.time)
    return [
        re.sub(r"\{\w+\}", "app", route.path)
        for route in page.routes()
        if route.method == "POST" and route.path not in ("/login", "/logout", "/system/routes")
    ]


async def test_a_login_leads_to_where_the_browser_wanted_to_go(browser: Browser) -> None:
    first = await browser.get("/events?source=mando")
    assert (first.status, first.headers["location"]) == (303, "/login?next=%2Fevents%3Fsource%3Dmando")

    seen = await browser.log_in(VALUES["ALICE"], next="/events?source=mando")

    assert (seen.status, seen.headers["location"]) == (303, "/events?source=mando")
    cookie = seen.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert VALUES["ALICE"] not in cookie
    page = await browser.get("/events")
    assert page.status == 200
    assert "alice" in page.text
    secure = await browser.post("/login", {"token": VALUES["ALICE"]}, **{"X-Forwarded-Proto": "https"})
    assert "Secure" in secure.headers["set-cookie"]


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:x", ""]
)
async def test_a_login_never_leads_to_another_site(browser: Browser, target: str) -> None:
    assert (await browser.log_in(VALUES["ALICE"], next=target)).headers["location"] == "/"


async def test_a_session_ends_after_twelve_hours_and_at_logout(scene: Scene, browser: Browser) -> None:
    await browser.log_in(VALUES["ALICE"])
    scene.clock.now += LIFETIME - 1
    assert (await browser.get("/events")).status == 200
    scene.clock.now += 2
    assert (await browser.get("/events")).status == 303
    assert "The session has ended" in (await browser.get("/login")).text

    await browser.log_in(VALUES["CI_TOKEN"])
    assert (await browser.get("/events")).status == 200
    assert (await browser.post("/logout")).status == 303
    assert (await browser.get("/events")).status == 303


async def test_wrong_tokens_are_refused_counted_and_throttled(
    scene: Scene, browser: Browser, logged: io.StringIO
) -> None:
    codes = [(await browser.log_in(f"guess-number-{number}")).status for number in range(12)]
    assert codes == [401] * 10 + [429] * 2
    seen = await browser.log_in(VALUES["ALICE"])
    assert (seen.status, "set-cookie" in seen.headers) == (429, False)
    assert "Too many wrong tokens" in seen.text
    assert "guess-number" not in logged.getvalue() + seen.text
    assert scene.running.gateway.metrics.operator_refused["throttled"].value == 3


async def test_a_changed_cookie_or_another_token_opens_nothing(scene: Scene, browser: Browser) -> None:
    await browser.log_in(VALUES["ALICE"])
    (cookie,) = (one.value for one in browser.session.cookie_jar if one.key == SESSION)
    claim, signature = cookie.rsplit(".", 1)
    name, expires = claim.split(".")
    for forged in (
        f"{name}.{int(expires) + 1}.{signature}",
        f"{claim}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{name}.{expires}.",
        "..",
        "x",
        f"{'A' * 5000}.9.a",
        "é.9999999999.a",
    ):
        browser.session.cookie_jar.clear()
        seen = await browser.get("/events", Cookie=f"{SESSION}={forged}")
        assert seen.status == 303, forged
    assert (await browser.get("/events", Cookie=f"{SESSION}={cookie}")).status == 200

    tokens = scene.running.gateway.operator
    tokens.use_tokens(None)  # the config after a reload: without tokens, the page needs no session
    assert (await browser.get("/events")).status == 200


async def test_every_form_needs_a_session_our_origin_and_its_token(scene: Scene, browser: Browser) -> None:
    paths = changing()
    assert paths, "the page has forms"
    for path in paths:
        assert (await browser.post(path)).status == 401, path
    await browser.log_in(VALUES["ALICE"])
    token = await browser.form_token()
    for path in paths:
        assert (await browser.post(path)).status == 403, path
        assert (await browser.post(path, {"form_token": "0" * 64})).status == 403, path
        for headers in (
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "null"},
        ):
            assert (await browser.post(path, {"form_token": token}, **headers)).status == 403, path
    # The form token of another session is of no use.
    async with Browser(browser.url) as other:
        await other.log_in(VALUES["OPERATOR"])
        for path in paths:
            assert (await other.post(path, {"form_token": token})).status == 403, path
    audit = await browser.get("/api/v1/audit", Authorization=f"Bearer {VALUES['ALICE']}")
    assert '"audit": []' in audit.text


@pytest.mark.case("S-50")
async def test_a_withdrawn_token_ends_the_streams_of_its_sessions(scene: Scene, browser: Browser) -> None:
    async def stream(token: str) -> aiohttp.ClientResponse:
        await browser.log_in(token)
        return await browser.session.get(f"{browser.url}/live/stream")

    ci, alice = await stream(VALUES["CI_TOKEN"]), await stream(VALUES["ALICE"])
    config = parse(WITH_TOKENS.format(url="http://127.0.0.1:1")).config.operator
    replaced = VALUES | {"CI_TOKEN": "another-token-of-the-pipeline"}
    scene.running.gateway.operator.use_tokens(OperatorTokens(config, Secrets(Path(), replaced)))

    async with asyncio.timeout(5):
        with pytest.raises(aiohttp.ClientError):
            await ci.read()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await alice.read()
    alice.close()


@pytest.mark.case("S-60")
async def test_a_form_is_read_only_as_the_page_sends_it(scene: Scene, browser: Browser) -> None:
    """Anyone can send a form to the login, so its head must choose neither a codec nor a parser."""
    form, part = "application/x-www-form-urlencoded", b'--x\r\nContent-Disposition: form-data; name="token"'
    sent = {"Content-Type": form, "Content-Encoding": "deflate"}
    for status, headers, body in (
        (415, {"Content-Type": "multipart/form-data; boundary=x"}, part + b"\r\n\r\nx\r\n--x--\r\n"),
        (415, {"Content-Type": "multipart/form-data"}, b"token=x"),
        (415, {"Content-Type": "text/plain"}, b"token=x"),
        (401, {"Content-Type": f"{form}; charset=punycode"}, b"-" + b"zz9" * 20_000),
        (401, {"Content-Type": f"{form}; charset=unicode_escape"}, b"token=\\ud800"),
        (401, {"Content-Type": f"{form}; charset=nonsense"}, b"token=x"),
        (400, {"Content-Type": form}, b"token=\xff"),
        (400, {"Content-Type": form}, b"token=%ed%a0%80"),
        (400, {"Content-Type": form}, b"a&" * 10_000),
        (400, sent, zlib.compress(b"token=" + b"x" * 1_000_000)),
        (413, {"Content-Type": form}, b"token=" + b"x" * 100_000),
    ):
        async with browser.session.post(f"{browser.url}/login", data=body, headers=headers) as answer:
            assert answer.status == status, (headers, body[:20])
    await browser.log_in(VALUES["ALICE"])
    token = await browser.form_token()
    pause = f"/destinations/app/pause?form_token={token}"
    assert (await browser.post(pause)).status == 403
    async with browser.session.post(f"{browser.url}{pause}", json={"form_token": token}) as answer:
        assert answer.status == 415
    assert scene.running.gateway.metrics.operator_refused["throttled"].value == 0


@pytest.mark.case("S-60")
async def test_a_form_that_does_not_arrive_is_given_up(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "_WITHIN", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"token="
        await asyncio.sleep(20)

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with browser.session.post(f"{browser.url}/login", data=slow(), headers=form) as answer:
        assert answer.status == 408


@pytest.mark.case("S-60")
async def test_hostile_names_and_methods_get_an_ordinary_answer(browser: Browser) -> None:
    await browser.log_in(VALUES["CI_TOKEN"])
    for path in ("/sources/{}/sample", "/destinations/{}/test"):
        seen = await browser.get(path.format("a%0d%0aSet-Cookie:%20x=y"))
        assert (seen.status, "set-cookie" in seen.headers) == (303, False)
        assert seen.headers["location"].endswith("/a%0D%0ASet-Cookie%3A%20x%3Dy")
    async with browser.session.head(f"{browser.url}/live/stream") as answer:
        assert answer.status == 200


@pytest.mark.case("S-61")
async def test_few_lists_are_exported_at_a_time(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_MOST_AT_A_TIME", 1)
    asked, released, page = asyncio.Event(), asyncio.Event(), export.ExportScreen._page

    async def slow(*given: Any) -> Any:
        asked.set()
        await released.wait()
        return await page(*given)

    monkeypatch.setattr(export.ExportScreen, "_page", slow)
    await browser.log_in(VALUES["CI_TOKEN"])
    first = asyncio.create_task(browser.get("/events/export"))
    await asked.wait()
    assert (await browser.get("/events/export")).status == 503
    released.set()
    assert (await first).status == 200
    assert (await browser.get("/events/export")).status == 200


async def test_the_role_read_may_look_but_not_change(scene: Scene, browser: Browser) -> None:
    await browser.log_in(VALUES["CI_TOKEN"])
    token = await browser.form_token()
    for path in changing():
        seen = await browser.post(path, {"form_token": token})
        assert seen.status == 403, path
        assert "ci has the role read" in seen.text
    fields = {"source": "mando", "body": "{}", "form_token": token}
    assert (await browser.post("/system/routes", fields)).status == 200
    assert (await browser.post("/system/routes", fields | {"form_token": "other"})).status == 403
    for path in ("/events", "/"):
        text = (await browser.get(path)).html
        assert set(re.findall(r'<form[^>]* action="([^"]*)"', text.replace('method="get"', ""))) <= {
            "/logout",
            "/events",
        }


async def test_without_tokens_only_this_machine_sees_the_page(running: Running) -> None:
    async with Browser(running.operator_url) as browser:
        assert (await browser.get("/events")).status == 200
        for host in ("evil.example", "192.0.2.1:9090", "localhost.evil.example"):
            assert (await browser.get("/events", Host=host)).status == 403
            assert (await browser.post("/logout", Host=host)).status == 403
        assert (await browser.get("/login")).status == 303


async def test_with_a_path_prefix_all_links_and_cookies_have_it(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = WITH_TOKENS.replace("operator: {{", 'operator: {{path: "/gatehouse", ').format(
        url=destination.url
    )
    async with run_gateway(config, **VALUES) as running, Browser(running.operator_url) as browser:
        first = await browser.get("/gatehouse/events")
        assert first.headers["location"] == "/gatehouse/login?next=%2Fgatehouse%2Fevents"
        seen = await browser.post("/gatehouse/login", {"token": VALUES["ALICE"], "next": "/gatehouse/events"})
        assert seen.headers["location"] == "/gatehouse/events"
        for outside in (
            "/gatehouse/../x",
            "/gatehouse/%2e%2e/x",
            "/gatehouse/.%2E",
            "/gatehousex/",
            "/events",
        ):
            seen = await browser.post("/gatehouse/login", {"token": VALUES["ALICE"], "next": outside})
            assert seen.headers["location"] == "/gatehouse/", outside
        assert "Path=/gatehouse" in seen.headers["set-cookie"]
        text = (await browser.get("/gatehouse/events")).html
        links = re.findall(r'(?:href|src|action|data-new)="(/[^"]*)"', text)
        assert links
        assert [link for link in links if not link.startswith("/gatehouse/")] == []
        for name in ("page.css", "page.js", "icon.svg"):
            assert (await browser.get(f"/gatehouse/static/{name}")).status == 200
        # A proxy may remove the prefix, and programs may use it.
        assert (await browser.get("/login")).status == 200
        assert (await browser.get("/gatehouse/healthz")).status == 200
        asked = {"Authorization": f"Bearer {VALUES['ALICE']}"}
        assert (await browser.get("/gatehouse/api/v1/status", **asked)).status == 200
