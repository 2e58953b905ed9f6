"""`type: paypal`: keys come only from pinned URLs and valid certificates. Every signed part is checked."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.keys import Known, ec_key, rsa_key
from gatehouse.config.model import PaypalConfig
from gatehouse.config.secrets import SecretError
from gatehouse.errors import GatewayError, VerificationError
from gatehouse.language.request import Request
from gatehouse.language.times import parse_time, rfc3339
from gatehouse.verify.base import Verification
from gatehouse.verify.paypal import PaypalVerifier
from published_keys import DAY, WEBHOOK_ID, issued_certificate, signed, with_fetched_keys
from verifying import NOW, refusal_reason, request, verification

PAYPAL_URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
PAYPAL_NAME = "messageverificationcerts.paypal.com"


class TestPaypal:
    """`type: paypal`."""

    BODY = b'{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED"}'
    ID, TIME = "69cd13f0-d67a-11e5-baa3-778b53f4ae55", "2025-06-15T15:06:40Z"

    def checked(self, key: bytes | None = None, url: str = PAYPAL_URL) -> Verification:
        found = {url: issued_certificate(PAYPAL_NAME) if key is None else key}
        return with_fetched_keys(verification({"type": "paypal", "webhook_id": WEBHOOK_ID}), Known(found))

    def asked(
        self,
        changes: Mapping[str, str] = {},
        *,
        body: bytes = BODY,
        webhook_id: str = WEBHOOK_ID,
    ) -> Request:
        text = f"{self.ID}|{self.TIME}|{webhook_id}|{zlib.crc32(body)}"
        headers = {
            "PAYPAL-TRANSMISSION-ID": self.ID,
            "PAYPAL-TRANSMISSION-TIME": self.TIME,
            "PAYPAL-TRANSMISSION-SIG": signed(text.encode()),
            "PAYPAL-CERT-URL": PAYPAL_URL,
            "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        }
        return request(body, headers | {f"PAYPAL-{name}": value for name, value in changes.items()})

    def test_a_genuine_paypal_request_passes(self) -> None:
        facts = self.checked().verify(self.asked(), NOW).facts

        signed = f"{self.ID}|{self.TIME}|{WEBHOOK_ID}|{zlib.crc32(self.BODY)}".encode()
        assert facts == {"signed": signed, "timestamp": self.TIME.encode()}

    @pytest.mark.case("F-03")
    @pytest.mark.parametrize(("settings", "days"), [({}, 4), ({"max_age": "3d"}, 3), ({"max_age": "7d"}, 7)])
    def test_max_age_refuses_an_old_request_with_any_body_of_the_same_checksum(
        self, settings: dict[str, Any], days: int
    ) -> None:
        config = {"type": "paypal", "webhook_id": WEBHOOK_ID}
        key = issued_certificate(PAYPAL_NAME, until=NOW + 30 * DAY)
        checked = with_fetched_keys(verification(config, **settings), Known({PAYPAL_URL: key}))
        sent = parse_time(self.TIME) or 0

        checked.verify(self.asked(), sent + days * DAY)
        assert refusal_reason(checked, self.asked(), sent + days * DAY + 1) == "stale_timestamp"
        renewed = self.asked({"TRANSMISSION-TIME": rfc3339(sent + days * DAY)})
        assert refusal_reason(checked, renewed, sent + days * DAY + 1) == "wrong_signature"

    def test_the_sandbox_has_its_own_host_and_certificate(self) -> None:
        url = PAYPAL_URL.replace("api.", "api.sandbox.")
        checked = self.checked(issued_certificate("messageverificationcerts.sandbox.paypal.com"), url)

        checked.verify(self.asked({"CERT-URL": url}), NOW)

    @pytest.mark.parametrize(
        "url",
        [
            "http://api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
            "https://evil.example/api.paypal.com/v1/notifications/certs/CERT-1",
            "https://evil.example#https://api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
            "https://api.paypal.com:444/v1/notifications/certs/CERT-1",
            "https://api-paypal.com/v1/notifications/certs/CERT-1",
            "https://apixpaypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com/v1/notifications/certs/../../x",
            "https://api.paypal.com/v1/notifications/certs/CERT-1?x=https://evil.example",
            "https://api.paypal.com/v1/notifications/certs/CERT-1\n",
            "https://api.paypal.com/v1/notifications/certs/",
            "https://api.paypal.com/v2/notifications/certs/CERT-1",
            "HTTPS://API.PAYPAL.COM/v1/notifications/certs/CERT-1",
            "file:///etc/passwd",
            "",
        ],
    )
    def test_any_other_certificate_url_is_refused(self, url: str) -> None:
        checked = self.checked(url=url)
        asked = self.asked({"CERT-URL": url})

        assert refusal_reason(checked, asked) == "wrong_credentials"
        with pytest.raises(VerificationError):
            checked.remote[0].key_url(asked)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"TRANSMISSION-ID": "69cd13f0-d67a-11e5-baa3-778b53f4ae56"}, "wrong_signature"),
            ({"TRANSMISSION-TIME": "2025-06-15T15:06:41Z"}, "wrong_signature"),
            ({"TRANSMISSION-TIME": ""}, "malformed_signature"),
            ({"TRANSMISSION-ID": "a|b"}, "malformed_signature"),
            ({"TRANSMISSION-ID": "é"}, "malformed_signature"),
            ({"AUTH-ALGO": "SHA1withRSA"}, "malformed_signature"),
            ({"AUTH-ALGO": "none"}, "malformed_signature"),
            ({"TRANSMISSION-SIG": ""}, "missing_signature"),
            ({"TRANSMISSION-SIG": "AAAA"}, "wrong_signature"),
            ({"TRANSMISSION-SIG": "A"}, "malformed_signature"),
            ({"TRANSMISSION-SIG": "é"}, "malformed_signature"),
        ],
    )
    def test_a_request_with_a_changed_header_is_refused(self, changes: dict[str, str], reason: str) -> None:
        assert refusal_reason(self.checked(), self.asked(changes)) == reason

    def test_another_body_or_another_webhook_id_is_refused(self) -> None:
        asked = self.asked()

        assert refusal_reason(self.checked(), request(self.BODY + b" ", asked.headers)) == "wrong_signature"
        assert refusal_reason(self.checked(), self.asked(webhook_id="2JE4291016473214C")) == "wrong_signature"

    def test_a_repeated_or_missing_header_is_refused(self) -> None:
        for name in list(self.asked().headers):
            headers = self.asked().headers.copy()
            headers.add(name, headers[name])
            assert refusal_reason(self.checked(), request(self.BODY, headers)) == "duplicate_header"
            del headers[name]
            assert refusal_reason(self.checked(), request(self.BODY, headers)) in (
                "missing_signature",
                "malformed_signature",
            )

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            (issued_certificate(PAYPAL_NAME, until=NOW - 1), "wrong_signature"),
            (issued_certificate(PAYPAL_NAME, since=NOW + 1), "wrong_signature"),
            (issued_certificate(PAYPAL_NAME, key=rsa_key("short", 1024)), "wrong_signature"),
            (issued_certificate(PAYPAL_NAME, key=rsa_key("another's")), "wrong_signature"),
            (issued_certificate(PAYPAL_NAME, key=ec_key()), "wrong_signature"),
            (issued_certificate("messageverificationcerts.paypal.com.evil.example"), "wrong_credentials"),
            (issued_certificate("www.paypal.com"), "wrong_credentials"),
            (issued_certificate("evil.example"), "wrong_credentials"),
            (b"", "wrong_signature"),
            (b"<html>", "wrong_signature"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "wrong_signature"),
        ],
    )
    def test_a_certificate_must_be_valid_and_issued_to_paypal(self, key: bytes, reason: str) -> None:
        assert refusal_reason(self.checked(key), self.asked()) == reason

    def test_a_certificate_followed_by_its_chain_verifies(self) -> None:
        self.checked(
            issued_certificate(PAYPAL_NAME) + issued_certificate("intermediate", key=ec_key())
        ).verify(self.asked(), NOW)

    def test_a_request_whose_url_serves_no_key_is_refused(self) -> None:
        checked = verification({"type": "paypal", "webhook_id": WEBHOOK_ID})

        assert refusal_reason(checked, self.asked()) == "wrong_signature"

    def test_a_request_without_a_signature_has_no_key_url(self) -> None:
        (remote,) = self.checked().remote

        assert remote.key_url(request()) is None
        assert remote.key_url(self.asked()) == PAYPAL_URL
        assert refusal_reason(self.checked(), request()) == "missing_signature"

    def test_a_webhook_id_is_required(self) -> None:
        with pytest.raises(SecretError):
            verification({"type": "paypal", "webhook_id": ""})
        assert self.checked().verifiers[0].credential_headers() == {"paypal-transmission-sig"}
        assert not self.checked().remote[0].is_outdated(self.asked(), b"")

    def test_sign_raises_because_only_paypal_can_sign(self) -> None:
        with pytest.raises(GatewayError, match="only the provider can sign"):
            self.checked().sign(request(), NOW)

    def test_the_pinned_certificate_urls_can_be_replaced(self) -> None:
        url = "https://127.0.0.1:8443/cert"
        config = PaypalConfig(type="paypal", webhook_id=WEBHOOK_ID)
        verifier = PaypalVerifier(config, (), certificate_urls=re.compile(re.escape(url)))
        verifier.keys = Known({url: issued_certificate(PAYPAL_NAME)})

        verifier.verify(self.asked({"CERT-URL": url}), NOW)


HEADER = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0")
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=30,
)


@given(
    body=st.binary(max_size=30),
    headers=st.dictionaries(
        st.sampled_from(["TRANSMISSION-ID", "TRANSMISSION-TIME", "TRANSMISSION-SIG", "CERT-URL"]),
        HEADER,
        min_size=1,
    ),
)
def test_random_requests_raise_only_verification_errors_in_paypal(
    body: bytes, headers: dict[str, str]
) -> None:
    asked = TestPaypal().asked(headers)
    if headers.items() - {
        (name.removeprefix("PAYPAL-"), value) for name, value in TestPaypal().asked().headers.items()
    }:
        with pytest.raises(VerificationError):
            TestPaypal().checked().verify(request(body, asked.headers), NOW)
