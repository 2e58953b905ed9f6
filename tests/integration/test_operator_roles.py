"""Roles over real sockets: what a token with the role `read` may do, also through a supervisor."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.operator.page.entrance import DATA_PATHS
from gatehouse.operator.server import PUBLIC_PATHS
from gateways import CONFIG, RunGateway, Running
from operators import ALICE, CI, OPERATOR, VALUES, WITH_TOKENS, ask, supervised

REFUSED = ("gatehouse_operator_refused_total", "forbidden")


@pytest.fixture
async def running(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run a gateway with three tokens."""
    async with run_gateway(WITH_TOKENS.format(url=destination.url), **VALUES) as gateway:
        yield gateway


#: A POST that changes nothing.
TRIES_ROUTES = ("POST", "/api/v1/routes")


def routes(running: Running) -> list[tuple[str, str]]:
    """Return method and path of each route of the API that needs a token, with a value for each parameter."""
    resources = ((route.method, route.resource) for route in running.gateway.operator.app().router.routes())
    return [
        (method, str(URL(resource.canonical.replace("{id}", "x").replace("{name}", "app"))))
        for method, resource in resources
        if resource is not None
        and resource.canonical.startswith(DATA_PATHS)
        and resource.canonical not in PUBLIC_PATHS
    ]


async def test_the_role_read_may_get_everything(running: Running) -> None:
    answered = {}
    for method, path in routes(running):
        if method in ("GET", "HEAD"):
            url = running.operator_url + path
            async with running.client.request(method, url, headers=CI) as answer:
                answered[method, path] = answer.status

    assert len(answered) > 10
    assert not {asked: code for asked, code in answered.items() if code not in (200, 400, 404)}


@pytest.mark.case("S-59")
async def test_the_role_read_is_refused_on_every_route_that_changes_something(running: Running) -> None:
    changing = [
        (method, path)
        for method, path in routes(running)
        if method not in ("GET", "HEAD") and (method, path) != TRIES_ROUTES
    ]
    for method, path in changing:
        code, answer = await ask(running, method, path, CI, {})
        assert (code, answer["error"]["code"]) == (403, "forbidden"), (method, path)
        assert answer["error"]["message"] == (
            "this needs a token with the role operate; ci has the role read"
        )

    assert len(changing) > 5
    method, path = TRIES_ROUTES
    assert (await ask(running, method, path, CI, {"source": "mando", "body": "{}"}))[0] == 200
    running.client.headers.update(OPERATOR)
    assert (await running.metrics())[REFUSED] == len(changing)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/metrics", "/api/v1/events", "/api/v1/nothing", "/nothing"])
async def test_the_role_read_is_refused_for_methods_that_no_route_has(
    running: Running, method: str, path: str
) -> None:
    assert (await ask(running, method, path, CI))[0] == 403


async def test_the_role_read_gets_json_for_a_body_that_is_too_long(running: Running) -> None:
    body = {"all": True, "dry_run": True, "rate": "1" * 70_000}
    for headers in (CI, ALICE):
        code, answer = await ask(running, "POST", "/api/v1/replays", headers, body)
        assert (code, answer["error"]["code"]) == (413, "request_entity_too_large")


@pytest.mark.parametrize("headers", [OPERATOR, ALICE])
async def test_the_role_operate_may_change_things(running: Running, headers: dict[str, str]) -> None:
    code, answer = await ask(running, "POST", "/api/v1/destinations/app/pause", headers)

    assert (code, answer["paused"]) == (200, True)


@pytest.mark.case("S-59")
async def test_the_role_read_may_ask_what_a_retry_would_do(
    running: Running, destination: ScriptedDestination
) -> None:
    destination.always(status(410))
    body = providers.body(id="evt_1", type="sale.created")
    await running.send("mando", body, providers.mando(body))
    await destination.wait_for(1)
    running.client.headers.update(OPERATOR)
    await running.until(("gatehouse_deliveries_dead", "app"), 1)
    del running.client.headers["Authorization"]

    path = "/api/v1/deliveries/retry"
    assert await ask(running, "POST", path, CI, {"all": True, "dry_run": True}) == (
        200,
        {"would_retry": {"app": 1}, "cursor": None},
    )
    for body_of in ({"all": True}, {"all": True, "dry_run": False}, {"dry_run": 1}, ["dry_run"], "dry_run"):
        assert (await ask(running, "POST", path, CI, body_of))[0] == 403
    twice = b'{"all": true, "dry_run": true, "dry_run": false}'
    async with running.client.post(running.operator_url + path, headers=CI, data=twice) as answer:
        assert answer.status == 403
    assert (await ask(running, "POST", "/api/v1/destinations/app/pause", CI, {"dry_run": True}))[0] == 403
    code, checked = await ask(running, "POST", "/-/reload", CI, {"dry_run": True})
    assert (code, checked.get("status", "refused")) in ((200, "checked"), (400, "refused"))


async def test_everyone_on_this_machine_may_operate_without_a_token(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        assert (await ask(running, "POST", "/api/v1/destinations/app/pause", {}))[0] == 200


async def test_one_missing_token_does_not_lock_out_the_others(
    run_gateway: RunGateway, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    present = {name: value for name, value in VALUES.items() if name != "CI_TOKEN"}
    async with run_gateway(WITH_TOKENS.format(url=destination.url), **present) as running:
        assert (await ask(running, "GET", "/api/v1/sources", CI))[0] == 401
        assert (await ask(running, "GET", "/api/v1/sources", ALICE))[0] == 200
        assert "env:CI_TOKEN is not set" in logged.getvalue()


@pytest.mark.case("S-59")
async def test_the_header_between_supervisor_and_worker_means_nothing_on_the_listener(
    running: Running,
) -> None:
    forged = {"Gatehouse-Operator": "operate alice"}

    assert (await ask(running, "POST", "/-/reload", forged))[0] == 401
    assert (await ask(running, "POST", "/-/reload", CI | forged))[0] == 403


@pytest.mark.case("S-59")
async def test_a_worker_learns_from_the_supervisor_who_sends_a_request(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    pause, forged = "/api/v1/destinations/app/pause", {"Gatehouse-Operator": "operate alice"}
    async with supervised(destination.url, tmp_path) as (running, url):
        assert (await ask(running, "GET", "/api/v1/events", CI, url=url))[0] == 200
        assert (await ask(running, "POST", pause, {}, url=url))[0] == 401
        assert (await ask(running, "POST", pause, CI | forged, url=url))[0] == 403
        assert (await ask(running, "POST", "/-/reload", CI, url=url))[0] == 403
        dry_run = {"all": True, "dry_run": True}
        assert (await ask(running, "POST", "/api/v1/deliveries/retry", CI, dry_run, url=url))[0] == 200
        assert (await ask(running, "POST", pause, ALICE, url=url))[0] == 200


@pytest.mark.parametrize("value", ["", "alice", "admin alice", "operate "])
async def test_a_worker_refuses_an_identity_that_it_does_not_understand(
    destination: ScriptedDestination, tmp_path: Path, value: str
) -> None:
    async with supervised(destination.url, tmp_path) as (running, _):
        socket = str(running.gateway._operator_listen)
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as session,
            session.post("http://localhost/-/reload", headers={"Gatehouse-Operator": value}) as answer,
        ):
            assert answer.status == 403
