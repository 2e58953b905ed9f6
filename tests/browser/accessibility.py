"""Checks a page with axe-core, which the package axe-playwright-python brings."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Page

#: The rules of WCAG 2.2, levels A and AA.
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
_RUN = """async tags => {
  const found = await axe.run(document, {runOnly: {type: "tag", values: tags}, resultTypes: ["violations"]});
  return found.violations.flatMap(one => one.nodes.map(node =>
    `${one.id}: ${node.target.join(" ")}: ${node.failureSummary.replaceAll(/\\s+/g, " ")}`));
}"""


async def violations(page: Page) -> list[str]:
    """Return what axe finds: the rule, the element, and what to fix."""
    await page.evaluate(_AXE)
    found: list[str] = await page.evaluate(_RUN, _TAGS)
    return found


async def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    found: int = await page.evaluate(
        "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    )
    return found


async def uneven_rows(page: Page) -> list[str]:
    """Return the rows of tables whose cells are not beside each other."""
    found: list[str] = await page.evaluate(
        """[...document.querySelectorAll("tr")].filter(row => {
          const tops = [...row.cells].map(cell => cell.getBoundingClientRect().top);
          return Math.max(...tops) - Math.min(...tops) > 1;
        }).map(row => row.textContent.trim())"""
    )
    return found


async def sideways(page: Page) -> list[str]:
    """Return the parts of a page that have to be scrolled sideways, except for what is folded."""
    found: list[str] = await page.evaluate(
        """[...document.querySelectorAll("main .scroll, main pre")]
          .filter(part => !part.closest("details") && part.scrollWidth > part.clientWidth + 1)
          .map(part => part.textContent.replaceAll(/\\s+/g, " ").slice(0, 200))"""
    )
    return found
