"""What protects the operator API: tokens, and refusals of requests from other sites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from doubles.destination import ScriptedDestination
from gateways import CONFIG, RunGateway
from operating import REFUSED, Operator

TOKEN = "operator-token-of-some-length"
POSTS = (
    "/api/v1/events/{id}/replay",
    "/api/v1/deliveries/retry",
    "/api/v1/deliveries/{id}:app/retry",
    "/api/v1/destinations/app/pause",
    "/api/v1/destinations/app/resume",
    "/-/reload",
)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain;charset=UTF-8"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Origin": "null"},
        {"Origin": "https://attacker.example"},
        {"Origin": "http://127.0.0.1.attacker.example"},
        {"Sec-Fetch-Site": "same-site", "Content-Type": "application/json"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.case("S-51")
async def test_another_sites_page_changes_nothing(
    operator: Operator, destination: ScriptedDestination, path: str, headers: dict[str, str]
) -> None:
    event_id = await operator.send(1)
    await destination.wait_for(1)
    url = operator.running.operator_url + path.format(id=event_id)
    body = '{"all": true}'
    async with operator.running.client.post(url, data=body, headers=headers) as answer:
        assert answer.status == 403
        assert answer.headers["Cache-Control"] == "no-store"
    async with operator.running.client.get(url) as answer:
        assert answer.status in (404, 405)

    assert (await operator.running.metrics())[REFUSED, "cross_site"] == 1
    assert len(destination.requests) == 1
    assert (await operator.get("/api/v1/destinations"))[1]["destinations"][0]["paused"] is False


@pytest.mark.case("S-51")
async def test_a_page_under_another_host_name_reads_nothing(operator: Operator) -> None:
    code, answer = await operator.get("/api/v1/events", Host="attacker.example")

    assert (code, answer["error"]["code"]) == (403, "forbidden")
    assert (await operator.running.metrics())[REFUSED, "cross_site"] == 1


async def test_refusals_are_counted_from_zero(operator: Operator) -> None:
    metrics = await operator.running.metrics()

    assert {key[1] for key in metrics if key[0] == REFUSED} == {
        "unauthorized",
        "throttled",
        "cross_site",
        "forbidden",
    }
    assert all(value == 0 for key, value in metrics.items() if key[0] == REFUSED)


@asynccontextmanager
async def with_token(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> AsyncIterator[Operator]:
    config = CONFIG.replace('{{listen: "127.0.0.1:0"}}\ns', '{{listen: "127.0.0.1:0", token: env:T}}\ns')
    async with run_gateway(config.format(url=destination.url), T=TOKEN) as running:
        yield Operator(running, tmp_path)


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/deliveries", "/api/v1/destinations", "/metrics"])
@pytest.mark.case("S-50")
async def test_nothing_is_read_without_the_token(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path, path: str
) -> None:
    async with with_token(run_gateway, destination, tmp_path) as operator:
        for wrong in (TOKEN, f"bearer {TOKEN}", f"Bearer {TOKEN[:-1]}", "Bearer ", "Bearer é", "Bearer x"):
            assert (await operator.get(path, Authorization=wrong))[0] == 401
        for query in (f"?token={TOKEN}", f"?access_token={TOKEN}", ""):
            assert (await operator.get(path + query))[0] == 401
        url = operator.running.operator_url + path
        async with operator.running.client.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200


@pytest.mark.case("S-50")
async def test_nothing_is_changed_without_the_token(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with with_token(run_gateway, destination, tmp_path) as operator:
        for path in POSTS:
            assert (await operator.post(path.format(id="x")))[0] == 401
        authorization = {"Authorization": f"Bearer {TOKEN}"}
        code, answer = await operator.post("/api/v1/destinations/app/pause", **authorization)
        assert (code, answer["paused"]) == (200, True)
