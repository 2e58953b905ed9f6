"""Two similar genuine events, and the last retry of the first: shops, payments, e-mail and hosting."""

from __future__ import annotations

import json

import pytest
from multidict import CIMultiDict

from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from presets import source
from repeats import DAY, HOUR, Repeat, assert_two_events, changed, delivery

#: The tokens of these tests expire after five minutes.
MINUTES = 240
BIGCOMMERCE = {
    "scope": "store/order/updated",
    "store_id": "1025646",
    "data": {"type": "order", "id": 250},
    "hash": "dd70c0976e06b67aaf671e73f49dcb79230ebf9d",
    "created_at": 1561479335,
    "producer": "stores/abcde",
}
ADYEN_TRANSFER = {
    "data": {
        "id": "48VDG35LRLTYNMLV",
        "balancePlatform": "Shop",
        "status": "booked",
        "amount": {"currency": "EUR", "value": 11000},
    },
    "environment": "live",
    "timestamp": "2027-01-15T08:00:00+00:00",
    "type": "balancePlatform.transfer.updated",
}
MOLLIE = {
    "resource": "event",
    "id": "event_GvJ8WHrp5isUdRub9CJyH",
    "type": "payment-link.paid",
    "entityId": "pl_qng5gbbv8NAZ5gpM5ZYgx",
    "createdAt": "2024-12-16T15:59:04.0Z",
}
CHARGEBEE = {
    "id": "ev_16BHbhF4s42tO2lK",
    "occurred_at": 1517506759,
    "event_type": "subscription_changed",
    "content": {"subscription": {"id": "8ast4"}},
}
REVENUECAT = {
    "event": {
        "id": "12345678-1234-1234-1234-123456789012",
        "type": "RENEWAL",
        "app_user_id": "1234567890",
        "event_timestamp_ms": 1658726378679,
    },
    "api_version": "1.0",
}
POSTMARK_OPEN = {
    "RecordType": "Open",
    "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
    "Recipient": "john@example.com",
    "ReceivedAt": "2019-11-05T16:33:54.9070259Z",
    "ServerID": 23,
}
VONAGE_STATUS = {
    "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    "channel": "sms",
    "status": "submitted",
    "timestamp": "2026-01-01T14:00:00.000Z",
}
VONAGE_OTHER = {"request_id": "c11236f4-00bf-4b89-84ba-88b25df97315", "type": "summary", "status": "expired"}
NETLIFY = {
    "id": "5ebc34bf4fea0b01f02efa3a",
    "site_id": "fa4dd95a-994e-4f89-8a7a-2d9e9fc36a32",
    "state": "ready",
    "updated_at": "2020-05-13T17:58:56.738Z",
}

REPEATS = [
    Repeat(
        "bigcommerce",
        "an order updated twice",
        BIGCOMMERCE,
        changed(BIGCOMMERCE, created_at=1561479337),
        *delivery("webhook-id"),
        apart=2,
        retry=48 * HOUR + 240,
    ),
    Repeat(
        "adyen-platform",
        "a transfer that comes back to a status",
        ADYEN_TRANSFER,
        changed(ADYEN_TRANSFER, timestamp="2027-01-15T08:10:00+00:00"),
        retry=30 * DAY,
    ),
    Repeat(
        "mollie",
        "a link paid twice",
        MOLLIE,
        changed(MOLLIE, id="event_2hCkS7nZ4vKq9TzB3YwXa"),
        retry=26 * HOUR,
    ),
    Repeat(
        "chargebee",
        "a subscription changed and changed back in one second",
        CHARGEBEE,
        {**CHARGEBEE, "id": "ev_16BHbhF4s42tO2lL"},
        apart=1,
        retry=79 * HOUR,
    ),
    Repeat(
        "revenuecat",
        "two renewals",
        REVENUECAT,
        changed(REVENUECAT, id="22345678-1234-1234-1234-123456789012"),
        retry=2.5 * HOUR,
    ),
    Repeat(
        "postmark",
        "a mail opened twice in one moment",
        POSTMARK_OPEN,
        None,
        *delivery("X-PM-Webhook-Trace-Id"),
        apart=1,
    ),
    Repeat(
        "postmark",
        "a mail opened twice, without trace ids",
        POSTMARK_OPEN,
        changed(POSTMARK_OPEN, ReceivedAt="2019-11-05T16:40:00Z"),
        retry=10 * HOUR,
    ),
    Repeat(
        "vonage",
        "two statuses of one message",
        VONAGE_STATUS,
        changed(VONAGE_STATUS, status="delivered"),
        apart=1,
        retry=MINUTES,
    ),
    Repeat(
        "vonage",
        "a retry with its own token",
        VONAGE_STATUS,
        changed(VONAGE_STATUS, status="x"),
        resigned=True,
    ),
    Repeat("vonage", "what has no uuid, twice", VONAGE_OTHER, apart=10, retry=MINUTES),
    Repeat(
        "netlify",
        "one deploy sent as two events",
        NETLIFY,
        None,
        {"X-Netlify-Event": "deploy_created"},
        {"X-Netlify-Event": "previously_failed_deploy_succeeded"},
        apart=1,
        retry=MINUTES,
    ),
]


@pytest.mark.case("F-20", "F-21")
@pytest.mark.parametrize("repeat", REPEATS, ids=lambda repeat: f"{repeat.preset}: {repeat.name}")
def test_a_similar_event_is_new_and_a_retry_is_a_duplicate(repeat: Repeat) -> None:
    assert_two_events(repeat)


def test_one_message_in_two_subscriptions_of_google_is_two_events_and_a_push_sent_again_is_one() -> None:
    """Only Google can sign it, so the test reads it as if it were verified."""
    reader = source("google-pubsub").reader

    def keys(subscription: str, **more: int) -> set[bytes]:
        message = {"messageId": "2070443601311540", "data": "e30=", "publishTime": "2021-02-26T19:13:55.749Z"}
        raw = json.dumps(
            {"message": message, "subscription": f"projects/it/subscriptions/{subscription}"} | more
        )
        request = Request(
            "POST", "/webhooks/it", "", CIMultiDict(), raw.encode(), "https://gateway.example", ""
        )
        read = reader.read(VerifiedRequest(request, facts={"claims": b"{}"}), 1_800_000_000, ())
        return {key.scoped for _, found, _ in read for key in found if key}

    assert keys("one") == keys("one", deliveryAttempt=5)
    assert not keys("one") & keys("two")
