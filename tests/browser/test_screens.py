"""Every screen shows data, fits windows of all sizes, is accessible, and reports no error."""

from __future__ import annotations

import pytest
from playwright.async_api import StorageState

from browser.accessibility import overflow, violations
from browser.watching import Visitor

WIDTHS = (1400, 800, 360)

#: Path, and text that the traffic must have put there.
SCREENS = {
    "/events": ["delivered"],
    "/events?source=payments": ["payment_intent.succeeded", "invoice.paid"],
    "/events?source=shop&status=pending": ["orders/create"],
    "/events?type=no.such.type": [],
}


@pytest.mark.parametrize("path", SCREENS)
async def test_a_screen_shows_data_at_every_width_in_light_and_dark(
    visitor: Visitor, operator: StorageState, path: str
) -> None:
    page = await visitor.open(path, state=operator)
    shown = await page.locator("main").inner_text()
    assert [text for text in SCREENS[path] if text not in shown] == []
    assert await page.title() != ""
    assert await page.locator("h1").count() == 1
    found: dict[str, object] = {}
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 900})
        found[f"overflow at {width}"] = await overflow(page)
    found["axe, 360, light"] = await violations(page)
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    found["axe, 1400, dark"] = await violations(page)
    assert {name: value for name, value in found.items() if value} == {}
