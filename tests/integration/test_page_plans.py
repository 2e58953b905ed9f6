"""The page for many events: dead letters, plans of replays and retries, and their progress."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from browsing import Browser
from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.operator.page import arrival, events, waiting
from gateways import RunGateway, Running
from operators import VALUES, ask, supervised
from pages import Seen, form_of, look, send

CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  shop: {{provider: mando, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}"}}
  ledger: {{url: "{url}/ledger"}}
  archive: {{url: "{url}/archive"}}
routes:
  - {{from: shop, to: app}}
  - {{from: shop, types: "sale.*", to: ledger}}
"""
Fields = list[tuple[str, str]]


class Shop(NamedTuple):
    """A gateway with dead letters."""

    running: Running
    app: ScriptedDestination
    ids: list[str]

    async def send(self, number: int, kind: str) -> str:
        body = providers.body(id=f"evt_{number}", type=kind)
        return str((await self.running.send("shop", body, providers.mando(body)))[1]["id"])

    async def get(self, path: str) -> Any:
        return (await ask(self.running, "GET", f"/api/v1/{path}", {}))[1]

    async def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        return await ask(self.running, "POST", f"/api/v1/{path}", {}, body)

    async def statuses(self) -> dict[str, dict[str, int]]:
        """Count the deliveries in the store by destination and status."""
        found: dict[str, Counter[str]] = {}
        for each in (await self.get("deliveries?limit=100"))["deliveries"]:
            found.setdefault(each["destination"], Counter())[each["status"]] += 1
        return {name: dict(counts) for name, counts in found.items()}

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await holds():  # noqa: ASYNC110 - the store has no signal
                await asyncio.sleep(0.01)

    async def until_statuses(self, **wanted: dict[str, int]) -> None:
        async def are_there() -> bool:
            found = await self.statuses()
            return all(found.get(name) == counts for name, counts in wanted.items())

        await self.until(are_there)

    async def look(self, path: str) -> Seen:
        return await look(self.running, path)

    async def start(self, plan: str, change: Callable[[Fields], Fields] = lambda fields: fields) -> Seen:
        """Send the form of a plan, as a browser does."""
        action = plan.partition("?")[0]
        return await send(self.running, action, change(form_of(await self.look(plan), action)))


@pytest.fixture
async def shop(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Shop]:
    """Run a gateway with six events: dead at `app`, and three of them dead at `ledger` too."""
    destination.always(status(410))
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        shop = Shop(running, destination, [])
        shop.ids.extend(
            [await shop.send(number, ("sale.made", "note.sent")[number % 2]) for number in range(6)]
        )
        await shop.until_statuses(app={"dead": 6}, ledger={"dead": 3})
        destination.always(status(200))
        yield shop


def replaced(name: str, *values: str) -> Callable[[Fields], Fields]:
    return lambda fields: [one for one in fields if one[0] != name] + [(name, value) for value in values]


async def test_dead_letters_are_grouped_explained_and_discarded_with_a_note(shop: Shop) -> None:
    words = (await shop.look("/dead")).words
    for said in ("app 6 dead letters", "ledger 3 dead letters", "The app answered 410", "gone gone 410 6"):
        assert said in words
    seen = await shop.look("/dead?destination=ledger&type=sale.*")
    links = {link.replace("&amp;", "&") for link in seen.links}
    group = "type=sale.%2A&destination=ledger&reason=gone&http_status=410"
    events = f"/events?destination=ledger&{group.replace('destination=ledger&', '')}&status=dead"
    assert "app 6" not in seen.words
    assert any(link.startswith("/dead/retry?") and "http_status=410" in link for link in links)
    (listed,) = (link for link in links if link.startswith("/events?") and "reason=gone" in link)
    assert sorted(listed.partition("?")[2].split("&")) == sorted(events.partition("?")[2].split("&"))
    assert (await shop.look(listed)).words.count("0 of 2") == 3
    assert "None of them matches" in (await shop.look("/dead?destination=app&since=2099-01-01")).words
    assert (await shop.look("/dead?since=soon")).status == 400

    plan = "/dead/discard?destination=ledger&reason=gone"
    assert "3 dead letters" in (await shop.look(plan)).words
    refused = await shop.start(plan)
    assert (refused.status, "The note has to say why" in refused.words) == (400, True)
    assert (await shop.statuses())["ledger"] == {"dead": 3}
    done = await shop.start(plan, replaced("note", "they <b>paid</b>"))
    assert (done.status, done.location) == (303, "/dead")
    assert await shop.statuses() == {"app": {"dead": 6}, "ledger": {"discarded": 3}}
    (entry,) = (await shop.get("audit?action=discard"))["audit"]
    assert (entry["count"], entry["what"]["note"]) == (3, "they <b>paid</b>")
    assert "Nothing to discard" in (await shop.look(plan)).words
    await shop.start("/dead/discard", replaced("note", "all"))
    assert "No dead letters. Every event" in (await shop.look("/dead")).words


async def test_the_plan_of_a_retry_starts_what_it_shows_and_its_progress_is_followed(shop: Shop) -> None:
    await shop.post("destinations/app/pause")
    seen = await shop.look("/dead/retry?type=sale.*")
    for said in (
        "Dead letters of type sale.*, received before",
        "3 events, 6 deliveries",
        "sale.made 3",
        "at most 50/s. That takes at least 1 s.",
        "app is paused. Its deliveries wait until it is resumed.",
        "The deliveries to app wait, and so does the rest of the retry.",
    ):
        assert said in seen.words
    # Without `app`, the numbers are others: they are shown before anything starts.
    changed = await shop.start("/dead/retry?type=sale.*", replaced("to", "ledger"))
    assert (changed.status, (await shop.get("retries"))["retries"]) == (303, [])
    assert changed.location is not None
    assert "Only the dead letters of ledger are retried. " in (await shop.look(changed.location)).words
    nowhere = await shop.start("/dead/retry", replaced("to"))
    assert (nowhere.status, (await shop.get("retries"))["retries"]) == (303, [])

    for rate in ("fast", "0/s"):
        refused = await shop.start(changed.location, replaced("rate", rate))
        assert (refused.status, "Rate must be a number per s, m or h" in refused.words) == (400, True)
        assert f'value="{rate}"' in refused.html
        assert "3 events, 3 deliveries" in refused.words
    started = await shop.start(changed.location, replaced("rate", "100/s"))
    assert started.status == 303
    assert started.location is not None
    await shop.until_statuses(app={"dead": 6}, ledger={"delivered": 3})
    (one,) = (await shop.get("retries"))["retries"]
    assert (one["filter"]["type"], one["to"], one["rate"]) == ("sale.*", ["ledger"], "100/s")

    async def has_ended() -> bool:
        return "3 of 3 events were retried." in (await shop.look(f"{started.location}")).words

    await shop.until(has_ended)
    listed = (await shop.look("/operations")).words
    assert "Retry Dead letters of type sale.*" in listed
    assert "done 3 of 3 0 100/s local" in listed
    assert "3 of 3" in (await shop.look("/operations?kind=retry&state=done&by=local")).words
    assert "No replay or retry matches" in (await shop.look("/operations?state=running")).words


async def test_a_running_operation_says_what_it_waits_for_and_is_stopped(shop: Shop) -> None:
    await shop.post("destinations/app/pause")
    started = (await shop.start("/events/replay?type=note.sent&to=app")).location
    assert started is not None

    async def waits() -> bool:
        return "waiting for app" in (await shop.look("/operations")).words

    await shop.until(waits)
    seen = await shop.look(started)
    assert "Events of type note.sent, received before" in seen.words
    assert "0 of 3" in seen.words
    assert f'data-poll="{started}/progress"' in seen.html
    progress = await ask(shop.running, "GET", f"{started}/progress", {})
    assert progress[0] == 200
    assert progress[1]["text"]["waits"].startswith("app: paused, not reachable")
    assert (progress[1]["shown"], progress[1]["value"], progress[1]["ended"]) == (
        *("state-waiting", {"progress": 0}),
        False,
    )
    stopped = await send(shop.running, f"{started}/stop", form_of(seen, f"{started}/stop"))
    assert stopped.location == started
    (one,) = (await shop.get("replays"))["replays"]
    assert (one["state"], one["done"]) == ("cancelled", 0)
    assert "Stopped after 0 of 3 events" in (await shop.look(started)).words
    assert (await shop.look("/operations/replays/nothing")).status == 404
    assert (await shop.look(started.replace("replays", "others"))).status == 404


async def test_a_replay_goes_where_the_plan_says(shop: Shop) -> None:
    plan = f"/events/replay?id={shop.ids[0]}&id={shop.ids[1]}&id=gone"
    seen = await shop.look(plan)
    assert "2 selected events. 1 more is no longer kept." in seen.words
    done = await shop.start(plan)
    assert done.location == "/events"
    await shop.until_statuses(app={"dead": 4, "delivered": 2}, ledger={"dead": 2, "delivered": 1})
    assert (await shop.look("/events/replay?" + "&".join(f"id={n}" for n in range(51)))).status == 400

    moved = await shop.start("/events/replay?type=note.sent", replaced("to", "archive"))
    assert moved.location is not None
    assert (
        "Each event goes to archive, even if it never went there before."
        in (await shop.look(moved.location)).words
    )
    assert (await shop.start(moved.location)).status == 303
    await shop.until_statuses(archive={"delivered": 3}, app={"dead": 4, "delivered": 2})
    assert "Nothing to replay: no event matches" in (await shop.look("/events/replay?type=x")).words
    assert (await shop.look("/events/replay?reason=x")).status == 400


async def test_two_people_who_start_the_same_retry_start_it_once(shop: Shop) -> None:
    sent = len(shop.app.requests)
    answers = await asyncio.gather(shop.start("/dead/retry"), shop.start("/dead/retry"))
    late = next((one for one in answers if one.status != 303), None)
    await shop.until_statuses(app={"delivered": 6}, ledger={"delivered": 3})
    # Either the first one still ran, and the second one was told; or nothing was left for the second one.
    started = (await shop.get("retries"))["retries"]
    assert [one["done"] for one in started if one["done"]] == [6]
    if late is not None:
        assert (late.status, len(started)) == (409, 1)
        assert "Nothing was started: local has started the same retry" in late.words
    assert len(shop.app.requests) == sent + 9


async def test_the_api_retries_a_dead_letter_once_for_two_equal_requests(shop: Shop) -> None:
    sent = len(shop.app.requests)
    both = await asyncio.gather(*(shop.post("retries", {"all": True, "rate": "20/s"}) for _ in range(2)))
    assert [code for code, _ in both] == [202, 202]
    await shop.until_statuses(app={"delivered": 6}, ledger={"delivered": 3})

    async def have_ended() -> bool:
        return all(one["state"] == "done" for one in (await shop.get("retries"))["retries"])

    await shop.until(have_ended)
    assert sum(one["done"] for one in (await shop.get("retries"))["retries"]) == 6
    assert len(shop.app.requests) == sent + 9


async def test_a_form_that_is_sent_twice_replays_once(shop: Shop) -> None:
    fields = form_of(await shop.look("/events/replay?type=note.sent"), "/events/replay")
    first, second = await asyncio.gather(*(send(shop.running, "/events/replay", fields) for _ in range(2)))
    assert sorted([first.status, second.status]) == [303, 409]
    assert len((await shop.get("replays"))["replays"]) == 1
    again = next(one for one in (first, second) if one.status == 409)
    anyway = await send(shop.running, "/events/replay", form_of(again, "/events/replay"))
    assert anyway.status == 303
    assert len((await shop.get("replays"))["replays"]) == 2


async def test_a_busy_gateway_is_told_on_the_plan(shop: Shop) -> None:
    await shop.post("destinations/app/pause")
    for number in range(16):
        body = {"filter": {"type": "note.sent"}, "to": ["app"], "rate": f"{number + 1}/s"}
        assert (await shop.post("replays", body))[0] == 202
    seen = await shop.start("/events/replay?type=sale.*", replaced("rate", "7/s"))
    assert seen.status == 409
    assert "16 replays and retries are running" in seen.words
    assert 'value="7/s"' in seen.html


async def test_the_role_read_sees_plans_and_changes_nothing(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    tokens = 'operator: {{listen: "127.0.0.1:0", tokens: [{{name: ci, token: env:CI_TOKEN, role: read}}]}}'
    config = CONFIG.replace('operator: {{listen: "127.0.0.1:0"}}', tokens).format(url=destination.url)
    destination.always(status(410))
    async with run_gateway(config, **VALUES) as running, Browser(running.operator_url) as browser:
        await browser.log_in(VALUES["CI_TOKEN"])
        await Shop(running, destination, []).send(1, "sale.made")
        async with asyncio.timeout(10):
            while "1 event, 2 deliveries" not in (await browser.get("/dead/retry")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for path in ("/dead", "/dead/retry", "/events/replay", "/operations", "/dead/discard"):
            seen = await browser.get(path)
            assert (seen.status, "<button class=" in seen.html.partition("<main")[2]) == (
                200,
                path == "/dead",  # the button of the filters
            )
        assert "Your token has the role read" in (await browser.get("/dead/retry")).text


async def test_a_page_that_takes_time_begins_at_once_and_ends_complete(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0)
    monkeypatch.setattr(events, "_PATIENCE", 0)
    for path in (
        "/dead",
        "/dead/retry?type=sale.*",
        "/events/replay",
        "/dead/discard?destination=app",
        "/events?subject=none",
    ):
        waits = "Searching …" if path.startswith("/events?") else "Counting …"
        async with shop.running.client.get(
            shop.running.operator_url + path, headers={"Cookie": "gatehouse_notice=Discarded"}
        ) as answer:
            html = await answer.text()
        assert (answer.status, answer.headers["Transfer-Encoding"]) == (200, "chunked")
        assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
        assert 'gatehouse_notice=""' in answer.headers["Set-Cookie"]
        for once in ("<main", "</main>", "<h1>", "</html>", waits, "Discarded</p>"):
            assert html.count(once) == 1, (path, once)
    assert "3 events, 6 deliveries" in (await shop.look("/dead/retry?type=sale.*")).words
    assert "Reason must be one of" in (await shop.look("/events/replay?reason=x")).words


async def test_the_time_that_a_request_has_waited_for_the_page_counts_for_its_beginning(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 3600)
    monkeypatch.setattr(waiting, "_LEAST_SHARE", 0)
    url = shop.running.operator_url + "/dead/retry"
    for waited, is_begun in ((0, False), (3600, True)):
        monkeypatch.setattr(arrival, "seconds_ago", lambda _, waited=waited: waited)
        async with shop.running.client.get(url) as answer:
            assert ("Counting …" in await answer.text()) == is_begun


async def test_in_front_of_workers_a_plan_is_shown_to_readers_and_started_by_others(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    destination.always(status(410))
    async with supervised(destination.url, tmp_path) as (running, url), Browser(url) as browser:
        body = providers.body(id="evt_1", type="sale.created")
        await running.send("mando", body, providers.mando(body))
        await browser.log_in(VALUES["CI_TOKEN"])
        async with asyncio.timeout(10):
            while "1 event, 1 delivery" not in (await browser.get("/dead/retry")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        destination.always(status(200))
        await browser.log_in(VALUES["ALICE"])
        form = {"was": "app", "to": "app", "form_token": await browser.form_token()}
        seen = await browser.post("/dead/retry", form)
        assert seen.status == 303
        assert "Started by alice" in (await browser.get(seen.headers["location"])).text
        assert (await destination.wait_for(2))[1].attempt == 2
