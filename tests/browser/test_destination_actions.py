"""What an operator does with destinations, sources and the config takes effect in the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from browser.deployment import Deployment
from browser.traffic import open_breaker
from browser.watching import Visitor, notice
from doubles.destination import status

if TYPE_CHECKING:
    from playwright.async_api import StorageState


@pytest.mark.parametrize("javascript", [True, False])
async def test_pause_holds_deliveries_back_until_resume(
    visitor: Visitor, operator: StorageState, deployment: Deployment, *, javascript: bool
) -> None:
    page = await visitor.open("/destinations/archive", state=operator, javascript=javascript)
    await page.get_by_role("button", name="Pause").click()
    assert "archive" in await notice(page)
    assert (await deployment.destination("archive"))["paused"]
    event_id = await deployment.accept(deployment.providers.request("repos", "push"))
    assert (await deployment.delivery(event_id, "archive"))["status"] == "pending"
    await page.reload()
    assert "paused" in await page.locator(".head").inner_text()
    await page.get_by_role("button", name="Resume").click()
    await deployment.until_delivery(event_id, "archive", "delivered")
    assert not (await deployment.destination("archive"))["paused"]
    resumed, paused, *_ = (await deployment.read("audit"))["audit"]
    assert [paused["action"], resumed["action"]] == ["pause", "resume"]


async def test_probe_closes_the_breaker_of_a_destination_that_is_back(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    before = await deployment.destination("crm")
    page = await visitor.open("/destinations/crm", state=operator)
    await page.get_by_role("button", name="Probe now").click()
    assert "crm" in await notice(page)

    async def has_failed() -> bool:
        return bool((await deployment.destination("crm"))["next_probe"] > before["next_probe"])

    async def is_back() -> bool:
        crm = await deployment.destination("crm")
        return bool(crm["breaker"] == "closed" and crm["pending"] == 0)

    # The app must not be repaired while the first probe is on its way: the second one would be refused.
    await deployment.until(has_failed)
    assert (await deployment.destination("crm"))["pending"] == before["pending"] > 0
    try:
        with deployment.app.answering("/crm", status(200)):
            await page.get_by_role("button", name="Probe now").click()
            await deployment.until(is_back)
            await page.reload()
            assert "delivering" in await page.locator(".head").inner_text()
    finally:
        await open_breaker(deployment)


async def test_a_test_event_reaches_the_app_and_not_the_store(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    newest = (await deployment.read("events?limit=1"))["events"][0]["id"]
    page = await visitor.open("/destinations/billing", state=operator)
    arrived = len(deployment.app.received("/billing"))
    await page.get_by_role("button", name="Send a test event").click()
    shown = await page.locator("section[aria-labelledby=tested]").inner_text()
    assert "accepted" in shown
    assert "200" in shown
    assert len(deployment.app.received("/billing")) == arrived + 1
    assert b"gatehouse.test" in deployment.app.server.requests[-1].body
    assert (await deployment.read("events?limit=1"))["events"][0]["id"] == newest
    await page.goto("/destinations/billing/test")
    assert page.url.endswith("/destinations/billing")


async def test_a_sample_is_accepted_as_an_event(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    page = await visitor.open("/sources/shop", state=operator)
    await page.locator("form[action$='/sample'] input[name=type]").fill("orders/paid")
    await page.get_by_role("button", name="Send a sample").click()
    assert "accepted" in await page.locator("section[aria-labelledby=sent]").inner_text()
    await page.locator("section[aria-labelledby=sent] a[href*='/events/']").click()
    await page.wait_for_url("**/events/*")
    event = (await deployment.read("events?source=shop&limit=1"))["events"][0]
    assert page.url.endswith(event["id"])
    assert event["type"] == "orders/paid"
    await deployment.until_delivery(event["id"], "billing", "delivered")


async def test_a_reload_is_shown_before_it_happens(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    visitor.expected.append("status of 400")
    file, text = deployment.config, deployment.config.read_text()
    page = await visitor.open("/system", state=operator)
    try:
        file.write_text(
            text.replace("timeout: 100ms", "timeout: 110ms") + "\n  - {from: shop, to: nowhere}\n"
        )
        await page.get_by_role("link", name="Check the file for changes").click()
        shown = await page.locator("main").inner_text()
        assert "can't be used" in shown
        assert "nowhere" in shown
        assert await page.get_by_role("button", name="Reload").count() == 0

        file.write_text(text.replace("timeout: 100ms", "timeout: 110ms"))
        await page.get_by_role("link", name="Check again").click()
        assert "changed: search" in await page.locator("main").inner_text()
        before = (await deployment.read("status"))["reload"]["at"]
        await page.get_by_role("button", name="Reload").click()
        await page.locator(".notice").wait_for()
        assert (await deployment.read("status"))["reload"]["at"] > before
        assert (await deployment.read("audit"))["audit"][0]["action"] == "reload"
    finally:
        file.write_text(text)
        await deployment.ask("POST", "/-/reload")
