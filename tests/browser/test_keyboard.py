"""Operators can use the page without a mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from browser.watching import Visitor

if TYPE_CHECKING:
    from playwright.async_api import Page, StorageState

_FOCUSED = "[...document.querySelectorAll('[data-list] a.row')].indexOf(document.activeElement)"


async def _until(page: Page, condition: str) -> None:
    """Wait until an expression is true. Playwright's own way needs `eval`, which the page forbids."""
    look = f"const look = () => {condition} ? done() : requestAnimationFrame(look); look()"
    await page.evaluate(f"new Promise(done => {{ {look} }})")


async def test_keys_move_through_a_list_and_open_an_entry(visitor: Visitor, operator: StorageState) -> None:
    page = await visitor.open("/events?source=payments", state=operator)
    for key, position in (("j", 0), ("j", 1), ("j", 2), ("k", 1), ("k", 0), ("k", 0)):
        await page.keyboard.press(key)
        assert await page.evaluate(_FOCUSED) == position
    target = await page.evaluate("document.activeElement.href")

    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.name") == "contains"
    await page.keyboard.type("jk?r")  # letters of a filter are no keys of the page
    assert await page.locator("dialog#keys").is_hidden()

    await page.set_viewport_size({"width": 800, "height": 300})
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("ArrowDown")
    await _until(page, "document.scrollingElement.scrollTop > 0")

    await page.keyboard.press("?")
    assert await page.locator("dialog#keys").is_visible()
    await page.keyboard.press("Escape")
    await _until(page, "document.activeElement === document.body")
    assert await page.locator("dialog#keys").is_hidden()

    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await page.wait_for_url(target)
    assert await page.locator("input[name=to]").first.is_hidden()
    await page.keyboard.press("r")
    await page.locator("input[name=to]").first.wait_for()


async def test_keys_work_after_events_were_selected(visitor: Visitor, operator: StorageState) -> None:
    page = await visitor.open("/events?source=payments", state=operator)
    await page.locator("input[name=id]").first.check()
    await page.keyboard.press("j")
    assert await page.evaluate(_FOCUSED) == 0
    await page.locator("input[name=id]").nth(1).check()
    await page.keyboard.press("r")
    await page.wait_for_url("**/events/replay?source=payments")
