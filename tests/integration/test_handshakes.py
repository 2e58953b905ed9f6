"""Handshakes of providers over real sockets, with the presets: answered as documented, never stored."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from doubles.handshakes import (
    CONFIG,
    ENVIRONMENT,
    HANDED_OVER,
    SECRET,
    TOKEN,
    FakeConfirm,
    ask,
    by_discord,
    by_slack,
    handshakes_of,
    mac,
)
from gatehouse.config.load import parse
from gatehouse.gateway.app import Gateway
from gateways import Running


@pytest.fixture
def fake_confirm() -> FakeConfirm:
    return FakeConfirm()


@pytest.fixture
async def running(tmp_path: Path, fake_confirm: FakeConfirm) -> AsyncIterator[Running]:
    """Run a gateway with a source for each provider."""
    loaded = parse(CONFIG, directory=tmp_path)
    async with (
        Gateway(loaded, environment=ENVIRONMENT, confirm=fake_confirm) as gateway,
        aiohttp.ClientSession() as client,
    ):
        yield Running(gateway, client)
    await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def nothing_is_stored(tmp_path: Path, logged: io.StringIO) -> Iterator[None]:
    """Check after each test that the store contains no handshake, and the log no secret."""
    yield
    file = tmp_path / "gatehouse.db"
    if file.exists():
        connection = sqlite3.connect(file)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)
        connection.close()
    for secret in (SECRET, TOKEN, *HANDED_OVER):
        assert secret not in logged.getvalue()


SLACK = json.dumps(
    {
        "token": "Jhj5dZrVaK7ZwHHjRyZWjbDl",
        "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",
        "type": "url_verification",
    }
).encode()


async def test_slack_gets_its_challenge_back(running: Running, logged: io.StringIO) -> None:
    answer = await ask(running, "slack", SLACK, headers=by_slack(SLACK))

    assert (answer.status, answer.text) == (200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
    assert await handshakes_of(running, "slack") == 1
    await asyncio.sleep(0)
    (line,) = [json.loads(one) for one in logged.getvalue().splitlines() if '"request.' in one]
    assert line["event"] == "request.handshake"
    assert line["handshake"] == "url_verification"
    assert line["client"] == "127.0.0.1"
    assert "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P" not in logged.getvalue()


async def test_an_unsigned_slack_challenge_is_401(running: Running) -> None:
    answer = await ask(running, "slack", SLACK, headers=by_slack(b"another body"))

    assert answer.status == 401
    assert b"3eZbrw1a" not in answer.body
    assert await handshakes_of(running, "slack") == 0


async def test_zoom_gets_its_token_hashed(running: Running) -> None:
    body = json.dumps(
        {
            "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"},
            "event_ts": 1654503849680,
            "event": "endpoint.url_validation",
        }
    ).encode()

    answer = await ask(running, "zoom", body, headers=by_slack(body, "x-zm"))

    hashed = mac(b"qgg8vlvZRS6UYooatFL8Aw").hex()
    assert (answer.status, answer.json) == (
        200,
        {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": hashed},
    )


async def test_zoom_cannot_make_the_gateway_sign_an_event(running: Running) -> None:
    forged = f'v0:{int(time.time())}:{{"event":"meeting.ended"}}'
    body = json.dumps({"payload": {"plainToken": forged}, "event": "endpoint.url_validation"}).encode()

    answer = await ask(running, "zoom", body, headers=by_slack(body, "x-zm"))

    assert answer.status == 400
    assert mac(forged.encode()).hex().encode() not in answer.body


def hub(token: str) -> dict[str, str]:
    return {"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "1158201444"}


async def test_meta_gets_its_challenge_back_for_the_right_token(running: Running) -> None:
    answer = await ask(running, "meta", method="GET", query=hub(TOKEN))

    assert (answer.status, answer.text) == (200, "1158201444")


async def test_meta_is_refused_with_the_wrong_token(running: Running, logged: io.StringIO) -> None:
    answer = await ask(running, "meta", method="GET", query=hub("another"))

    assert answer.status == 403
    assert answer.json["error"]["code"] == "forbidden"
    assert (await running.metrics())["gatehouse_requests_total", "unauthorized", "meta"] == 1
    await asyncio.sleep(0)
    assert '"reason":"wrong_credentials"' in logged.getvalue()


async def test_without_a_token_the_handshake_is_503(running: Running) -> None:
    answer = await ask(running, "whatsapp", method="GET", query=hub("another"))

    assert answer.status == 503
    assert 5 <= int(answer.headers["Retry-After"]) <= 30


async def test_x_gets_its_token_hashed(running: Running) -> None:
    query = {"crc_token": "9b4507b3-9040-4669-9ca3-6b94edb50553", "nonce": "abc"}

    answer = await ask(running, "x", method="GET", query=query)

    hashed = base64.b64encode(mac(b"9b4507b3-9040-4669-9ca3-6b94edb50553")).decode()
    assert (answer.status, answer.json) == (200, {"response_token": f"sha256={hashed}"})


async def test_x_cannot_make_the_gateway_sign_an_event(running: Running) -> None:
    answer = await ask(running, "x", method="GET", query={"crc_token": '{"for_user_id":"1"}'})

    assert answer.status == 400


async def test_a_handshake_proof_for_x_is_not_a_valid_signature(running: Running) -> None:
    proof = (await ask(running, "x", method="GET", query={"crc_token": "1"})).json["response_token"]

    answer = await ask(running, "x", b"1", headers={"x-twitter-webhooks-signature": proof})

    assert answer.status == 401


async def test_ms_graph_gets_its_token_decoded(running: Running) -> None:
    token = "Validation: Testing client application reachability for subscription Request-Id: 7ca3b1a5"

    answer = await ask(
        running,
        "ms-graph",
        query={"validationToken": token},
        headers={"Content-Type": "text/plain; charset=utf-8"},
    )

    assert (answer.status, answer.text) == (200, token)


async def test_dropbox_gets_its_challenge_back(running: Running) -> None:
    answer = await ask(running, "dropbox", method="GET", query={"challenge": "wsYUDgqhrwc1Z_xW"})

    assert (answer.status, answer.text) == (200, "wsYUDgqhrwc1Z_xW")


async def test_nylas_gets_its_challenge_back(running: Running) -> None:
    answer = await ask(
        running, "nylas", method="GET", query={"challenge": "bc609b38-c81f-47fb-a275-1d9bd61a968b"}
    )

    assert (answer.status, answer.text) == (200, "bc609b38-c81f-47fb-a275-1d9bd61a968b")


TERRAFORM = b"""{"payload_version":1,"notification_configuration_id":"nc-AeUQ2zfKZzW9TiGZ","run_id":null,
"notifications":
[{"message":"Verification of it","trigger":"verification","run_status":null,"run_updated_at":null}]}"""
NO_EVENTS = b'{"destination":"U0123456789abcdef0123456789abcdef","events":[]}'


@pytest.mark.parametrize(
    ("source", "body", "header", "signature"),
    [
        ("hcp-terraform", TERRAFORM, "X-TFE-Notification-Signature", mac(TERRAFORM, "sha512").hex()),
        ("line", NO_EVENTS, "x-line-signature", base64.b64encode(mac(NO_EVENTS)).decode()),
    ],
)
async def test_a_signed_request_that_only_checks_the_address_is_answered(
    running: Running, source: str, body: bytes, header: str, signature: str
) -> None:
    answer = await ask(running, source, body, headers={header: signature})
    forged = await ask(running, source, body, headers={header: signature[::-1]})

    assert (answer.status, forged.status) == (200, 401)
    assert await handshakes_of(running, source) == 1


async def test_okta_gets_its_challenge_back(running: Running) -> None:
    headers = {"X-Okta-Verification-Challenge": "kdf3-zxs23", "Authorization": SECRET}

    answer = await ask(running, "okta", method="GET", headers=headers)

    assert (answer.status, answer.json) == (200, {"verification": "kdf3-zxs23"})


async def test_asanas_secret_is_shown_while_the_source_waits_for_it(
    running: Running, logged: io.StringIO
) -> None:
    secret = HANDED_OVER[0]

    answer = await ask(running, "asana", b"{}", headers={"X-Hook-Secret": secret})

    assert (answer.status, answer.headers["X-Hook-Secret"], answer.body) == (200, secret, b"")
    (entry,) = running.gateway.handshake_secrets.entries()
    assert (entry["source"], entry["secret"], entry["client"]) == ("asana", secret, "127.0.0.1")
    assert str(entry["received"]).endswith("Z")
    await asyncio.sleep(0)
    (line,) = [json.loads(one) for one in logged.getvalue().splitlines() if "handshake.secret_shown" in one]
    assert (line["source"], line["handshake"]) == ("asana", "X-Hook-Secret")
    assert "/api/v1/handshakes" in line["where"]


async def test_notions_token_is_shown_and_not_repeated_in_the_answer(running: Running) -> None:
    token = HANDED_OVER[1]

    answer = await ask(running, "notion", json.dumps({"verification_token": token}).encode())

    assert (answer.status, answer.body) == (200, b"")
    (entry,) = running.gateway.handshake_secrets.entries()
    assert (entry["source"], entry["secret"]) == ("notion", token)


async def test_only_the_last_few_secrets_are_kept(running: Running) -> None:
    for number in range(7):
        await ask(running, "asana", headers={"X-Hook-Secret": f"a-secret-of-its-own-{number}"})

    shown = [entry["secret"] for entry in running.gateway.handshake_secrets.entries()]
    assert shown == [f"a-secret-of-its-own-{number}" for number in (6, 5, 4, 3, 2)]


async def test_asanas_events_get_503_until_the_source_has_its_secret(running: Running) -> None:
    answer = await ask(running, "asana", b'{"events":[]}', headers={"X-Hook-Signature": "0" * 64})

    assert answer.status == 503
    assert running.gateway.handshake_secrets.entries() == []


async def test_twitch_gets_its_challenge_back(running: Running) -> None:
    body = json.dumps(
        {"challenge": "pogchamp-kappa-360noscope-vohiyo", "subscription": {"id": "f1"}}
    ).encode()
    now = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime())
    signature = mac(b"e76c6bd4-55c9-4987-8304-da1588d8988b" + now.encode() + body).hex()

    answer = await ask(
        running,
        "twitch",
        body,
        headers={
            "Twitch-Eventsub-Message-Id": "e76c6bd4-55c9-4987-8304-da1588d8988b",
            "Twitch-Eventsub-Message-Timestamp": now,
            "Twitch-Eventsub-Message-Type": "webhook_callback_verification",
            "Twitch-Eventsub-Message-Signature": f"sha256={signature}",
        },
    )

    assert (answer.status, answer.text) == (200, "pogchamp-kappa-360noscope-vohiyo")


async def test_event_grid_gets_its_code_back(running: Running) -> None:
    body = json.dumps(
        [
            {
                "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
                "topic": "/subscriptions/xxxxxxxx",
                "subject": "",
                "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
                "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
                "eventTime": "2018-01-25T22:12:19.4556811Z",
            }
        ]
    ).encode()
    headers = {"aeg-event-type": "SubscriptionValidation", "Content-Type": "application/json"}

    answer = await ask(running, "event-grid", body, query={"code": SECRET}, headers=headers)

    assert (answer.status, answer.json) == (
        200,
        {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
    )
    assert (await ask(running, "event-grid", body, query={"code": "x"}, headers=headers)).status == 404


async def test_event_grids_origin_is_allowed(running: Running) -> None:
    headers = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}

    answer = await ask(running, "event-grid", method="OPTIONS", query={"code": SECRET}, headers=headers)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["WebHook-Allowed-Origin"] == "eventemitter.example.com"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"


SNS = json.dumps(
    {
        "Type": "SubscriptionConfirmation",
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
        "SubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37f",
    }
).encode()


async def test_sns_is_confirmed(running: Running, fake_confirm: FakeConfirm) -> None:
    answer = await ask(running, "sns", SNS, headers={"X-Test-Token": SECRET})

    assert (answer.status, answer.body) == (200, b"")
    assert fake_confirm.urls == [
        "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37f"
    ]


async def test_a_failed_sns_confirmation_is_503(running: Running, fake_confirm: FakeConfirm) -> None:
    fake_confirm.succeeds = False

    answer = await ask(running, "sns", SNS, headers={"X-Test-Token": SECRET})

    assert answer.status == 503
    assert await handshakes_of(running, "sns") == 0


async def test_nothing_is_fetched_for_an_unverified_request(
    running: Running, fake_confirm: FakeConfirm
) -> None:
    elsewhere = SNS.replace(b"sns.us-west-2.amazonaws.com", b"127.0.0.1")

    assert (await ask(running, "sns", SNS)).status == 401
    assert (await ask(running, "sns", elsewhere, headers={"X-Test-Token": SECRET})).status == 400
    assert fake_confirm.urls == []


async def test_discords_pings_are_answered(running: Running) -> None:
    interaction = b'{"application_id":"1234560123453231555","id":"1","token":"t","type":1,"version":1}'
    event = b'{"version":1,"application_id":"1234560123453231555","type":0}'

    pong = await ask(running, "discord", interaction, headers=by_discord(interaction))
    nothing = await ask(running, "discord", event, headers=by_discord(event))

    assert (pong.status, pong.json) == (200, {"type": 1})
    assert (nothing.status, nothing.body) == (204, b"")
    assert (await ask(running, "discord", event, headers=by_discord(interaction))).status == 401


async def test_xero_gets_200_or_401_and_no_body(running: Running) -> None:
    body = b'{"events":[],"firstEventSequence": 0,"lastEventSequence": 0, "entropy": "S0m3r4Nd0mt3xt"}'
    good = base64.b64encode(mac(body)).decode()
    bad = base64.b64encode(mac(body + b" ")).decode()

    answers = [await ask(running, "xero", body, headers={"x-xero-signature": one}) for one in (good, bad)]

    assert [(answer.status, answer.body) for answer in answers] == [(200, b""), (401, b"")]
    assert all("Set-Cookie" not in answer.headers for answer in answers)


async def test_braintree_gets_its_challenge_signed(running: Running) -> None:
    challenge = "20f9f8ed05f77439fe955c977e4c8a53"

    answer = await ask(running, "braintree", method="GET", query={"bt_challenge": challenge})

    key = hashlib.new("sha1", SECRET.encode(), usedforsecurity=False).digest()
    proof = mac(challenge.encode(), "sha1", key).hex()
    assert (answer.status, answer.text) == (200, f"integration_public_key|{proof}")


async def test_a_handshake_proof_for_braintree_is_not_a_valid_signature(running: Running) -> None:
    """The signed bytes are base64, and some could be a challenge."""
    challenge = "20f9f8ed05f77439fe955c977e4c8a53"
    signature = (
        await ask(running, "braintree", method="GET", query={"bt_challenge": challenge})
    ).body.decode()

    answer = await ask(
        running,
        "braintree",
        f"bt_signature={signature}&bt_payload={challenge}".encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert answer.status == 401


async def test_ebay_gets_its_challenge_hashed(running: Running) -> None:
    code = "71745723-d031-455c-bfa5-f90d11b4f20a"

    answer = await ask(running, "ebay", method="GET", query={"challenge_code": code})

    hashed = hashlib.sha256(f"{code}{TOKEN}https://hooks.example.com/webhooks/ebay".encode()).hexdigest()
    assert (answer.status, answer.json) == (200, {"challengeResponse": hashed})


async def test_monday_gets_its_challenge_back(running: Running) -> None:
    answer = await ask(
        running, "monday", b'{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}'
    )

    assert answer.json == {"challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}


async def test_a_probe_with_head_is_answered(running: Running) -> None:
    answer = await ask(running, "intercom", method="HEAD")

    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("source", "method", "allow"),
    [
        ("slack", "GET", "POST"),
        ("dropbox", "PUT", "POST, GET"),
        ("dropbox", "HEAD", "POST, GET"),
        ("event-grid", "GET", "POST, OPTIONS"),
        ("intercom", "OPTIONS", "POST, HEAD"),
    ],
)
async def test_other_methods_are_405_with_the_allowed_methods(
    running: Running, source: str, method: str, allow: str
) -> None:
    answer = await ask(running, source, method=method)

    assert (answer.status, answer.headers["Allow"]) == (405, allow)


async def test_a_get_without_a_handshake_is_400_and_creates_no_event(running: Running) -> None:
    for query in ({}, {"challenge": ""}, {"challenge": "a\nb"}, {"challenge": "x" * 1025}):
        assert (await ask(running, "dropbox", method="GET", query=query)).status == 400
    # Not even with a signature.
    signed = {"X-Dropbox-Signature": mac(b"{}").hex()}
    assert (await ask(running, "dropbox", b"{}", method="GET", headers=signed)).status == 400
