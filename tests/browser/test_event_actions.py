"""What an operator does with one event: it takes effect in the store and at the apps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from browser.deployment import ALICE, OPERATOR, Deployment
from browser.watching import Visitor, notice
from doubles.destination import after, status

if TYPE_CHECKING:
    from playwright.async_api import StorageState


@pytest.mark.parametrize("javascript", [True, False])
async def test_retry_delivers_a_dead_letter(
    visitor: Visitor, operator: StorageState, deployment: Deployment, *, javascript: bool
) -> None:
    event_id = await deployment.make_dead_letter()
    page = await visitor.open(f"/events/{event_id}", state=operator, javascript=javascript)
    with deployment.app.answering("/ledger", status(200)):
        await page.locator("form[action$='/retry'] button").click()
        assert "ledger is tried again" in await notice(page)
        delivery = await deployment.until_delivery(event_id, "ledger", "delivered")
    assert [attempt["reason"] for attempt in delivery["attempts"]] == ["rejected", "ok"]
    await page.reload()
    assert await page.locator(".notice").count() == 0
    assert await page.locator("form[action$='/retry']").count() == 0
    (entry, *_) = (await deployment.read("audit"))["audit"]
    assert (entry["who"], entry["action"], entry["count"]) == ("operator", "retry", 1)


@pytest.mark.parametrize("javascript", [True, False])
async def test_replay_delivers_to_the_chosen_destinations_only(
    visitor: Visitor, operator: StorageState, deployment: Deployment, *, javascript: bool
) -> None:
    event_id = await deployment.accept(deployment.providers.request("payments", "payout.paid"))
    for name in ("billing", "ledger"):
        await deployment.until_delivery(event_id, name, "delivered")
    page = await visitor.open(f"/events/{event_id}", state=operator, javascript=javascript)
    await page.locator("summary[data-replay]").click()
    assert await page.locator("input[name=to]:checked").evaluate_all("them => them.map(it => it.value)") == [
        "billing",
        "ledger",
    ]
    await page.locator("input[name=to][value=ledger]").uncheck()
    await page.locator("input[name=to][value=archive]").check()
    await page.locator("form[action$='/replay'] button").click()
    assert "Replayed to billing, archive" in await notice(page)
    await deployment.until_delivery(event_id, "archive", "delivered")
    await deployment.until_delivery(event_id, "billing", "delivered")
    received = deployment.app.received
    assert [received(path).count(event_id) for path in ("/billing", "/ledger", "/archive")] == [2, 1, 1]


async def test_discard_needs_a_note_and_keeps_it(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    event_id = await deployment.make_dead_letter()
    page = await visitor.open(f"/events/{event_id}", state=operator)
    await page.locator("summary", has_text="Discard").click()
    await page.locator("form[action$='/discard'] button").click()
    assert (await deployment.delivery(event_id, "ledger"))["status"] == "dead"
    await page.locator("input[name=note]").fill("a test account <b>of ours</b>")
    await page.locator("form[action$='/discard'] button").click()
    assert "is discarded" in await notice(page)
    delivery = await deployment.delivery(event_id, "ledger")
    assert (delivery["status"], delivery["discarded_by"]) == ("discarded", "operator")
    assert delivery["note"] == "a test account <b>of ours</b>"
    assert "a test account <b>of ours</b>" in await page.locator("main").inner_text()


async def test_two_operators_who_retry_at_the_same_time_retry_once(
    visitor: Visitor, sessions: dict[str, StorageState], deployment: Deployment
) -> None:
    event_id = await deployment.make_dead_letter()
    pages = [
        await visitor.open(f"/events/{event_id}", state=sessions[token]) for token in (OPERATOR, ALICE) * 2
    ]
    with deployment.app.answering("/ledger", after(0.3, status(200))):
        await asyncio.gather(*(page.locator("form[action$='/retry'] button").click() for page in pages))
        await deployment.until_delivery(event_id, "ledger", "delivered")
    notices = [await notice(page) for page in pages]
    assert sum("is tried again" in notice for notice in notices) == 1, notices
    assert sum("Nothing was changed" in notice for notice in notices) == 3, notices
    assert deployment.app.received("/ledger").count(event_id) == 2
    entries = (await deployment.read("audit"))["audit"]
    assert len([entry for entry in entries if event_id in str(entry["what"])]) == 1
