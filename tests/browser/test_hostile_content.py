"""What providers and apps send stays text in the browser of an operator."""

from __future__ import annotations

from browser.deployment import OPERATOR, Deployment
from browser.watching import Visitor


async def test_answers_of_the_api_are_data_in_a_browser(
    visitor: Visitor, deployment: Deployment, hostile: dict[str, str]
) -> None:
    listed = await visitor.open("/api/v1/events?source=partner&limit=200", token=OPERATOR)
    assert "window.ranHostileCode" in await listed.locator("body").inner_text()
    for name in ("id 0", "type 1", "not JSON", "1 MiB", "reply"):
        page = await visitor.open(f"/api/v1/events/{hostile[name]}", token=OPERATOR)
        assert await page.locator("script, img, svg, iframe, a").count() == 0
    refused = await visitor.open("/api/v1/rejected?source=partner", token=OPERATOR)
    assert "ranHostileCode" in await refused.locator("body").inner_text()
