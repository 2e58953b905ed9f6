"""The route tester answers for the config in use, as the gateway itself routes."""

from __future__ import annotations

from pathlib import Path

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from gateways import CONFIG, RunGateway
from operators import ask

ROUTES = """routes:
  - {{from: "*", types: ["sale.*", "refund.*"], to: [app, ledger]}}
  - {{from: mando, to: app}}
"""
CONFIGURED = (
    CONFIG[: CONFIG.index("routes:")].replace(
        "destinations:\n", 'destinations:\n  ledger: {{url: "{url}", secret: env:SIGNING}}\n'
    )
    + ROUTES
)


async def test_the_routes_in_use_are_tested(
    run_gateway: RunGateway, destination: ScriptedDestination, tmp_path: Path
) -> None:
    text = CONFIGURED.format(url=destination.url)
    (tmp_path / "gateway.yaml").write_text(text)
    line = text.splitlines().index("routes:") + 2
    first = {
        "path": "routes.0",
        "line": line,
        "from": ["*"],
        "types": ["sale.*", "refund.*"],
        "when": {},
        "to": ["app", "ledger"],
        "text": "from *, types sale.*, refund.*, to app, ledger",
    }
    second = {
        "path": "routes.1",
        "line": line + 1,
        "from": ["mando"],
        "types": ["*"],
        "when": {},
        "to": ["app"],
        "text": "from mando, types *, to app",
    }
    path = "/api/v1/routes?source=mando&type=sale.created"
    async with run_gateway(text) as running:
        assert await ask(running, "GET", path, {}) == (
            200,
            {
                "source": "mando",
                "type": "sale.created",
                "destinations": [
                    {"name": "app", "routes": [first, second]},
                    {"name": "ledger", "routes": [first]},
                ],
            },
        )
        _, every = await ask(running, "GET", "/api/v1/routes?source=hisab", {})
        assert (every["type"], [(one["name"], one["routes"]) for one in every["destinations"]]) == (
            None,
            [("app", [first]), ("ledger", [first])],
        )
        body = providers.body(id="evt_1", type="sale.created")
        _, accepted = await running.send("mando", body, providers.mando(body))
        _, event = await ask(running, "GET", f"/api/v1/events/{accepted['id']}", {})
        assert [one["destination"] for one in event["deliveries"]] == ["app", "ledger"]

        (tmp_path / "gateway.yaml").write_text(text.replace("from: mando, to: app", "from: hisab, to: app"))
        await ask(running, "POST", "/-/reload", {})
        _, tested = await ask(running, "GET", path.replace("sale.created", "stock.low"), {})
        assert tested["destinations"] == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("source=mando&type=", "type is required"),
        ("type=sale.created&source=", "source is required"),
        ("source=mandoo&type=sale.created", "no source has this name"),
    ],
)
async def test_an_incomplete_question_is_refused(
    run_gateway: RunGateway, destination: ScriptedDestination, query: str, message: str
) -> None:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        code, answer = await ask(running, "GET", f"/api/v1/routes?{query}", {})

    assert (code, answer["error"]["message"]) == (400, message)
