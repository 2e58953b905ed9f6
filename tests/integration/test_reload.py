"""A reload uses the whole file or nothing of it, and loses no request and no event."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, once, status
from gateways import RunGateway, Running

CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: ["file:secret"]}
destinations:
  app: {url: "%s", retry: {first: 10ms, max: 20ms}}
routes:
  - {from: mando, to: app}
"""
OTHER_SECRET = "another-secret-of-some-length"
PENDING = "gatehouse_deliveries_pending"

Start = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path, destination: ScriptedDestination) -> Path:
    """Write the config file for the gateways of this module, and return it."""
    (tmp_path / "secret").write_text(providers.SECRET)
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG % destination.url)
    return file


@pytest.fixture
async def running(run_gateway: RunGateway, file: Path) -> AsyncIterator[Running]:
    """Run a gateway with that file."""
    async with run_gateway(file.read_text()) as gateway:
        yield gateway


def rewrite(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


_numbers = itertools.count()


async def send(running: Running, source: str = "mando", *, secret: str = providers.SECRET) -> tuple[int, Any]:
    body = providers.body(id=f"evt_{next(_numbers)}", type="sale.created")
    return await running.send(source, body, providers.mando(body, secret=secret))


async def post_reload(running: Running, **headers: str) -> tuple[int, Any]:
    async with running.client.post(f"{running.operator_url}/-/reload", headers=headers) as answer:
        return answer.status, await answer.json()


async def show(running: Running, name: str) -> Any:
    async with running.client.get(f"{running.operator_url}/api/v1/{name}") as answer:
        return await answer.json()


def lines(logged: io.StringIO, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, logged.getvalue().splitlines()) if line["event"] == event]


@pytest.mark.alone
@pytest.mark.case("O-06")
async def test_a_hundred_reloads_under_load_fail_no_request_and_lose_no_event(
    running: Running, file: Path, destination: ScriptedDestination
) -> None:
    answers: list[asyncio.Task[tuple[int, Any]]] = []
    turns: asyncio.Queue[None] = asyncio.Queue()

    async def load() -> None:
        while True:
            answers.append(asyncio.create_task(send(running)))
            if len(answers) % 9 == 0:
                turns.put_nowait(None)
            await asyncio.sleep(1 / 300)

    with_more = file.read_text().replace(
        "destinations:\n  app: {",
        "  more: {provider: mando, secrets: [file:secret]}\ndestinations:\n  app: {rate: 100000/s, ",
    )
    texts = itertools.cycle([with_more, file.read_text()])
    loading = asyncio.create_task(load())
    for _ in range(100):
        await turns.get()
        file.write_text(next(texts))
        result = await running.gateway.reload()
        assert result.changes is not None
        assert result.changes.destinations.changed == ("app",)
    loading.cancel()
    done = await asyncio.gather(*answers)

    assert len(done) >= 900
    assert [answer for status, answer in done if status != 200] == []
    await running.until(("gatehouse_deliveries_total", "app", "delivered"), len(done))
    assert sorted(one.event_id for one in destination.requests) == sorted(answer["id"] for _, answer in done)


async def test_a_new_route_applies_from_the_next_request_on(
    running: Running, file: Path, destination: ScriptedDestination
) -> None:
    rewrite(file, ("from: mando", 'from: mando, types: ["refund.*"]'))
    assert (await running.gateway.reload()).problems == ()

    unwanted = await send(running)
    rewrite(file, ("refund", "sale"))
    await running.gateway.reload()
    wanted = await send(running)

    (request,) = await destination.wait_for(1)
    assert (unwanted[0], wanted[0]) == (200, 200)
    assert request.event_id == wanted[1]["id"]


@pytest.mark.case("S-13")
async def test_a_removed_secret_no_longer_verifies(running: Running, file: Path) -> None:
    (file.parent / "old").write_text(OTHER_SECRET)
    rewrite(file, ('["file:secret"]', '["file:secret", "file:old"]'))
    await running.gateway.reload()
    assert (await send(running))[0] == (await send(running, secret=OTHER_SECRET))[0] == 200

    rewrite(file, (', "file:old"', ""))
    await running.gateway.reload()

    assert (await send(running, secret=OTHER_SECRET))[0] == 401
    assert (await send(running))[0] == 200


async def test_a_replaced_secret_file_is_read_again(
    running: Running, file: Path, logged: io.StringIO
) -> None:
    (file.parent / "secret").write_text(OTHER_SECRET)
    result = await running.gateway.reload()

    assert result.changes is not None
    assert result.changes.sources.changed == ("mando",)
    assert (await send(running))[0] == 401
    assert (await send(running, secret=OTHER_SECRET))[0] == 200
    assert lines(logged, "config.reloaded")[0]["sources_changed"] == ["mando"]
    assert OTHER_SECRET not in logged.getvalue()


@pytest.mark.case("O-06")
async def test_an_invalid_file_changes_nothing_and_reports_every_problem(
    running: Running, file: Path, logged: io.StringIO
) -> None:
    rewrite(
        file,
        ("routes:", "routs:"),
        ("retry: {first: 10ms", "retry: {first: soon"),
        ("sources:", "sources:\n  new: {provider: mando, secrets: [file:secret]}"),
    )
    answered, answer = await post_reload(running)

    assert answered == 400
    problems = answer["error"]["problems"]
    assert answer["error"]["code"] == "bad_config"
    assert [problem["path"] for problem in problems] == ["destinations.app.retry.first", "routs"]
    assert problems[0]["line"] == 8
    (failed,) = lines(logged, "config.reload_failed")
    assert len(failed["problems"]) == 2
    assert (await running.metrics())["gatehouse_config_last_reload_successful",] == 0
    assert (await send(running, "new"))[0] == 404
    assert (await send(running))[0] == 200

    rewrite(file, ("routs:", "routes:"), ("first: soon", "first: 10ms"))
    assert (await post_reload(running))[0] == 200
    assert (await running.metrics())["gatehouse_config_last_reload_successful",] == 1
    assert (await send(running, "new"))[0] == 200


async def test_a_dry_run_reports_the_changes_or_problems_of_a_reload_and_changes_nothing(
    running: Running, file: Path, logged: io.StringIO
) -> None:
    async def ask(body: Any) -> tuple[int, Any]:
        async with running.client.post(f"{running.operator_url}/-/reload", json=body) as answer:
            return answer.status, await answer.json()

    metrics, before, before_text = await running.metrics(), running.gateway.config, file.read_text().lstrip()
    at = (await show(running, "status"))["reload"]
    shop = '  shop: {provider: mando, secrets: "file:other"}\ndestinations:'
    rewrite(
        file, ("destinations:", shop), ("max: 20ms", "max: 30ms"), ('server: {listen: "127.0.0.1:0"}', "")
    )
    answered, found = await ask({"dry_run": True})
    assert (answered, found["status"], found["dry_run"]) == (200, "checked", True)
    assert found["sources"] == {"added": ["shop"], "removed": [], "changed": []}
    assert (found["destinations"]["changed"], found["needs_restart"]) == (["app"], ["server.listen"])
    assert "other" in found["not_ready"][0]
    assert (await send(running, "shop"))[0] == 404

    rewrite(file, ('{provider: mando, secrets: ["file:secret"]', '{provider: nope, secrets: ["file:secret"]'))
    answered, refused = await ask({"dry_run": True})
    assert (answered, refused["error"]["problems"][0]["path"]) == (400, "sources.mando.provider")
    assert running.gateway.config is before
    assert (await show(running, "status"))["reload"] == at
    names = [
        ("gatehouse_config_last_reload_" + name,) for name in ("successful", "success_timestamp_seconds")
    ]
    after = await running.metrics()
    assert [after[name] for name in names] == [metrics[name] for name in names]
    assert (await show(running, "audit"))["audit"] == []
    assert not lines(logged, "config.reloaded") + lines(logged, "config.reload_failed")

    for body in ({"dry_run": 1}, {"dryrun": True}, ["dry_run"]):
        assert (await ask(body))[0] == 400
    rewrite(file, ("provider: nope", "provider: mando"))
    old = await show(running, "config")
    assert old == {"file": str(file), "loaded": at["at"], "text": before_text, "needs_restart": []}
    answered, done = await ask({"dry_run": False})
    assert (answered, done) == (
        200,
        found | {"status": "reloaded", "dry_run": False, "sha256": done["sha256"]},
    )
    assert done["sha256"] == found["sha256"]
    new = await show(running, "config")
    assert (new["text"], new["needs_restart"]) == (file.read_text().lstrip(), ["server.listen"])
    assert new["loaded"] > old["loaded"]


async def test_a_missing_file_changes_nothing(running: Running, file: Path) -> None:
    before = (await running.metrics())["gatehouse_config_last_reload_success_timestamp_seconds",]
    file.unlink()
    result = await running.gateway.reload()

    assert [problem.message for problem in result.problems] == ["can't be read: No such file or directory"]
    assert (await send(running))[0] == 200
    found = await running.metrics()
    assert found["gatehouse_config_last_reload_successful",] == 0
    assert found["gatehouse_config_last_reload_success_timestamp_seconds",] == before > 0


async def test_a_missing_secret_does_not_stop_a_part_that_serves(running: Running, file: Path) -> None:
    (file.parent / "secret").unlink()
    result = await running.gateway.reload()

    (problem,) = result.problems
    assert (problem.line, problem.path) == (5, "sources.mando")
    assert problem.message == "file:secret can't be read: No such file or directory"
    assert (await send(running))[0] == 200


async def test_a_new_source_without_its_secret_is_not_ready(running: Running, file: Path) -> None:
    rewrite(file, ("sources:", "sources:\n  new: {provider: mando, secrets: [file:later]}"))
    result = await running.gateway.reload()

    assert result.not_ready == ("source new: file:later can't be read: No such file or directory",)
    assert (await send(running, "new"))[0] == 503
    assert (await running.metrics())["gatehouse_source_ready", "new"] == 0

    (file.parent / "later").write_text(providers.SECRET)
    assert (await running.gateway.reload()).not_ready == ()
    assert (await send(running, "new"))[0] == 200
    assert (await running.metrics())["gatehouse_source_ready", "new"] == 1


async def test_simultaneous_reloads_run_one_after_the_other(running: Running, file: Path) -> None:
    rewrite(file, ("sources:", "sources:\n  new: {provider: mando, secrets: [file:secret]}"))
    results = await asyncio.gather(*(running.gateway.reload() for _ in range(5)))

    assert [bool(result.changes and result.changes.sources) for result in results] == [True] + [False] * 4


async def test_a_request_in_progress_finishes_with_its_old_config(
    running: Running, file: Path, destination: ScriptedDestination
) -> None:
    body = providers.body(id="evt_slow", type="sale.created")
    head = "".join(f"{name}: {value}\r\n" for name, value in providers.mando(body).items())
    port = running.gateway.ingest.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /webhooks/mando HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        f"Expect: 100-continue\r\n{head}\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    rewrite(file, ("mando: {", "renamed: {"), ("from: mando", "from: renamed"))
    await running.gateway.reload()

    writer.write(body)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    (request,) = await destination.wait_for(1)
    assert b"evt_slow" in request.body
    assert (await send(running))[0] == 404
    assert (await send(running, "renamed"))[0] == 200
    writer.close()
    await writer.wait_closed()


async def test_the_series_of_a_source_are_created_and_removed_with_it(running: Running, file: Path) -> None:
    rewrite(file, ("mando: {", "renamed: {"), ("from: mando", "from: renamed"))
    await running.gateway.reload()

    found = await running.metrics()
    assert found["gatehouse_requests_total", "accepted", "renamed"] == 0
    assert found["gatehouse_source_ready", "renamed"] == 1
    assert not [series for series in found if "mando" in series]


async def test_pending_deliveries_go_to_the_new_url_of_a_destination(
    running: Running, file: Path, destination: ScriptedDestination
) -> None:
    answered = asyncio.Event()
    destination.always(once(answered, status(200)))
    rewrite(file, ("app: {", "app: {concurrency: 1, "))
    await running.gateway.reload()
    first, second = (await send(running))[1]["id"], (await send(running))[1]["id"]
    await destination.wait_for(1)

    async with ScriptedDestination() as moved:
        rewrite(file, (destination.url, moved.url))
        await running.gateway.reload()
        (request,) = await moved.wait_for(1)
        assert request.event_id == second
        answered.set()
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), 2)
        assert [one.event_id for one in destination.requests] == [first]
        assert len(moved.requests) == 1


async def test_a_failed_attempt_is_retried_with_the_new_settings(
    running: Running, file: Path, destination: ScriptedDestination
) -> None:
    answered = asyncio.Event()
    destination.always(once(answered, status(500)))
    event_id = (await send(running))[1]["id"]
    await destination.wait_for(1)

    async with ScriptedDestination() as moved:
        rewrite(file, (destination.url, moved.url))
        await running.gateway.reload()
        answered.set()
        (request,) = await moved.wait_for(1)
        assert (request.event_id, request.attempt) == (event_id, 2)


async def test_an_unchanged_destination_keeps_its_circuit_breaker(
    running: Running, file: Path, destination: ScriptedDestination
) -> None:
    destination.always(status(500))
    for _ in range(5):
        await send(running)
    await running.until(("gatehouse_breaker_open", "app"), 1)
    rewrite(file, ("sources:", "sources:\n  new: {provider: mando, secrets: [file:secret]}"))
    await running.gateway.reload()
    assert (await running.metrics())["gatehouse_breaker_open", "app"] == 1

    destination.always(status(200))
    rewrite(file, ("app: {", "app: {concurrency: 2, "))
    await running.gateway.reload()
    await running.until(("gatehouse_deliveries_total", "app", "delivered"), 5)
    assert (await running.metrics())["gatehouse_breaker_open", "app"] == 0


@pytest.mark.case("O-13")
async def test_deliveries_of_a_removed_destination_stay_visible_and_are_sent_when_it_returns(
    running: Running, file: Path, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    await destination.stop()
    for _ in range(3):
        await send(running)
    whole = file.read_text()
    file.write_text(whole.partition("destinations:")[0])
    result = await running.gateway.reload()
    assert result.changes is not None
    assert result.changes.destinations.removed == ("app",)

    async with asyncio.timeout(10):
        while not lines(logged, "destination.parked"):  # noqa: ASYNC110 - a log is polled
            await asyncio.sleep(0.01)
    assert lines(logged, "destination.parked")[0]["pending"] == 3
    assert (await running.metrics())[PENDING, "app"] == 3
    assert (await running.gateway._dispatcher._store.counts())["app"].pending == 3

    await destination.start()
    file.write_text(whole)
    await running.gateway.reload()
    await running.until(("gatehouse_deliveries_total", "app", "delivered"), 3)
    assert (await running.metrics())[PENDING, "app"] == 0


async def test_the_series_of_a_removed_destination_are_removed_when_nothing_is_pending(
    running: Running, file: Path, destination: ScriptedDestination
) -> None:
    await send(running)
    await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)
    file.write_text(file.read_text().partition("destinations:")[0])
    await running.gateway.reload()

    async with asyncio.timeout(10):
        while (PENDING, "app") in await running.metrics():  # noqa: ASYNC110 - metrics are polled
            await asyncio.sleep(0.01)
    assert not [series for series in await running.metrics() if "app" in series]


async def test_a_paused_destination_stays_paused_when_it_changes(
    running: Running, file: Path, destination: ScriptedDestination
) -> None:
    await running.gateway._dispatcher.pause("app")
    rewrite(file, ("app: {", "app: {concurrency: 2, "))
    await running.gateway.reload()
    await send(running)

    found = await running.metrics()
    assert found["gatehouse_destination_paused", "app"] == 1
    assert destination.requests == []
    await running.gateway._dispatcher.resume("app")
    await destination.wait_for(1)


async def test_settings_that_need_a_restart_are_named_and_the_rest_is_applied(
    running: Running, file: Path, logged: io.StringIO
) -> None:
    rewrite(
        file,
        ('server: {listen: "127.0.0.1:0"}', 'server: {listen: "127.0.0.1:1", max_body: 100B}'),
        (
            'operator: {listen: "127.0.0.1:0"}',
            'operator: {listen: "127.0.0.1:2"}\nstore: {url: "sqlite:///other.db"}',
        ),
    )
    answered, answer = await post_reload(running)

    assert answered == 200
    assert answer["needs_restart"] == ["server.listen", "operator.listen", "store.url"]
    assert answer["settings"] == ["server.max_body"]
    assert lines(logged, "config.needs_restart")[0]["keys"] == answer["needs_restart"]
    body = providers.body(id="evt_long", text="x" * 100)
    assert (await running.send("mando", body, providers.mando(body)))[0] == 413
    assert (await send(running))[0] == 200


async def test_rejected_requests_are_still_listed_after_a_reload(running: Running, file: Path) -> None:
    assert (await send(running, secret=OTHER_SECRET))[0] == 401
    rewrite(file, ("sources:", "sources:\n  new: {provider: mando, secrets: [file:secret]}"))
    await running.gateway.reload()

    async with running.client.get(f"{running.operator_url}/api/v1/rejected") as answer:
        (refused,) = (await answer.json())["rejected"]
    assert refused["source"] == "mando"
    async with running.client.get(f"{running.operator_url}/api/v1/sources") as answer:
        assert [source["name"] for source in (await answer.json())["sources"]] == ["new", "mando"]


async def test_an_event_seen_before_a_reload_is_a_duplicate_after_it(running: Running, file: Path) -> None:
    body = providers.body(id="evt_twice", type="sale.created")
    await running.send("mando", body, providers.mando(body))
    rewrite(file, ("app: {", "app: {concurrency: 2, "))
    await running.gateway.reload()

    _, answer = await running.send("mando", body, providers.mando(body))
    assert answer["status"] == "duplicate"


async def test_a_gateway_does_not_reload_before_its_start_or_after_its_end(
    run_gateway: RunGateway, file: Path
) -> None:
    async with run_gateway(file.read_text()) as running:
        gateway = running.gateway
        assert (await gateway.reload()).problems == ()
    (problem,) = (await gateway.reload()).problems
    assert problem.message == "can't be reloaded while the gateway starts or stops"


async def test_the_token_is_required_and_can_be_replaced(running: Running, file: Path) -> None:
    (file.parent / "token").write_text("operator-token-of-some-length")
    rewrite(
        file, ('operator: {listen: "127.0.0.1:0"}', 'operator: {listen: "127.0.0.1:0", token: "file:token"}')
    )
    assert (await post_reload(running))[0] == 200
    assert (await post_reload(running))[0] == 401

    (file.parent / "token").write_text("another-token-of-some-length")
    old, new = "Bearer operator-token-of-some-length", "Bearer another-token-of-some-length"
    assert (await post_reload(running, Authorization=old))[0] == 200
    assert (await post_reload(running, Authorization=old))[0] == 401
    assert (await post_reload(running, Authorization=new))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://[", "Sec-Fetch-Site": "same-origin"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain;charset=UTF-8"},
        {"Content-Type": "multipart/form-data; boundary=x"},
    ],
)
@pytest.mark.case("S-51")
async def test_a_page_of_another_site_cannot_reload(
    running: Running, logged: io.StringIO, headers: dict[str, str]
) -> None:
    answered, answer = await post_reload(running, **headers)

    assert (answered, answer["error"]["code"]) == (403, "cross_site")
    assert lines(logged, "config.reloaded") == []


async def test_a_tool_and_the_gateways_own_page_can_reload(running: Running) -> None:
    own = running.operator_url
    assert (await post_reload(running))[0] == 200
    assert (await post_reload(running, Origin=own))[0] == 200
    assert (await post_reload(running, **{"Origin": own, "Sec-Fetch-Site": "same-origin"}))[0] == 200
    async with running.client.get(f"{own}/-/reload") as answer:
        assert answer.status == 405
