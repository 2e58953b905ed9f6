"""Events go to the destinations whose conditions their content meets."""

from __future__ import annotations

from typing import Any

from browsing import Browser
from doubles import providers
from doubles.destination import ScriptedDestination
from gateways import CONFIG, RunGateway, Running
from operators import ask

MARKUP = "<script>alert(1)</script>"
ROUTES = """routes:
  - from: mando
    types: ["sale.*"]
    when: {{"{{body:amount}}": ">= 1000", "{{body:currency}}": [eur, chf]}}
    to: app
  - from: mando
    types: ["sale.*"]
    when: {{"{{body:test}}": "!true"}}
    to: ledger
"""
CONFIGURED = (
    CONFIG[: CONFIG.index("routes:")].replace(
        "destinations:\n", 'destinations:\n  ledger: {{url: "{other}", secret: env:SIGNING}}\n'
    )
    + ROUTES
)


async def send(running: Running, body: bytes) -> tuple[str, list[str], list[str]]:
    """Send an event. Returns its id, its destinations, and those that the routes give the stored event."""
    status, accepted = await running.send("mando", body, providers.mando(body))
    assert status == 200, accepted
    _, event = await ask(running, "GET", f"/api/v1/events/{accepted['id']}", {})
    return accepted["id"], [one["destination"] for one in event["deliveries"]], event["routed"]


def sale(number: int, **more: Any) -> bytes:
    return providers.body(id=f"evt_{number}", type="sale.created", **more)


async def test_an_event_goes_where_its_content_meets_the_conditions(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with (
        ScriptedDestination() as ledger,
        run_gateway(CONFIGURED.format(url=destination.url, other=ledger.url)) as running,
    ):
        cases = [
            (sale(1, amount=1000, currency="eur"), ["app", "ledger"]),
            (sale(2, amount=999.99, currency="eur"), ["ledger"]),
            (sale(3, amount="1000.00", currency="chf", test=True), ["app"]),
            (sale(4, amount=5, currency="eur", test=True), []),
            (sale(5, amount=1000, currency="usd", test=True), []),
            (providers.body(id="evt_6", type="stock.low", amount=1000, currency="eur"), []),
            (
                b'{"id": "evt_7", "type": "sale.created", "amount": 1e999999999, "currency": "eur"}',
                ["ledger"],
            ),
            (
                b'{"id": "evt_8", "type": "sale.created", "amount": 1, "amount": 1000, "test": 1, "test": 2}',
                [],
            ),
            (b"no json", []),
        ]
        wanted: dict[str, set[str]] = {"app": set(), "ledger": set()}
        for body, expected in cases:
            event_id, selected, selected_later = await send(running, body)
            given = {"source": "mando", "body": body.decode()}
            _, tried = await ask(running, "POST", "/api/v1/routes", {}, given)
            assert (selected, selected_later) == (expected, expected), body
            assert [one["destinations"] for one in tried["events"]] == [expected], body
            for name in expected:
                wanted[name].add(event_id)

        delivered = {
            name: {request.event_id for request in await one.wait_for(len(wanted[name]))}
            for name, one in (("app", destination), ("ledger", ledger))
        }
        assert delivered == wanted
        metrics = await running.metrics()
        assert metrics["gatehouse_unrouted_events_total", "mando"] == 5
        assert metrics["gatehouse_events_total", "mando"] == 9


async def test_the_tester_says_of_each_route_why(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIGURED.format(url=destination.url, other=destination.url)
    async with run_gateway(config) as running, Browser(running.operator_url) as browser:
        body = sale(1, amount=5, currency="x" * 300).decode()
        _, tried = await ask(running, "POST", "/api/v1/routes", {}, {"source": "mando", "body": body})
        (event,) = tried["events"]
        first, second = event["routes"]
        assert (event["type"], first["selected"], second["selected"]) == ("sale.created", False, True)
        assert first["conditions"] == [
            {"template": "{body:amount}", "condition": [">= 1000"], "value": "5", "state": "fails"},
            {
                "template": "{body:currency}",
                "condition": ["eur", "chf"],
                "value": "x" * 200 + "…",
                "state": "fails",
            },
        ]
        unrouted_body = sale(2, amount=5, test=True)
        _, accepted = await running.send("mando", unrouted_body, providers.mando(unrouted_body))
        _, later = await ask(running, "GET", f"/api/v1/events/{accepted['id']}/routes", {})
        assert (later["destinations"], later["routes"][1]["reasons"]) == (
            [],
            ['{body:test} is "true", and the condition is not true'],
        )
        unrouted_screen = (await browser.get(f"/events/{accepted['id']}")).text
        assert '{body:test} is "true", and the condition is not true' in unrouted_screen
        source_screen = (await browser.get("/sources/mando")).text
        assert "Events that no route took 1 since the start" in source_screen
        assert "when {body:currency} is eur, chf" in source_screen
        assert first["reasons"][0] == '{body:amount} is "5", and the condition is >= 1000'

        shown = await browser.press("/system", "/system/routes#routes", source="mando", type="", body=body)
        assert "sale.created: to ledger" in shown.text
        assert '{body:amount} is "5", and the condition is >= 1000' in shown.text
        assert (
            MARKUP
            not in (
                await browser.press(
                    "/system", "/system/routes#routes", source="mando", type=MARKUP, body=MARKUP
                )
            ).html
        )
        without = await browser.press(
            "/system", "/system/routes#routes", source="mando", type="stock.low", body=""
        )
        assert "No route matches stock.low from mando" in without.text

        for given, message in (
            ({"source": "mandoo", "body": "{}"}, "no source has this name"),
            ({"source": "mando"}, "Object missing required field `body`"),
            ({"source": "mando", "body": 1}, "Expected `str`, got `int` - at `$.body`"),
            (
                {"source": "mando", "body": "", "headers": {"a": 1}},
                "Expected `str`, got `int` - at `$.headers[...]`",
            ),
            ({"source": "mando", "body": "", "bodi": ""}, "unknown member: bodi"),
        ):
            code, answer = await ask(running, "POST", "/api/v1/routes", {}, given)
            assert (code, answer["error"]["message"]) == (400, message)
        surrogate = await ask(running, "POST", "/api/v1/routes", {}, {"source": "mando", "body": "\ud800"})
        assert surrogate[0] == 400
