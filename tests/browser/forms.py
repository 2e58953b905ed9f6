"""The forms of a screen with which operators change something."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from playwright.async_api import Page

_FORMS = """() => [...document.querySelectorAll("form")]
  .filter(form => form.getAttribute("method") === "post")
  .map(form => [form.getAttribute("action"), Object.fromEntries(new FormData(form))])
  .filter(([action]) => !/\\/log(in|out)$/.test(action))"""


class Form(NamedTuple):
    """A form that changes something: where it is sent, and with what."""

    action: str
    fields: dict[str, str | float | bool]


async def forms_of(page: Page) -> list[Form]:
    """List the forms of a screen that change something."""
    return [Form(*found) for found in await page.evaluate(_FORMS)]
