"""A gateway with the documented config for tokens that bring their certificates, from request to event."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import aiohttp

from chains import chained_token, fingerprint, good_chain, in_body, issued, root
from doubles.destination import ScriptedDestination
from gatehouse.config.load import parse
from gatehouse.gateway.app import Gateway
from gateways import SIGNING_SECRET, Running

DOCS = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
APPLE_ROOT = "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179"
CLAIMS = {
    "notificationType": "DID_RENEW",
    "notificationUUID": "n-1",
    "data": {"bundleId": "com.example.app", "signedTransactionInfo": "eyJ.a-b.c_d"},
}


def documented(url: str) -> str:
    """Return the documented source with the root of the tests, and a destination."""
    found = re.search(r"^  store:\n    verify:\n      type: jwt\n(?:    .*\n)+", DOCS, re.MULTILINE)
    assert found is not None
    source = found[0]
    assert source.count(APPLE_ROOT) == 1
    return (
        'server: {listen: "127.0.0.1:0"}\noperator: {listen: "127.0.0.1:0"}\nsources:\n'
        + source.replace(APPLE_ROOT, fingerprint(root()))
        + f'destinations:\n  app: {{url: "{url}", secret: env:SIGNING}}\nroutes: [{{from: "*", to: app}}]\n'
    )


async def test_a_token_is_forwarded_as_the_event_that_it_contains_and_all_others_are_refused(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    now = time.time()
    recent = CLAIMS | {"signedDate": int(now * 1000)}
    chain = [
        issued("leaf", "intermediate", mark="1.2.840.113635.100.6.11.1", since=now - 60, until=now + 60),
        issued(
            "intermediate",
            "root",
            mark="1.2.840.113635.100.6.2.1",
            authority=True,
            since=now - 60,
            until=now + 60,
        ),
        root(),
    ]
    of_another_app = recent | {"data": {"bundleId": "com.example.other"}}
    refused = [
        chained_token(chain, of_another_app),
        chained_token(chain, CLAIMS),
        chained_token([*chain[:2], root("other")], recent),
        chained_token(good_chain()[:2], recent),
    ]
    loaded = parse(documented(destination.url), directory=tmp_path)
    async with (
        Gateway(loaded, environment={"SIGNING": SIGNING_SECRET}) as gateway,
        aiohttp.ClientSession() as client,
    ):
        running = Running(gateway, client)
        for token in refused:
            assert (await running.send("store", in_body(token), {}))[0] == 401
        status, _ = await running.send("store", in_body(chained_token(chain, recent)), {})
        assert status == 200
        delivered = await destination.wait_for(1)

    event = json.loads(delivered[0].body)
    assert event["type"] == "DID_RENEW"
    assert event["data"] == CLAIMS["data"]
