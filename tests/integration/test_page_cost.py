"""The operator page costs nothing while nobody looks at it, and is small for those who do."""

from __future__ import annotations

import asyncio
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
from processes import serving

CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: env:SECRET}
"""
#: A part of the template engine that is a shared library, so that the kernel knows whether it is loaded.
ENGINE = "markupsafe"


async def test_the_template_engine_is_loaded_for_the_first_page_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    async with serving(file, SECRET="a-secret-of-some-length") as gateway, aiohttp.ClientSession() as client:
        maps = Path(f"/proc/{gateway.process.pid}/maps")
        for path in ("/readyz", "/metrics", "/api/v1/status", "/api/v1/events"):
            async with client.get(gateway.operator_url + path) as answer:
                assert answer.status == 200
        assert ENGINE not in maps.read_text()

        async with client.get(gateway.operator_url + "/") as answer:
            assert answer.content_type == "text/html"
        assert ENGINE in maps.read_text()


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
