"""Similar events and retries for the presets from N to Z. See `test_preset_repeats`."""

from __future__ import annotations

import json

import pytest
from multidict import CIMultiDict

from gatehouse.language.request import Request
from gatehouse.samples.sample import Sample, sign_sample
from gatehouse.verify.base import VerifiedRequest
from presets import FILES, Vector, built, source
from repeats import DAY, HOUR, NOW, Repeat, Seen, assert_two_events, changed, delivery

SHOPIFY_HOLD = {"fulfillment_order": {"id": "gid://shopify/FulfillmentOrder/1", "status": "open"}}
SHOPIFY_FIELDS = {"id": 788032119674292922, "title": "Example T-Shirt"}
SENTRY = {
    "action": "resolved",
    "actor": {"id": 1, "name": "Jane", "type": "user"},
    "data": {"issue": {"id": "1170820242", "status": "resolved", "lastSeen": "2026-08-19T20:58:37.391Z"}},
    "installation": {"uuid": "a8e5d37a"},
}
WEBFLOW = {
    "triggerType": "ecomm_inventory_changed",
    "payload": {"id": "5bfedb42", "quantity": 5, "inventoryType": "finite"},
}
WEBFLOW_ITEM = {
    "triggerType": "collection_item_changed",
    "payload": {"id": "67a0e1d6", "lastUpdated": "2026-06-05T14:00:00.123Z", "fieldData": {"name": "a"}},
}
STREAM = [
    {
        "specversion": "1.0",
        "type": "com.twilio.eventstreams.test-event",
        "source": "Sink",
        "id": "TEST0001",
        "time": "2026-06-05T14:00:00.000Z",
        "data": {"test_id": "1"},
    }
]
X_FOLLOW = {
    "for_user_id": "2244994945",
    "follow_events": [
        {
            "type": "follow",
            "created_timestamp": "1780667990123",
            "target": {"id": "2244994945", "followers_count": 530000},
            "source": {"id": "3001969357", "followers_count": 7},
        }
    ],
}
X_POST = {
    "data": {
        "event_uuid": "2080761390344937796",
        "event_type": "post.create",
        "filter": {"user_id": "2244994945"},
        "payload": {"id": "2080761390344937700", "public_metrics": {"like_count": 0}},
    }
}
SUPABASE = {"metadata": {"uuid": "8b1b7c5a"}, "user_id": "6481a5c1", "factor_id": "f1", "valid": False}
QUICKBOOKS = {
    "eventNotifications": [
        {
            "realmId": "1185883450",
            "dataChangeEvent": {"entities": [{"name": "Customer", "id": "1", "operation": "Delete"}]},
        }
    ]
}
INTUIT = [{"specversion": "1.0", "id": "88cd52aa", "source": "intuit.one", "type": "qbo.invoice.created.v1"}]
XERO = {
    "events": [
        {
            "resourceId": "717f2bfc",
            "tenantId": None,
            "eventCategory": "SUBSCRIPTION",
            "eventType": "Update",
            "eventDateUtc": "2027-01-15T07:59:39.902",
        }
    ],
    "firstEventSequence": 1,
    "lastEventSequence": 1,
    "entropy": "one",
}
PAYSTACK = {"event": "invoice.update", "data": {"invoice_code": "INV_1", "paid": False, "description": None}}
ZOOM = {
    "event": "meeting.participant_joined",
    "event_ts": 1783979091123,
    "payload": {"account_id": "A", "object": {"uuid": "4444", "participant": {"participant_uuid": "55"}}},
}
SINCH = {"accepted_time": "2026-06-05T14:00:00.1506Z", "message": {"id": "01EQ"}, "project_id": "c36f"}

REPEATS = [
    Repeat(
        "shopify",
        "a hold released twice",
        SHOPIFY_HOLD,
        None,
        *delivery("X-Shopify-Webhook-Id", "X-Shopify-Topic", "fulfillment_orders/hold_released"),
        apart=120,
        retry=4 * HOUR,
    ),
    Repeat(
        "shopify",
        "a product updated twice, with include_fields",
        SHOPIFY_FIELDS,
        None,
        *delivery("X-Shopify-Webhook-Id", "X-Shopify-Topic", "products/update"),
        apart=1,
        retry=4 * HOUR,
    ),
    Repeat(
        "sentry",
        "an issue resolved, opened and resolved again",
        SENTRY,
        None,
        *delivery("Request-ID", "Sentry-Hook-Resource", "issue"),
        apart=HOUR + 1,
        retry=900,
    ),
    Repeat("webflow", "an inventory that is 5, 4 and 5 again", WEBFLOW, None, apart=2, retry=1830),
    Repeat(
        "webflow",
        "an item changed and changed back",
        WEBFLOW_ITEM,
        changed(WEBFLOW_ITEM, lastUpdated="2026-06-05T14:10:00.000Z"),
        retry=1830,
        resigned=True,
    ),
    Repeat(
        "zendesk",
        "a trigger with a fixed text, twice in one second",
        {"text": "A ticket was solved."},
        None,
        *delivery("X-Zendesk-Webhook-Invocation-Id"),
        apart=0.2,
        retry=120,
    ),
    Repeat(
        "zendesk",
        "the same with newly signed retries",
        {"text": "A ticket was solved."},
        None,
        *delivery("X-Zendesk-Webhook-Invocation-Id"),
        apart=0.2,
        retry=120,
        resigned=True,
    ),
    Repeat(
        "woocommerce",
        "an order deleted, restored and deleted again",
        {"id": 727},
        None,
        *delivery("X-WC-Webhook-Delivery-ID", "X-WC-Webhook-Topic", "order.deleted"),
    ),
    Repeat(
        "twilio",
        "a sink tested twice",
        STREAM,
        changed(STREAM, time="2026-06-05T14:01:30.250Z"),
        retry=4 * HOUR,
    ),
    Repeat(
        "x",
        "a follower who comes back",
        X_FOLLOW,
        changed(X_FOLLOW, created_timestamp="1780668999999"),
        retry=DAY,
        counted=changed(X_FOLLOW, followers_count=530001),
    ),
    Repeat(
        "x",
        "two posts",
        X_POST,
        changed(X_POST, event_uuid="2080761390344937799"),
        retry=DAY,
        counted=changed(X_POST, like_count=3),
    ),
    Repeat(
        "supabase",
        "a wrong code entered twice",
        SUPABASE,
        changed(SUPABASE, uuid="9c2c8d6b"),
        {"webhook-id": "one"},
        {"webhook-id": "two"},
        apart=1,
        retry=5,
        resigned=True,
    ),
    Repeat(
        "quickbooks",
        "a customer and a vendor with the same number",
        QUICKBOOKS,
        changed(QUICKBOOKS, name="Vendor"),
        apart=1,
        retry=7 * DAY - 60,
    ),
    Repeat(
        "quickbooks",
        "the same id from two sources",
        INTUIT,
        changed(INTUIT, source="intuit.two"),
        apart=1,
        retry=7 * DAY - 60,
    ),
    Repeat(
        "xero",
        "an app's own subscription, which has no tenant, updated twice",
        XERO,
        changed(XERO, eventDateUtc="2027-01-15T07:59:41.000", entropy="two"),
        retry=DAY,
        counted=changed(XERO, entropy="three"),
    ),
    Repeat("paystack", "an invoice updated twice", PAYSTACK, changed(PAYSTACK, paid=True), retry=3 * DAY),
    Repeat("zoom", "a participant who joins twice", ZOOM, changed(ZOOM, event_ts=1783979099123), retry=5100),
    Repeat(
        "sinch",
        "two messages",
        SINCH,
        changed(SINCH, accepted_time="2026-06-05T14:00:00.2000Z"),
        retry=HOUR,
        resigned=True,
    ),
]


@pytest.mark.case("F-21")
@pytest.mark.parametrize("repeat", REPEATS, ids=[f"{one.preset}: {one.name}" for one in REPEATS])
def test_a_similar_event_is_new_and_a_retry_is_a_duplicate(repeat: Repeat) -> None:
    assert_two_events(repeat)


#: Pairs of vectors that are one event, and pairs that are two: the preset and both names.
ONE_EVENT = [
    ("twilio", "A message from Conversations", "A retry of the message with a higher, signed RetryCount"),
    (
        "plaid",
        "A payment event, which contains a time",
        "A retry of the payment event: another token for the same body",
    ),
    ("x", "A new follower", "The same follow, sent again with a higher follower count"),
    ("zendesk", "A trigger with a fixed text", "A retry with a new signature"),
    (
        "supabase",
        "Two signatures, the first of which was made with the configured secret",
        "Two signatures, the last of which was made with the configured secret",
    ),
]
TWO_EVENTS = [
    (
        "twilio",
        "A test of an event sink",
        "A second test of the event sink, with the same id at another time",
    ),
    (
        "webflow",
        "An inventory quantity changed to 5",
        "An inventory quantity changed back to 5: an identical body, but a separate event",
    ),
    ("paystack", "An invoice was changed", "An invoice was changed again"),
    ("x", "A new follower", "A follower left"),
    ("quickbooks", "Two CloudEvents", "A CloudEvent whose id another source has used"),
]


@pytest.mark.case("F-21")
@pytest.mark.parametrize(
    ("preset", "first", "second", "is_new"),
    [(*names, False) for names in ONE_EVENT] + [(*names, True) for names in TWO_EVENTS],
)
def test_two_vectors_are_one_event_or_two(preset: str, first: str, second: str, is_new: bool) -> None:
    vectors = {vector.name: vector for vector in FILES[preset].vectors}
    seen = Seen(built(preset, vectors[first]))

    assert seen.are_new(vectors[first].request(), vectors[first].now)
    assert seen.are_new(vectors[second].request(), vectors[second].now) is is_new


def test_a_retry_from_sentry_has_a_new_id_and_is_recognized_by_its_bytes() -> None:
    of = source("sentry")
    seen = Seen(of)
    first, again = delivery("Request-ID", "Sentry-Hook-Resource", "issue")

    assert seen.are_new(sign_sample(of, Sample(dict(first), json.dumps(SENTRY).encode()), NOW), NOW)
    assert not seen.are_new(
        sign_sample(of, Sample(dict(again), json.dumps(SENTRY).encode()), NOW + 900), NOW + 900
    )


@pytest.mark.parametrize("preset", ["shopify", "zendesk"])
def test_adding_the_signed_bytes_to_an_unsigned_id_stops_captured_requests(preset: str) -> None:
    """The presets recommend this if the bodies do not repeat."""
    vector = first_of(preset)
    names = {"shopify": "X-Shopify-Webhook-Id", "zendesk": "X-Zendesk-Webhook-Invocation-Id"}
    key = f"{{header:{names[preset]}}}"
    of = source(preset, vector.secrets, dedupe={"by": [key, "{signed}"]})
    request = vector.request()
    headers = CIMultiDict(request.headers)
    headers[names[preset]] = "another"
    seen = Seen(of)

    assert seen.are_new(request, vector.now)
    captured = Request("POST", request.path, "", headers, request.body, "https://gateway.example", "")
    assert not seen.are_new(captured, vector.now)


def first_of(preset: str) -> Vector:
    return next(vector for vector in FILES[preset].vectors if vector.events)


def test_a_captured_zendesk_trigger_does_not_block_the_trigger_whose_id_it_uses() -> None:
    of = source("zendesk")
    taken = {"X-Zendesk-Webhook-Invocation-Id": "01GH4BVGTPVJWE3PNPTC1T5EZQ"}

    def keys(body: bytes, signed_bytes: bytes) -> set[bytes]:
        request = Request("POST", "/webhooks/it", "", CIMultiDict(taken), body, "", "")
        read = of.reader.read(VerifiedRequest(request, facts={"signed": signed_bytes}), NOW, ())
        return {key.scoped for _, found, _ in read for key in found if key}

    assert not keys(b"captured", b"1captured") & keys(b"genuine", b"2genuine")
