"""Plans, replays and retries of many events, and discarding many dead letters."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from browser.accessibility import violations
from browser.deployment import Deployment
from browser.watching import Visitor, notice
from doubles.destination import status

if TYPE_CHECKING:
    from playwright.async_api import Page, StorageState


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _operation(deployment: Deployment, page: Page) -> dict[str, Any]:
    """Read the operation that a page shows."""
    kind, operation_id = urlsplit(page.url).path.split("/")[-2:]
    operation: dict[str, Any] = await deployment.read(f"{kind}/{operation_id}")
    return operation


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_planned_retry_can_be_stopped_and_started_again(
    visitor: Visitor, operator: StorageState, deployment: Deployment, *, javascript: bool
) -> None:
    since = _now()
    events = [await deployment.make_dead_letter() for _ in range(3)]
    dead = f"/dead?destination=ledger&since={since}"
    page = await visitor.open(dead, state=operator, javascript=javascript)
    assert await page.locator("table.groups a.row").all_inner_texts() == ["3"]
    with deployment.app.answering("/ledger", status(200)):
        await page.get_by_role("link", name="Plan a retry of all that match").click()
        assert "3 events, 3 deliveries" in await page.locator("main").inner_text()
        await page.locator("input[name=rate]").fill("1/m")
        await page.get_by_role("button", name="Start the retry").click()
        await page.wait_for_url("**/operations/retries/*")
        assert (await _operation(deployment, page))["state"] == "running"
        if javascript:
            assert await violations(page) == []
        await page.get_by_role("button", name="Stop the retry").click()
        assert "stopped" in await notice(page)
        stopped = await _operation(deployment, page)
        assert (stopped["state"], stopped["by"]) == ("cancelled", "operator")
        assert await page.get_by_role("button", name="Stop the retry").count() == 0

        await page.goto(dead.replace("/dead?", "/dead/retry?"))
        await page.locator("input[name=rate]").fill("1000/s")
        await page.get_by_role("button", name="Start the retry").click()
        await page.wait_for_url("**/operations/retries/*")
        for event_id in events:
            await deployment.until_delivery(event_id, "ledger", "delivered")
    assert [deployment.app.received("/ledger").count(one) for one in events] == [2, 2, 2]
    if javascript:
        # The texts change in place, without a reload.
        await page.locator("[data-shown=state-done]").wait_for(state="visible")
    else:
        await page.reload()
    assert (await _operation(deployment, page))["state"] == "done"
    await page.goto("/operations")
    assert "retry" in (await page.locator("table a.row").first.inner_text()).lower()
    if javascript:
        assert await violations(page) == []
    await page.goto(dead)
    assert await page.locator("table.groups").count() == 0


async def test_a_planned_replay_goes_to_the_chosen_destination(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    since = _now()
    events = [await deployment.accept(deployment.providers.request("repos", "push")) for _ in range(3)]
    page = await visitor.open(f"/events?source=repos&since={since}", state=operator)
    await page.get_by_role("link", name="Plan a replay of all that match").click()
    await page.locator("input[name=to][value=archive]").uncheck()
    await page.locator("input[name=to][value=billing]").check()
    await page.get_by_role("button", name="Start the replay").click()
    if not urlsplit(page.url).path.startswith("/operations/"):
        # The choice has changed, so the plan is shown once more with its numbers.
        await page.get_by_role("button", name="Start the replay").click()
    await page.wait_for_url("**/operations/replays/*")
    for event_id in events:
        await deployment.until_delivery(event_id, "billing", "delivered")
    assert [deployment.app.received("/archive").count(one) for one in events] == [1, 1, 1]


async def test_selected_events_are_replayed(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    since = _now()
    events = [await deployment.accept(deployment.providers.request("repos", "push")) for _ in range(3)]
    for event_id in events:
        await deployment.until_delivery(event_id, "archive", "delivered")
    page = await visitor.open(f"/events?source=repos&since={since}", state=operator)
    for event_id in events[:2]:
        await page.locator(f"input[name=id][value='{event_id}']").check()
    await page.get_by_role("button", name="Plan a replay of the selected").click()
    assert "2 selected events" in await page.locator("main").inner_text()
    await page.get_by_role("button", name="Replay these 2 events").click()
    await page.locator(".notice").wait_for()

    async def are_replayed() -> bool:
        return [deployment.app.received("/archive").count(one) for one in events] == [2, 2, 1]

    await deployment.until(are_replayed)


async def test_dead_letters_are_discarded_with_a_note(
    visitor: Visitor, operator: StorageState, deployment: Deployment
) -> None:
    since = _now()
    events = [await deployment.make_dead_letter() for _ in range(2)]
    page = await visitor.open(f"/dead/discard?destination=ledger&since={since}", state=operator)
    await page.locator("input[name=note]").fill("accounts of the load test")
    await page.get_by_role("button", name="Discard 2").click()
    await page.locator(".notice").wait_for()
    found = [await deployment.delivery(event_id, "ledger") for event_id in events]
    assert {(one["status"], one["note"], one["discarded_by"]) for one in found} == {
        ("discarded", "accounts of the load test", "operator")
    }


async def test_an_export_has_one_line_for_each_event(
    visitor: Visitor, operator: StorageState, hostile: dict[str, str]
) -> None:
    page = await visitor.open("/events?source=partner", state=operator)
    async with page.expect_download() as started:
        await page.get_by_role("link", name="Export all that match").click()
    file = await (await started.value).path()
    found = [json.loads(line)["id"] for line in file.read_text().strip().split("\n")]
    assert len(set(found)) == len(found)
    assert set(found) >= {event_id for name, event_id in hostile.items() if name != "reply"}
