"""Opens pages, and watches them for errors: nothing may fail or run without being noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from browser.hostile import MARK

if TYPE_CHECKING:
    from playwright.async_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Dialog,
        Page,
        Request,
        StorageState,
    )

Scheme = Literal["light", "dark"]
#: How long the page may take to show what it asks for from time to time (ms).
POLLED: Final = 20_000


async def notice(page: Page) -> str:
    """Return what a page says about the last action."""
    return await page.locator(".notice").inner_text()


class Visitor:
    """A person with a browser of their own: cookies, window size and settings."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self._contexts: list[BrowserContext] = []
        self._pages: list[Page] = []
        #: Everything that a page reported: errors on the console, policy violations, exceptions, dialogs.
        self.reports: list[str] = []
        #: Parts of reports that the test expects, such as "status of 403".
        self.expected: list[str] = []

    async def open(
        self,
        path: str = "/",
        *,
        width: int = 1400,
        scheme: Scheme = "light",
        javascript: bool = True,
        state: StorageState | None = None,
        token: str | None = None,
    ) -> Page:
        """Open a page in a new window. A token is sent as the API expects it."""
        headers = {"Authorization": f"Bearer {token}"} if token else None
        context = await self._browser.new_context(
            base_url=self._url,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=javascript,
            storage_state=state,
            extra_http_headers=headers,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(20_000)
        self._contexts.append(context)
        page = await context.new_page()
        self._watch(page)
        self._pages.append(page)
        await page.goto(path)
        return page

    async def sign_in(self, token: str) -> StorageState:
        """Log in with the form. Returns the cookies, with which other windows can open pages."""
        page = await self.open("/login?next=/events")
        await page.locator("input[name=token]").fill(token)
        await page.keyboard.press("Enter")
        await page.wait_for_url(lambda url: urlsplit(url).path != "/login")
        return await page.context.storage_state()

    async def close(self) -> list[str]:
        """Close all windows. Returns the reports that the test does not expect."""
        for page in self._pages:
            if not page.is_closed() and await page.evaluate(f"'{MARK}' in window"):
                self.reports.append(f"hostile code ran on {page.url}")
        for context in self._contexts:
            await context.close()
        return [report for report in self.reports if not any(part in report for part in self.expected)]

    def _watch(self, page: Page) -> None:
        def console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning", "assert"):
                self.reports.append(f"{message.type} on {page.url}: {message.text}")

        def foreign(request: Request) -> None:
            if urlsplit(request.url).netloc != urlsplit(self._url).netloc and request.url[:5] != "data:":
                self.reports.append(f"request from {page.url} to {request.url}")

        async def dialog(opened: Dialog) -> None:
            self.reports.append(f"dialog on {page.url}: {opened.message}")
            await opened.dismiss()

        page.on("console", console)
        page.on("pageerror", lambda error: self.reports.append(f"exception on {page.url}: {error}"))
        page.on("request", foreign)
        page.on("dialog", dialog)
        page.on("popup", self._watch)
