"""The gateway authenticates to its destinations as documented, and never shows the secrets."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from doubles import providers
from doubles.destination import ScriptedDestination
from gatehouse.cli import main
from gateways import RunGateway, Running

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
LISTEN = 'server: {listen: "127.0.0.1:0"}\noperator: {listen: "127.0.0.1:0"}\n'
TOKEN, KEY = "Canary-token-7f3Qz91LmX", "Canary-key-9Xm1LzQ3f7"
PASSWORD, ROTATED = "Canary pässword-8Kd", "Canary-rotated-password-2Lp"
ENVIRONMENT = {"MANDO_SECRET": providers.SECRET, "BILLING_TOKEN": TOKEN, "SEARCH_KEY": KEY}

_numbers = itertools.count()


def documented(section: str) -> str:
    """Return the example of a section of the reference."""
    found = re.search(rf"^### {section}\n.*?^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"gatehouse:{password}".encode()).decode()


async def send(running: Running, **headers: str) -> None:
    body = providers.body(id=f"evt_{next(_numbers)}", type="sale.created")
    assert (await running.send("mando", body, providers.mando(body, secret=providers.SECRET) | headers))[
        0
    ] == 200


async def reload(running: Running) -> tuple[int, Any]:
    async with running.client.post(f"{running.operator_url}/-/reload") as answer:
        return answer.status, await answer.json()


@pytest.mark.case("S-48")
async def test_the_documented_example_authenticates_and_shows_no_secret(
    run_gateway: RunGateway,
    destination: ScriptedDestination,
    tmp_path: Path,
    logged: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = re.sub(
        r"https://(\w+)\.internal/events", rf"http://127.0.0.1:{destination.port}/\1", documented("auth")
    )
    text = LISTEN + text.replace("file:/run/secrets/crm-password", "file:password")
    file, password = tmp_path / "gateway.yaml", tmp_path / "password"
    file.write_text(text)
    password.write_text(PASSWORD + "\n")
    shown: dict[str, str] = {}
    async with run_gateway(text, **ENVIRONMENT) as running:
        await send(running)
        first = {one.path: one.headers for one in await destination.wait_for(3)}
        states = await running.ask("/api/v1/destinations")
        shown["api"] = json.dumps([states, await running.ask("/api/v1/config")])
        for path in ("/destinations/billing", "/destinations/crm", "/system", "/metrics"):
            async with running.client.get(running.operator_url + path) as answer:
                assert answer.status == 200
                shown[path] = await answer.text()

        # A secret that can't be used changes nothing, and the answer says why.
        password.write_text("two\nlines")
        refused = await reload(running)
        await send(running)
        second = [one for one in await destination.wait_for(6) if one.path == "/crm"][1]
        password.write_text(ROTATED)
        changed = await reload(running)
        await send(running)
        third = [one for one in await destination.wait_for(9) if one.path == "/crm"][2]

    assert first["/billing"]["Authorization"] == f"Bearer {TOKEN}"
    assert first["/billing"]["X-Environment"] == "production"
    assert first["/crm"]["Authorization"] == second.headers["Authorization"] == basic(PASSWORD)
    assert first["/search"]["X-Api-Key"] == KEY
    assert "Authorization" not in first["/search"]
    assert {one["name"]: one["auth"] for one in states["destinations"]} == {
        "billing": "bearer",
        "crm": "basic",
        "search": "header",
    }
    assert "bearer" in shown["/destinations/billing"]
    assert refused[0] == 400
    (problem,) = refused[1]["error"]["problems"]
    assert problem["path"] == "destinations.crm.auth.password"
    assert problem["message"] == "file:password has a control character, such as a line break"
    assert changed[1]["destinations"]["changed"] == ["crm"]
    assert third.headers["Authorization"] == basic(ROTATED)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    checked = CliRunner().invoke(main, ["check", str(file)])
    assert "auth       bearer, configured\n       adds       X-Environment\n" in checked.output
    shown |= {"log": logged.getvalue(), "check": checked.output, "reloads": json.dumps([refused, changed])}
    secrets = [*(TOKEN, KEY, PASSWORD, ROTATED, "pässword"), basic(PASSWORD)[6:], basic(ROTATED)[6:]]
    assert [(where, one) for where, said in shown.items() for one in secrets if one in said] == []


@pytest.mark.case("S-62")
async def test_nothing_is_sent_without_the_secret_and_all_of_it_once_it_is_there(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    text = LISTEN + (
        "sources: {mando: {provider: mando, secrets: env:SECRET}}\n"
        f'destinations: {{app: {{url: "{destination.url}", auth: {{type: bearer, token: "file:token"}}}}}}\n'
        "routes: [{from: mando, to: app}]\n"
    )
    (tmp_path / "gateway.yaml").write_text(text)
    async with run_gateway(text) as running:
        await send(running)
        (state,) = (await running.ask("/api/v1/destinations"))["destinations"]
        assert (state["ready"], state["pending"]) == (False, 1)
        assert state["not_ready"] == "file:token can't be read: No such file or directory"
        assert destination.requests == []
        (tmp_path / "token").write_text(TOKEN)
        assert (await reload(running))[0] == 200
        (request,) = await destination.wait_for(1)

    assert request.headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.case("S-62")
async def test_added_headers_replace_those_of_the_provider(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    """Servers treat `X_Environment` and `X-Environment` as the same."""
    text = LISTEN + (
        "sources: {mando: {provider: mando, secrets: env:SECRET}}\n"
        f'destinations: {{app: {{url: "{destination.url}", format: raw, headers: ["*"],\n'
        "  auth: {type: header, name: X-Shop-Pass, value: env:PASS},\n"
        "  add_headers: {X-Environment: production}}}\n"
        "routes: [{from: mando, to: app}]\n"
    )
    async with run_gateway(text, PASS="a-secret with a space") as running:
        forged = {
            "x-environment": "forged",
            "X_Environment": "forged",
            "x-shop-pass": "forged",
            "X-Other": "kept",
        }
        await send(running, **forged)
        (request,) = await destination.wait_for(1)
        async with asyncio.timeout(10):
            async with running.client.post(f"{running.operator_url}/api/v1/destinations/app/test") as answer:
                assert answer.status == 200
        (_, tested) = await destination.wait_for(2)

    for one in (request, tested):
        assert one.headers.getall("X-Environment") == ["production"]
        assert one.headers.getall("X-Shop-Pass") == ["a-secret with a space"]
        assert "X_Environment" not in one.headers
    assert request.headers["X-Other"] == "kept"
