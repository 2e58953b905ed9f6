"""Events go to the destinations whose conditions their content meets."""

from __future__ import annotations

from typing import Any

from doubles import providers
from doubles.destination import ScriptedDestination
from gateways import CONFIG, RunGateway, Running
from operators import ask

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
            assert (selected, selected_later) == (expected, expected), body
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
