"""The operator page costs nothing while nobody looks at it, and is small for those who do."""

from __future__ import annotations

import asyncio
import html
import re
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from browsing import Browser
from doubles import providers
from gatehouse.ingest.rejected import RejectedRequests
from gatehouse.operator.page.rendering import ASSETS, asset
from gateways import Running
from processes import GatewayProcess, serving

CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: env:SECRET}
"""
PAGE = "gatehouse.operator.page"
#: Asked at the same time after the start, by programs and by the first reader.
FIRST = ("/", "/events", "/no-such-screen", "/api/v1/status", "/live", "/system")


def imported(gateway: GatewayProcess) -> set[str]:
    """Return the modules that a gateway has imported, as Python's own log of imports tells."""
    lines = [line["line"] for line in gateway.log if "line" in line]
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


async def test_the_page_is_imported_for_its_first_request_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    environment = {"SECRET": "a-secret-of-some-length", "PYTHONPROFILEIMPORTTIME": "1"}
    async with serving(file, **environment) as gateway, aiohttp.ClientSession(gateway.operator_url) as client:

        async def ask(path: str) -> tuple[int, str]:
            async with client.get(path, headers={"Accept": "text/html"}) as answer:
                return answer.status, answer.content_type

        for path in ("/readyz", "/metrics", "/api/v1/status", "/api/v1/events", "/api/v1/nothing"):
            assert (await ask(path))[1] != "text/html"
        before = imported(gateway)
        assert "gatehouse.operator.server" in before
        assert {name for name in before if name.startswith(PAGE)} == {
            PAGE,
            f"{PAGE}.entrance",
            f"{PAGE}.arrival",
        }
        assert "jinja2" not in before

        answers = dict(zip(FIRST, await asyncio.gather(*map(ask, FIRST)), strict=True))
        page = (200, "text/html")
        assert answers == dict.fromkeys(FIRST, page) | {
            "/no-such-screen": (404, "text/html"),
            "/api/v1/status": (200, "application/json"),
        }
        async with asyncio.timeout(10):
            while not {f"{PAGE}.page", "jinja2"} <= imported(gateway):  # noqa: ASYNC110 - the log is read
                await asyncio.sleep(0.01)


async def test_a_list_tells_how_many_events_are_new_for_one_short_list(running: Running) -> None:
    async def send(number: int) -> None:
        body = providers.body(id=f"evt_{number}")
        assert (await running.send("mando", body, providers.mando(body)))[0] == 200

    async with Browser(running.operator_url) as browser:

        async def new(screen: str) -> dict[str, Any]:
            found = re.search('data-new="([^"]+)"', screen)
            assert found is not None
            told: dict[str, Any] = await running.ask(html.unescape(found[1]))
            return told

        empty = (await browser.get("/events")).html
        assert (await new(empty)) == {"text": "", "is_enough": False}
        await send(0)
        assert (await new(empty))["text"] == "1 new"
        full = (await browser.get("/events?source=mando")).html
        assert (await new(full))["text"] == ""
        for number in range(1, 20):
            await send(number)
        assert (await new(full)) == {"text": "19 new", "is_enough": False}
        await send(20)
        await send(21)
        assert (await new(full)) == {"text": "20+ new", "is_enough": True}


def test_the_style_and_the_script_stay_small() -> None:
    assert sum(len(asset(name)) for name in ASSETS if name.endswith((".css", ".js"))) < 60_000


async def test_a_list_of_refused_requests_does_not_wait_for_all_findings(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        body = providers.body(id=f"evt_{number}")
        await running.send("mando", body, providers.mando(body, secret="another-secret-of-some-length"))
    may_go_on = threading.Event()
    explain = RejectedRequests.explain

    def slow(kept: RejectedRequests, refused: Any) -> Any:
        may_go_on.wait(10)
        return explain(kept, refused)

    monkeypatch.setattr(RejectedRequests, "explain", slow)
    first = (await running.ask("/api/v1/rejected?within=10ms"))["rejected"]
    assert [(one["reason"], one["examined"], one["findings"]) for one in first] == [
        ("wrong_signature", False, [])
    ] * 3
    async with Browser(running.operator_url) as browser:
        assert (await browser.get("/refused")).text.count("being examined") == 3
        may_go_on.set()
        async with asyncio.timeout(10):
            while "being examined" in (page := await browser.get("/refused")).text:
                pass
    assert page.text.count("The signature does not match the secret") == 3
