"""The traffic of a normal day: events, retries, dead letters, duplicates and refused requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from multidict import CIMultiDict

if TYPE_CHECKING:
    from browser.deployment import Deployment
    from gatehouse.language.request import Request

#: Source and type. Their routes and the apps decide how each delivery ends.
EVENTS = (
    ("shop", "orders/create"),
    ("shop", "orders/paid"),
    ("payments", "payment_intent.succeeded"),
    ("payments", "charge.succeeded"),  # delivered to billing at the second attempt
    ("repos", "push"),
    ("shop", "customers/create"),
    ("payments", "invoice.paid"),
    ("repos", "pull_request.opened"),
    ("shop", "orders/fulfilled"),
    ("payments", "customer.subscription.updated"),
    ("shop", "customers/create"),
    ("payments", "charge.refunded"),  # gone at ledger: dead
    ("repos", "workflow_run.completed"),
    ("shop", "products/update"),  # search is too slow: dead
    ("payments", "invoice.payment_failed"),  # refused by ledger: dead
    ("shop", "customers/create"),
)


async def send_events(deployment: Deployment, times: int = 1) -> list[str]:
    """Send each kind of event. Returns the ids."""
    sent = [deployment.providers.request(*event) for _ in range(times) for event in EVENTS]
    return [await deployment.accept(request) for request in sent]


async def send_duplicates(deployment: Deployment) -> str:
    """Send an event three times, as a provider does that got no answer in time. Returns its id."""
    request = deployment.providers.request("payments", "payout.paid")
    first, *later = [await deployment.accept(request) for _ in range(3)]
    assert later == [first, first]
    return first


def refused_requests(deployment: Deployment) -> dict[str, Request]:
    """Make requests that are refused, by what is wrong with them. Each has another finding."""
    providers = deployment.providers
    body = b'{"id": "evt_refused", "type": "order.created", "amount": 45.50}'
    right = providers.partner(body)
    other = providers.with_secrets(SHOP_SECRET="shpss_the_secret_of_another_app_of_ours")
    paid = providers.request("payments", "invoice.paid")
    return {
        "wrong secret": other.request("shop", "orders/create"),
        "too old": providers.request("payments", "charge.succeeded", age=3600),
        "no signature": _without(providers.request("repos", "push"), "X-Hub-Signature-256"),
        "changed on the way": msgspec.structs.replace(right, body=body.replace(b" ", b"")),
        "sent to another source": msgspec.structs.replace(paid, path="/webhooks/partner"),
    }


async def send_refused(deployment: Deployment) -> None:
    """Send the requests that are refused."""
    for name, request in refused_requests(deployment).items():
        status, answer = await deployment.send(request)
        assert status == 401, (name, answer)


async def open_breaker(deployment: Deployment) -> None:
    """Send as many events to crm, which is down, as its breaker needs to open."""
    for _ in range(3):
        await deployment.accept(deployment.providers.request("shop", "customers/create"))
    await deployment.settle()


async def send_a_day(deployment: Deployment) -> None:
    """Send everything, and wait until only what is down or paused has pending deliveries."""
    status, _ = await deployment.ask("POST", "/api/v1/destinations/warehouse/pause")
    assert status == 200
    await send_events(deployment)
    await send_duplicates(deployment)
    await send_refused(deployment)
    await deployment.settle()


def _without(request: Request, header: str) -> Request:
    headers = CIMultiDict((name, value) for name, value in request.headers.items() if name != header)
    return msgspec.structs.replace(request, headers=headers)
