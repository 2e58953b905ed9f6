"""Standard Webhooks signatures, verified by the standard's own library."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gatehouse.delivery.signing import signature, signing_key

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()


def headers(*secrets: str, event_id: str, body: bytes) -> dict[str, str]:
    timestamp = int(time.time())
    keys = [signing_key(secret) for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(keys, event_id, timestamp, body),
    }


def test_the_worked_example_of_the_specification() -> None:
    body = b'{"test": 2432232314}'
    made = signature([signing_key(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(body=st.text().map(str.encode), event_id=st.from_regex(r"[0-9A-Z]{26}", fullmatch=True))
def test_the_library_verifies_signed_requests(body: bytes, event_id: str) -> None:
    Webhook(SECRET).verify(body, headers(SECRET, event_id=event_id, body=body), json_parse=False)


def test_either_secret_verifies_during_a_rotation() -> None:
    sent = headers(SECRET, OTHER, event_id="E", body=b"{}")
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(b"{}", sent)


def test_another_body_does_not_verify() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b"{ }", headers(SECRET, event_id="E", body=b"{}"))


@pytest.mark.parametrize("length", [24, 32, 64])
def test_keys_of_the_standards_lengths_are_read_with_and_without_padding(length: int) -> None:
    text = base64.b64encode(b"k" * length).decode()
    assert signing_key("whsec_" + text) == signing_key("whsec_" + text.rstrip("=")) == b"k" * length


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with whsec_"),
        ("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with whsec_"),
        ("whsec_not base64 at all, not at all!", "not base64"),
        ("whsec_ümläute", "not base64"),
        ("whsec_", "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(b"k" * 23).decode(), "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(b"k" * 65).decode(), "24 to 64 bytes"),
    ],
)
def test_a_wrong_secret_is_refused_without_being_repeated(secret: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        signing_key(secret)
    assert secret.removeprefix("whsec_") == "" or secret.removeprefix("whsec_") not in str(caught.value)
