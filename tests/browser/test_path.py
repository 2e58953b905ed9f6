"""The page behind a proxy that serves it under a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from playwright.async_api import expect

from browser.deployment import OPERATOR, running_deployment
from browser.watching import POLLED, Visitor, notice

if TYPE_CHECKING:
    from playwright.async_api import Browser


async def test_all_links_forms_and_streams_stay_under_the_path(chromium: Browser, tmp_path: Path) -> None:
    async with running_deployment(tmp_path, path="/gatehouse") as deployment:
        visitor = Visitor(chromium, deployment.operator)
        page = await visitor.open("/gatehouse/events?source=shop")
        await page.locator("input[name=token]").fill(OPERATOR)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/gatehouse/events?source=shop")
        (cookie,) = await page.context.cookies()
        assert cookie["path"].rstrip("/") == "/gatehouse"

        event_id = await deployment.accept(deployment.providers.request("shop", "orders/paid"))
        await expect(page.locator("[data-new]")).to_have_text("1 new", timeout=POLLED)
        await page.locator("[data-new]").click()
        await page.locator("a.row").click()
        await page.wait_for_url(f"**/gatehouse/events/{event_id}")
        await page.goto("/gatehouse/destinations/archive")
        await page.get_by_role("button", name="Pause").click()
        assert "archive" in await notice(page)
        await page.goto("/gatehouse/live")
        await expect(page.locator("[data-live-state]")).to_have_text("connected")
        for path in ("", "dead", "sources/shop", "refused", "system", "operations", "events/replay"):
            await page.goto(f"/gatehouse/{path}")
            targets = await page.evaluate(
                """[...document.querySelectorAll("[href], [src], [action]")].map(
                  it => it.getAttribute("href") ?? it.getAttribute("src") ?? it.getAttribute("action"))"""
            )
            local = {urlsplit(one).path for one in targets if one.startswith("/")}
            assert [one for one in local if not one.startswith("/gatehouse/")] == []
        assert await visitor.close() == []
