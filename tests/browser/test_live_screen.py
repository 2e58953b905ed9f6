"""What happens while someone looks: the live stream, and the count of new events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.async_api import expect

from browser.deployment import Deployment
from browser.hostile import BIDI, MARKUP
from browser.watching import POLLED, Visitor

if TYPE_CHECKING:
    from playwright.async_api import StorageState


async def test_the_stream_shows_what_happens_as_text_and_can_be_paused(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    page = await visitor.open("/live?source=partner", state=operator)
    state, rows = page.locator("[data-live-state]"), page.locator("[data-live] tbody tr")
    await expect(state).to_have_text("connected")
    body = json.dumps({"id": "live-1", "type": MARKUP[0] + BIDI}).encode()
    event_id = await deployment.accept(deployment.providers.partner(body))
    await expect(rows).to_have_count(3)  # the request, the event and its attempt
    shown = await page.locator("[data-live]").inner_text()
    assert f"{MARKUP[0]}userU+202Egnp.exe" in shown
    assert "archive: ok 200" in shown
    assert await rows.first.locator("a").get_attribute("href") == f"/events/{event_id}"

    await page.keyboard.press("p")
    await deployment.accept(deployment.providers.partner(b'{"id": "live-2", "type": "while.paused"}'))
    await expect(state).to_have_text("paused, 3 waiting")
    await expect(rows).to_have_count(3)
    await page.keyboard.press("p")
    await expect(rows).to_have_count(6)
    await expect(state).to_have_text("connected")


async def test_a_list_tells_how_many_events_are_new_and_does_not_move(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    page = await visitor.open("/events?source=repos", state=operator)
    rows, pill = page.locator("[data-list] tbody tr"), page.locator("[data-new]")
    before = await rows.count()
    for number in (1, 2):
        await deployment.accept(deployment.providers.request("repos", "push"))
        await expect(pill).to_have_text(f"{number} new", timeout=POLLED)
    assert await rows.count() == before
    await pill.click()
    await expect(rows).to_have_count(before + 2)
