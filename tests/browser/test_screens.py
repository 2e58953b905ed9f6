"""Every screen shows data, fits windows of all sizes, is accessible, and reports no error."""

from __future__ import annotations

import pytest
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import StorageState

from browser.accessibility import overflow, sideways, uneven_rows, violations
from browser.watching import Visitor

WIDTHS = (1400, 800, 360)

#: Path, and text that the traffic must have put there. `{name}` stands for an id that `ids` has.
SCREENS = {
    "/": ["breaker open", "SUPPORT_SECRET", "paused", "dead letter", "stale_timestamp"],
    "/events": ["delivered"],
    "/events?source=payments": ["payment_intent.succeeded", "invoice.paid"],
    "/events?source=shop&status=pending": ["orders/create"],
    "/events/{rejected}": [
        "invoice.payment_failed",
        "refused by the app",
        "unknown account",
        "Attempt 1",
        "billing",
    ],
    "/events/{timeout}": ["products/update", "search", "Attempt 1"],
    "/events?type=no.such.type": ["No event matches"],
    "/refused": ["X-Hub-Signature-256", "wrong_signature"],
    "/refused/{old}": [
        "stale_timestamp",
        "raise timestamp.tolerance in sources.payments",
        "POST /webhooks/payments",
        "t=17",
    ],
    "/live": ["connected"],
    "/destinations": ["breaker open", "paused", "search"],
    "/destinations/crm": ["breaker open: 3 events failed", "server_error", "customers/create"],
    "/sources": ["not ready", "partner"],
    "/sources/payments": ["https://hooks.example.com/webhooks/payments", "env:PAYMENTS_SECRET"],
    "/dead": ["ledger", "rejected", "gone", "timeout"],
    "/dead/retry": ["Plan a retry", "ledger", "idempotency key"],
    "/dead/discard?destination=ledger": ["Discard dead letters", "rejected"],
    "/events/replay?source=shop": ["Plan a replay", "orders/create", "paused"],
    "/operations": ["Replays and retries"],
    "/system/reload": ["The file has no changes"],
    "/system/audit": ["operator"],
    "/system": ["gateway.yaml", "Latest changes"],
    "/login": ["Operator token"],
    "/no-such-screen": ["Not found"],
}


@pytest.mark.parametrize("path", SCREENS)
async def test_a_screen_shows_data_at_every_width_in_light_and_dark(
    visitor: Visitor, operator: StorageState, ids: dict[str, str], path: str
) -> None:
    if path == "/no-such-screen":
        visitor.expected.append("status of 404")
    page = await visitor.open(path.format(**ids), state=None if path == "/login" else operator)
    main = page.locator("main")
    while "being examined" in await main.inner_text():  # the screen does not wait for slow findings
        await page.reload()
    for text in SCREENS[path]:
        await main.filter(has_text=text).wait_for()
    assert await page.title() != ""
    assert await page.locator("h1").count() == 1
    found: dict[str, object] = {}
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 900})
        found[f"overflow at {width}"] = await overflow(page)
    found["sideways at 360"] = await sideways(page)
    found["axe, 360, light"] = await violations(page)
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    found["axe, 1400, dark"] = await violations(page)
    found["uneven rows at 1400"] = await uneven_rows(page)
    assert {name: value for name, value in found.items() if value} == {}


async def test_every_screen_works_without_javascript(
    visitor: Visitor, operator: StorageState, ids: dict[str, str]
) -> None:
    visitor.expected.append("status of 404")
    page = await visitor.open("/", state=operator, javascript=False)
    for path, texts in SCREENS.items():
        if path not in ("/live", "/login"):
            await page.goto(path.format(**ids))
            shown = await page.locator("main").inner_text()
            assert [text for text in texts if text not in shown] == [], path
            assert await page.locator(".needs-script:visible").count() == 0, path
    await page.goto("/live")
    assert "needs JavaScript" in await page.locator("main").inner_text()
    await page.goto("/events?source=shop")
    await page.locator("select[name=source]").select_option("repos")
    await page.get_by_role("button", name="Filter").click()
    assert "source=repos" in page.url
    assert "orders/create" not in await page.locator("main").inner_text()


async def test_the_checks_of_these_tests_find_faults(visitor: Visitor) -> None:
    page = await visitor.open("/login")
    await page.evaluate(
        """() => {
          const added = document.querySelector("main").appendChild(document.createElement("p"));
          Object.assign(added.style, {width: "2000px", color: "#bbb", background: "#fff"});
          added.textContent = "gray on white";
          console.error("an error of the test");
        }"""
    )
    assert await overflow(page) > 500
    assert [fault for fault in await violations(page) if fault.startswith("color-contrast")]
    assert "an error of the test" in "".join(visitor.reports)
    # Trusted types: the policy forbids markup from scripts.
    with pytest.raises(PlaywrightError, match="TrustedHTML"):
        await page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b>markup</b>')")
    await page.evaluate("fetch('https://other.example').catch(() => null)")
    assert "Content Security Policy" in "".join(visitor.reports)
    visitor.reports.clear()
