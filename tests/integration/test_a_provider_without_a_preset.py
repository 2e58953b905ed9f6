"""A provider without a preset can be configured with docs/configuration.md alone. Comments explain each line.

The provider of this test, "Parcelline", documents this:

    We POST a list of up to 50 notices as {"notices": […]}. The header `Parcelline-Signature` looks like
    `at=1750000000;sig=<hex>;sig=<hex>`, with one `sig` for each of your active keys. A sig is the HMAC-SHA512
    of the time, a colon, the method, a space, the URL that you registered, a line break, and the body, keyed
    with the bytes whose hexadecimal form we show you. Requests older than two minutes should be refused.
    Before we send, we GET the address with ?hello=<32 letters> and want {"hello": "<the letters>"} back.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from doubles.destination import ScriptedDestination
from gateways import RunGateway, Running

NOW = 1_750_000_000.0
KEY, OLD_KEY = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
CONFIG = """
server: {listen: "127.0.0.1:0", public_url: "https://hooks.example.com"}
operator: {listen: "127.0.0.1:0"}
sources:
  parcels:                                        # served at /webhooks/parcels
    secrets: [env:KEY, env:OLD_KEY]               # both are accepted during a rotation
    verify:
      type: hmac
      digest: sha512
      key: hex                                    # the provider shows the key's bytes in hexadecimal
      signature:
        header: Parcelline-Signature
        format: pairs                             # name=value ...
        between: ";"                              # ... with a semicolon between them
        key: sig                                  # there may be several; one must match
      timestamp: {pair: at, tolerance: 2m}
      signed: "{timestamp}:{method} {url}\\n{body}"
    event:
      split: "{body:notices}"                     # one event per notice; {body:…} is then the notice
      id: "{body:notice_id}"
      type: "parcel.{body:state}"                 # "delivered" becomes parcel.delivered
      time: "{body:at}"
      subject: ["{body:parcel.number}", "{body:parcel.reference}"]   # the first that is there
      account: "{outer:customer}"                 # stands beside the list, not in the notice
      data: "{body:parcel}"
    dedupe: {by: ["{body:notice_id}"], window: 14d}
    handshakes:
      - name: hello
        method: GET
        when: {"{query:hello}": "*"}              # any GET with ?hello=
        challenge: "{query:hello}"
        form: "[a-z]{32}"
        answer: {json: {hello: "{challenge}"}}
    answer_deadline: 5s                           # what their page says; check warns when we can't keep it
    retry_horizon: 2d
destinations:
  app: {url: "%s"}
routes:
  - {from: parcels, types: "parcel.*", to: app}
"""


def notices(*ids: int) -> bytes:
    listed = [
        {
            "notice_id": f"n-{number}",
            "state": "delivered",
            "at": "2025-06-15T15:00:00Z",
            "parcel": {"number": f"P{number}", "weight": 1.50},
        }
        for number in ids
    ]
    return json.dumps({"customer": "c-9", "notices": listed}).encode()


def signature(body: bytes, key: str, at: int = int(NOW)) -> str:
    """Sign as the provider's page says, without code of the gateway."""
    signed = f"{at}:POST https://hooks.example.com/webhooks/parcels\n".encode() + body
    return hmac.new(bytes.fromhex(key), signed, "sha512").hexdigest()


async def post(gateway: Running, body: bytes, header: str) -> tuple[int, Any]:
    return await gateway.send("parcels", body, {"Parcelline-Signature": header})


async def test_its_requests_are_verified_split_and_forwarded(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIG % destination.url, clock=lambda: NOW, KEY=KEY, OLD_KEY=OLD_KEY) as gateway:
        body = notices(1, 2)
        status, answer = await post(
            gateway, body, f"at={int(NOW)};sig={'0' * 128};sig={signature(body, KEY)}"
        )
        assert (status, answer["status"], len(answer["ids"])) == (200, "accepted", 2)
        received = sorted(
            (json.loads(one.body) for one in await destination.wait_for(2)), key=lambda e: e["id"]
        )

        # A retry, signed with the old key, in which one notice is new.
        body = notices(2, 3)
        status, answer = await post(gateway, body, f"at={int(NOW)};sig={signature(body, OLD_KEY)}")
        assert (status, answer["status"]) == (200, "accepted")
        await destination.wait_for(3)
        assert len(destination.requests) == 3

    assert [event["type"] for event in received] == ["parcel.delivered"] * 2
    assert [event["subject"] for event in received] == ["P1", "P2"]
    assert received[0]["account"] == "c-9"
    assert received[0]["data"] == {"number": "P1", "weight": 1.5}
    assert received[0]["time"] == "2025-06-15T15:00:00Z"


async def test_forged_and_old_requests_are_refused(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIG % destination.url, clock=lambda: NOW, KEY=KEY, OLD_KEY=OLD_KEY) as gateway:
        body, late = notices(1), int(NOW) - 121
        good = f"at={int(NOW)};sig={signature(body, KEY)}"

        assert (await post(gateway, body.replace(b"n-1", b"n-7"), good))[0] == 401
        assert (await post(gateway, body, f"at={late};sig={signature(body, KEY, late)}"))[0] == 401
        assert (await post(gateway, body, good.replace(f"at={int(NOW)}", f"at={int(NOW) - 1}")))[0] == 401
        assert (await post(gateway, body, ""))[0] == 401
        assert (await post(gateway, body, good))[0] == 200


async def test_its_handshake_is_answered(run_gateway: RunGateway, destination: ScriptedDestination) -> None:
    async with run_gateway(CONFIG % destination.url, KEY=KEY, OLD_KEY=OLD_KEY) as gateway:
        url = f"{gateway.url}/webhooks/parcels?hello="
        async with gateway.client.get(url + "abcdefghijklmnopqrstuvwxyzabcdef") as answer:
            assert (answer.status, await answer.json()) == (
                200,
                {"hello": "abcdefghijklmnopqrstuvwxyzabcdef"},
            )
        async with gateway.client.get(url + "<script>") as answer:
            assert answer.status == 400
        assert (await gateway.metrics())["gatehouse_events_total", "parcels"] == 0
