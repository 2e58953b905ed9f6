"""What providers and apps send stays text in the browser of an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from browser.accessibility import overflow
from browser.deployment import OPERATOR
from browser.hostile import BIDI, MARKUP, TEXTS, events
from browser.watching import Visitor

if TYPE_CHECKING:
    from playwright.async_api import StorageState

#: What no text of somebody else may become.
_ELEMENTS = "main :is(script, img, iframe, object, embed, form[action*=':'], [onerror], [onload], [style])"


async def test_answers_of_the_api_are_data_in_a_browser(visitor: Visitor, hostile: dict[str, str]) -> None:
    listed = await visitor.open("/api/v1/events?source=partner&limit=200", token=OPERATOR)
    assert "window.ranHostileCode" in await listed.locator("body").inner_text()
    for name in ("text 0", "not JSON", "reply"):
        page = await visitor.open(f"/api/v1/events/{hostile[name]}", token=OPERATOR)
        assert await page.locator("script, img, svg, iframe, a").count() == 0


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/events?source=partner&limit=100",
        "/events?source=%3Cscript%3E&type=%22%3E%3Csvg%20onload%3Dx%3E&contains=%3C/script%3E%00",
        "/refused?source=partner",
        "/system/audit",
    ],
)
async def test_lists_show_hostile_text_as_text(
    visitor: Visitor, operator: StorageState, hostile: dict[str, str], path: str
) -> None:
    page = await visitor.open(path, state=operator, width=360)
    assert await page.locator(_ELEMENTS).count() == 0
    assert await overflow(page) == 0


async def test_each_hostile_event_has_a_screen_that_shows_its_text(
    visitor: Visitor, operator: StorageState, hostile: dict[str, str]
) -> None:
    page = await visitor.open("/events?source=partner", state=operator, width=360)
    bodies, wrong, followed = events(), [], 0
    for name, event_id in hostile.items():
        await page.goto(f"/events/{event_id}")
        assert await page.locator("h1").count() == 1, name
        assert await page.locator(_ELEMENTS).count() == 0, name
        if wide := await overflow(page):
            wrong.append(f"{name}: the screen is {wide} pixels too wide")
        if name in bodies:
            download = await page.context.request.get(f"/events/{event_id}/body")
            assert await download.body() == bodies[name], name
        number = name.partition(" ")[2]
        if number.isdigit():
            text = TEXTS[int(number)]
            shown = await page.locator("main").inner_text()
            # inner_text leaves out space at the ends, and the page shows a hidden character by its code.
            if (text.strip() if text != BIDI else "userU+202Egnp.exe") not in shown:
                wrong.append(f"{name}: not shown")
            link = page.locator("dl.facts dd > a, dl.facts dd .id > a").filter(has_text=text[:6].strip())
            for found in await link.evaluate_all("links => links.map(link => link.getAttribute('href'))"):
                followed += 1
                answer = await page.context.request.get(found)
                if event_id not in await answer.text():
                    wrong.append(f"{name}: the link {found} does not find the event")
    assert wrong == []
    assert followed >= 4 * len(MARKUP)


async def test_a_body_is_shown_as_it_was_sent(
    visitor: Visitor, operator: StorageState, hostile: dict[str, str]
) -> None:
    parts = {
        "big numbers": '"n":12345678901234567890.10,"m":1e400}',
        "NUL": '"note": "\\u0000\\u001b[2J\\u0007"',
        "half characters": '"subject":"\\ud800","note":"\\udfff"',
        "not UTF-8": "ff fe 80",
        "not JSON": "00 01 02",
        "1 MiB": MARKUP[0].replace('"', "'") * 1000,
        "deep": "[" * 4000,
    }
    page = await visitor.open("/events?source=partner", state=operator)
    for name, part in parts.items():
        await page.goto(f"/events/{hostile[name]}")
        await page.get_by_role("link", name="Body", exact=True).click()
        await page.locator("#body-text").wait_for()
        assert part in await page.locator("#body-text").inner_text(), name


async def test_an_id_is_copied_as_it_was_sent(
    visitor: Visitor, operator: StorageState, hostile: dict[str, str]
) -> None:
    page = await visitor.open("/events", state=operator)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for text in (MARKUP[1], BIDI):
        await page.goto(f"/events/{hostile[f'text {TEXTS.index(text)}']}")
        await page.locator("[data-copy='#external-id']").click()
        await page.get_by_text("Copied").wait_for()
        assert await page.evaluate("navigator.clipboard.readText()") == text
