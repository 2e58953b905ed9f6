"""PayPal and SNS: keys only from pinned addresses, in valid certificates, and every signed part signed."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st

from doubles.keys import Known, certificate, ec_key, rsa_key
from gatehouse.config.model import AwsSnsConfig, PaypalConfig
from gatehouse.config.secrets import SecretError
from gatehouse.errors import GatewayError, VerificationError
from gatehouse.language.request import Request
from gatehouse.language.times import parse_time, rfc3339
from gatehouse.verify.aws_sns import AwsSnsVerifier
from gatehouse.verify.base import KnownKeys, Verification
from gatehouse.verify.paypal import PaypalVerifier
from verifying import NOW, flipped, refused, request, verification

DAY = 86_400
PAYPAL_URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
PAYPAL_NAME = "messageverificationcerts.paypal.com"
WEBHOOK_ID = "1JE4291016473214C"
SNS_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"


def issued(name: str, *, key: Any = None, since: float = NOW - DAY, until: float = NOW + DAY) -> bytes:
    made = key or rsa_key()
    return certificate(made.public_key(), name, issuer=ec_key("authority"), since=since, until=until)


def knowing(checked: Verification, keys: KnownKeys) -> Verification:
    for remote in checked.remote:
        remote.keys = keys
    return checked


def signed(text: bytes, digest: Any = None, key: Any = None) -> str:
    made = (key or rsa_key()).sign(text, padding.PKCS1v15(), digest or hashes.SHA256())
    return base64.b64encode(made).decode()


def test_a_verification_knows_which_of_its_verifiers_need_keys() -> None:
    remote = {"type": "paypal", "webhook_id": WEBHOOK_ID}
    local = {"type": "hmac", "signature": {"header": "X-Sig"}}
    secrets = ("s3cr3t-of-at-least-16-bytes",)

    assert verification(local, secrets=secrets).remote == ()
    assert len(verification(remote).remote) == 1
    assert len(verification(local, remote, secrets=secrets).remote) == 1
    either = {"type": "any", "of": (local, remote)}
    assert len(verification(either, secrets=secrets).remote) == 1


class TestPaypal:
    """`type: paypal`."""

    BODY = b'{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED"}'
    ID, TIME = "69cd13f0-d67a-11e5-baa3-778b53f4ae55", "2025-06-15T15:06:40Z"

    def checked(self, key: bytes | None = None, url: str = PAYPAL_URL) -> Verification:
        found = {url: issued(PAYPAL_NAME) if key is None else key}
        return knowing(verification({"type": "paypal", "webhook_id": WEBHOOK_ID}), Known(found))

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

    def test_what_paypal_signs_passes(self) -> None:
        facts = self.checked().verify(self.asked(), NOW).facts

        signed = f"{self.ID}|{self.TIME}|{WEBHOOK_ID}|{zlib.crc32(self.BODY)}".encode()
        assert facts == {"signed": signed, "timestamp": self.TIME.encode()}

    @pytest.mark.case("F-03")
    @pytest.mark.parametrize(("settings", "days"), [({}, 4), ({"max_age": "3d"}, 3), ({"max_age": "7d"}, 7)])
    def test_a_captured_request_gets_too_old_for_any_body_of_its_checksum(
        self, settings: dict[str, Any], days: int
    ) -> None:
        config = {"type": "paypal", "webhook_id": WEBHOOK_ID}
        key = issued(PAYPAL_NAME, until=NOW + 30 * DAY)
        checked = knowing(verification(config, **settings), Known({PAYPAL_URL: key}))
        sent = parse_time(self.TIME) or 0

        checked.verify(self.asked(), sent + days * DAY)
        assert refused(checked, self.asked(), sent + days * DAY + 1) == "stale_timestamp"
        renewed = self.asked({"TRANSMISSION-TIME": rfc3339(sent + days * DAY)})
        assert refused(checked, renewed, sent + days * DAY + 1) == "wrong_signature"

    def test_the_sandbox_has_a_host_and_a_certificate_of_its_own(self) -> None:
        url = PAYPAL_URL.replace("api.", "api.sandbox.")
        checked = self.checked(issued("messageverificationcerts.sandbox.paypal.com"), url)

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
    def test_no_other_address_is_asked_or_believed(self, url: str) -> None:
        checked = self.checked(url=url)
        asked = self.asked({"CERT-URL": url})

        assert refused(checked, asked) == "wrong_credentials"
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
    def test_every_header_counts(self, changes: dict[str, str], reason: str) -> None:
        assert refused(self.checked(), self.asked(changes)) == reason

    def test_another_body_or_another_webhook_id_is_refused(self) -> None:
        asked = self.asked()

        assert refused(self.checked(), request(self.BODY + b" ", asked.headers)) == "wrong_signature"
        assert refused(self.checked(), self.asked(webhook_id="2JE4291016473214C")) == "wrong_signature"

    def test_a_header_that_is_there_twice_or_not_at_all_is_refused(self) -> None:
        for name in list(self.asked().headers):
            headers = self.asked().headers.copy()
            headers.add(name, headers[name])
            assert refused(self.checked(), request(self.BODY, headers)) == "duplicate_header"
            del headers[name]
            assert refused(self.checked(), request(self.BODY, headers)) in (
                "missing_signature",
                "malformed_signature",
            )

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            (issued(PAYPAL_NAME, until=NOW - 1), "wrong_signature"),
            (issued(PAYPAL_NAME, since=NOW + 1), "wrong_signature"),
            (issued(PAYPAL_NAME, key=rsa_key("short", 1024)), "wrong_signature"),
            (issued(PAYPAL_NAME, key=rsa_key("another's")), "wrong_signature"),
            (issued(PAYPAL_NAME, key=ec_key()), "wrong_signature"),
            (issued("messageverificationcerts.paypal.com.evil.example"), "wrong_credentials"),
            (issued("www.paypal.com"), "wrong_credentials"),
            (issued("evil.example"), "wrong_credentials"),
            (b"", "wrong_signature"),
            (b"<html>", "wrong_signature"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "wrong_signature"),
        ],
    )
    def test_a_certificate_has_to_be_paypals_and_valid(self, key: bytes, reason: str) -> None:
        assert refused(self.checked(key), self.asked()) == reason

    def test_a_certificate_with_its_chain_behind_it_will_do(self) -> None:
        self.checked(issued(PAYPAL_NAME) + issued("intermediate", key=ec_key())).verify(self.asked(), NOW)

    def test_an_address_that_holds_nothing_is_refused(self) -> None:
        checked = verification({"type": "paypal", "webhook_id": WEBHOOK_ID})

        assert refused(checked, self.asked()) == "wrong_signature"

    def test_a_request_without_signature_names_no_address(self) -> None:
        (remote,) = self.checked().remote

        assert remote.key_url(request()) is None
        assert remote.key_url(self.asked()) == PAYPAL_URL
        assert refused(self.checked(), request()) == "missing_signature"

    def test_only_a_registered_webhook_is_verified(self) -> None:
        with pytest.raises(SecretError):
            verification({"type": "paypal", "webhook_id": ""})
        assert self.checked().verifiers[0].credential_headers() == {"paypal-transmission-sig"}
        assert not self.checked().remote[0].is_outdated(self.asked(), b"")

    def test_only_paypal_signs(self) -> None:
        with pytest.raises(GatewayError, match="only the provider can sign"):
            self.checked().sign(request(), NOW)

    def test_the_addresses_can_be_replaced_where_it_is_made(self) -> None:
        url = "https://127.0.0.1:8443/cert"
        config = PaypalConfig(type="paypal", webhook_id=WEBHOOK_ID)
        verifier = PaypalVerifier(config, (), certificate_urls=re.compile(re.escape(url)))
        verifier.keys = Known({url: issued(PAYPAL_NAME)})

        verifier.verify(self.asked({"CERT-URL": url}), NOW)


class TestSns:
    """`type: aws-sns`."""

    def checked(self, key: bytes | None = None, url: str = SNS_URL, **settings: Any) -> Verification:
        found = Known({url: issued("sns.amazonaws.com") if key is None else key})
        return knowing(verification({"type": "aws-sns", "topic_arn": TOPIC} | settings), found)

    def notification(self, **changes: Any) -> dict[str, Any]:
        return {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": TOPIC,
            "Subject": "My First Message",
            "Message": "Hello\nworld!",
            "Timestamp": rfc3339(NOW),
            "SignatureVersion": "2",
            "SigningCertURL": SNS_URL,
        } | changes

    def confirmation(self, **changes: Any) -> dict[str, Any]:
        members = self.notification(
            Type="SubscriptionConfirmation", Token="t0k3n", SubscribeURL="https://x/y"
        )
        del members["Subject"]
        return members | changes

    def canonical(self, members: dict[str, Any]) -> str:
        """Write what is signed, from the list in the documentation."""
        if members["Type"] == "Notification":
            names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        else:
            names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        return "".join(f"{name}\n{members[name]}\n" for name in names if members.get(name) is not None)

    def asked(self, members: dict[str, Any], **after: Any) -> Request:
        """Sign the members, then change some."""
        digest = hashes.SHA1() if members["SignatureVersion"] == "1" else hashes.SHA256()  # noqa: S303
        signature = signed(self.canonical(members).encode(), digest)
        kept = {
            name: value
            for name, value in (members | {"Signature": signature} | after).items()
            if value != "-"
        }
        return request(json.dumps(kept).encode(), {"Content-Type": "text/plain; charset=UTF-8"})

    @pytest.mark.parametrize("version", ["1", "2"])
    def test_what_sns_signs_passes(self, version: str) -> None:
        for members in (
            self.notification(SignatureVersion=version),
            self.notification(SignatureVersion=version, Subject=None, Message=""),
            self.confirmation(SignatureVersion=version),
            self.confirmation(SignatureVersion=version, Type="UnsubscribeConfirmation"),
        ):
            facts = self.checked().verify(self.asked(members), NOW).facts
            timestamp = members["Timestamp"].encode()
            assert facts == {"signed": self.canonical(members).encode(), "timestamp": timestamp}

    @pytest.mark.parametrize("name", ["Message", "MessageId", "Subject", "Timestamp", "Type"])
    def test_every_signed_member_of_a_notification_counts(self, name: str) -> None:
        changed = {"Timestamp": rfc3339(NOW + 1), "Type": "SubscriptionConfirmation"}.get(name, "another")

        assert refused(self.checked(), self.asked(self.notification(), **{name: changed})) in (
            "wrong_signature",
            "malformed_body",
        )
        assert refused(self.checked(), self.asked(self.notification(), **{name: "-"})) in (
            "wrong_signature",
            "malformed_body",
            "missing_signature",
        )

    @pytest.mark.parametrize("name", ["Message", "MessageId", "SubscribeURL", "Token", "Type"])
    def test_every_signed_member_of_a_confirmation_counts(self, name: str) -> None:
        changed = "UnsubscribeConfirmation" if name == "Type" else "https://evil.example/"

        assert (
            refused(self.checked(), self.asked(self.confirmation(), **{name: changed})) == "wrong_signature"
        )

    def test_signed_lines_can_not_be_dealt_out_anew(self) -> None:
        """An id with the subject behind it gives the same signed text, and would be another event's."""
        genuine = self.notification()
        moved = genuine | {
            "MessageId": f"{genuine['MessageId']}\nSubject\n{genuine['Subject']}",
            "Subject": None,
        }
        assert self.canonical(moved) == self.canonical(genuine)

        changes = {"MessageId": moved["MessageId"], "Subject": "-"}
        assert refused(self.checked(), self.asked(genuine, **changes)) == "malformed_body"

    @pytest.mark.parametrize("value", [1, True, {"a": 1}, ["x"]])
    def test_a_signed_member_is_a_text_and_not_what_reads_the_same(self, value: Any) -> None:
        genuine = self.notification(Message=json.dumps(value))

        self.checked().verify(self.asked(genuine), NOW)
        assert refused(self.checked(), self.asked(genuine, Message=value)) == "malformed_body"

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"TopicArn": TOPIC + "2"}, "wrong_credentials"),
            ({"TopicArn": "arn:aws:sns:eu-west-1:999999999999:orders"}, "wrong_credentials"),
            ({"SignatureVersion": "3"}, "malformed_signature"),
            ({"Type": "Other"}, "malformed_signature"),
            ({"Timestamp": rfc3339(NOW - 3601)}, "stale_timestamp"),
            ({"Timestamp": rfc3339(NOW + 3601)}, "future_timestamp"),
            ({"Timestamp": "yesterday"}, "malformed_timestamp"),
        ],
    )
    def test_what_is_signed_has_to_be_ours_and_of_now(self, changes: dict[str, str], reason: str) -> None:
        members = self.notification(**changes)
        names = members if members["Type"] == "Notification" else members | {"Type": "Notification"}
        signature = signed(self.canonical(names).encode())
        asked = request(json.dumps(members | {"Signature": signature}).encode())

        assert refused(self.checked(), asked) == reason

    def test_the_greatest_age_is_the_configs(self) -> None:
        old = self.asked(self.notification(Timestamp=rfc3339(NOW - 3601)))

        self.checked(max_age="2h").verify(old, NOW)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"Signature": "-"}, "missing_signature"),
            ({"Signature": ""}, "malformed_signature"),
            ({"Signature": "!!"}, "malformed_signature"),
            ({"Signature": "AAAA"}, "wrong_signature"),
            ({"Signature": 1}, "malformed_body"),
            ({"SignatureVersion": 2}, "malformed_body"),
            ({"SignatureVersion": "1"}, "wrong_signature"),
            ({"SigningCertURL": "-"}, "malformed_body"),
            ({"SigningCertURL": None}, "malformed_body"),
        ],
    )
    def test_a_signature_of_another_form_is_refused(self, changes: dict[str, Any], reason: str) -> None:
        assert refused(self.checked(), self.asked(self.notification(), **changes)) == reason

    @pytest.mark.parametrize(
        "url",
        [
            SNS_URL.replace("https", "http"),
            SNS_URL.replace("sns.", "s3."),
            SNS_URL.replace("amazonaws.com", "amazonaws.com.evil.example"),
            SNS_URL.replace("sns.eu-west-1", "evil.example/sns.eu-west-1"),
            SNS_URL.replace("sns.eu-west-1", "sns.evil"),
            SNS_URL.replace("sns.eu-west-1", "sns.eu-west-1.evil"),
            SNS_URL.replace("sns.", "xsns."),
            SNS_URL.replace("https://", "https://evil@"),
            SNS_URL.replace(".com/", ".com:444/"),
            SNS_URL.replace("Simple", "../Simple"),
            SNS_URL.replace(".pem", ".pem?x"),
            SNS_URL.replace(".pem", ".pem#x"),
            SNS_URL.replace(".com", ".com.us"),
            SNS_URL.replace("amazonaws.com", "amazonaws.eu"),
            SNS_URL.replace("amazonaws.com", "c2s.ic.gov"),
            SNS_URL.replace("eu-west-1.amazonaws.com", "us-iso-east-1xc2s.ic.gov"),
            SNS_URL + "\n",
            "https://mybucket.s3.amazonaws.com/SimpleNotificationService-f3ec.pem",
        ],
    )
    def test_no_other_address_is_asked_or_believed(self, url: str) -> None:
        checked, asked = self.checked(url=url), self.asked(self.notification(SigningCertURL=url))

        assert refused(checked, asked) == "wrong_credentials"
        with pytest.raises(VerificationError):
            checked.remote[0].key_url(asked)

    @pytest.mark.parametrize(
        "host",
        [
            "us-gov-west-1.amazonaws.com",
            "cn-north-1.amazonaws.com.cn",
            "eusc-de-east-1.amazonaws.eu",
            "us-iso-east-1.c2s.ic.gov",
            "us-isob-east-1.sc2s.sgov.gov",
            "eu-isoe-west-1.cloud.adc-e.uk",
            "us-isof-south-1.csp.hci.ic.gov",
        ],
    )
    def test_every_region_has_its_host(self, host: str) -> None:
        url = SNS_URL.replace("eu-west-1.amazonaws.com", host)

        self.checked(url=url).verify(self.asked(self.notification(SigningCertURL=url)), NOW)

    def test_a_certificate_has_to_be_valid(self) -> None:
        for key in (
            issued("x", until=NOW - 1),
            issued("x", since=NOW + 1),
            issued("x", key=rsa_key("other")),
        ):
            assert refused(self.checked(key), self.asked(self.notification())) == "wrong_signature"

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b"null", b"{}", b"{", b'{"Type":"Notification","Type":"x"}', b"\xff"]
    )
    def test_a_body_that_is_no_notification_is_refused(self, body: bytes) -> None:
        assert refused(self.checked(), request(body)) in ("malformed_body", "missing_signature")

    def test_only_a_named_topic_is_verified(self) -> None:
        with pytest.raises(SecretError):
            verification({"type": "aws-sns", "topic_arn": ""})
        assert self.checked().verifiers[0].credential_headers() == frozenset()
        assert not self.checked().remote[0].is_outdated(request(), b"")

    def test_only_sns_signs(self) -> None:
        with pytest.raises(GatewayError, match="only the provider can sign"):
            self.checked().sign(request(), NOW)

    def test_the_addresses_can_be_replaced_where_it_is_made(self) -> None:
        url = "https://127.0.0.1:8443/cert"
        config = AwsSnsConfig(type="aws-sns", topic_arn=TOPIC)
        verifier = AwsSnsVerifier(config, (), certificate_urls=re.compile(re.escape(url)))
        verifier.keys = Known({url: issued("sns.amazonaws.com")})

        verifier.verify(self.asked(self.notification(SigningCertURL=url)), NOW)

    @given(bit=st.integers(0, 10_000))
    def test_one_flipped_bit_never_passes_unless_it_is_signed_alike(self, bit: int) -> None:
        asked = self.asked(self.notification())
        known = self.checked().verify(asked, NOW).facts["signed"]
        changed = request(flipped(asked.body, bit))
        try:
            facts = self.checked().verify(changed, NOW).facts
        except VerificationError:
            return
        assert facts["signed"] == known
        assert json.loads(changed.body)["Message"] == "Hello\nworld!"


VALUES = (
    st.text(max_size=20)
    | st.integers()
    | st.none()
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "Type": st.sampled_from(["Notification", "SubscriptionConfirmation", "x"]) | VALUES,
        "Signature": st.binary(max_size=20).map(lambda raw: base64.b64encode(raw).decode()) | VALUES,
        "SignatureVersion": st.sampled_from(["1", "2"]) | VALUES,
        "SigningCertURL": st.just(SNS_URL) | VALUES,
        "TopicArn": st.just(TOPIC) | VALUES,
        "Timestamp": st.just(rfc3339(NOW)) | VALUES,
        "Message": VALUES,
        "MessageId": VALUES,
        "Subject": VALUES,
    },
)
HEADER = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0")
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=30,
)


@given(body=MEMBERS.map(json.dumps).map(str.encode) | st.binary(max_size=60))
def test_sns_refuses_whatever_arrives_and_raises_nothing_else(body: bytes) -> None:
    with pytest.raises(VerificationError):
        TestSns().checked().verify(request(body), NOW)


@given(
    body=st.binary(max_size=30),
    headers=st.dictionaries(
        st.sampled_from(["TRANSMISSION-ID", "TRANSMISSION-TIME", "TRANSMISSION-SIG", "CERT-URL"]),
        HEADER,
        min_size=1,
    ),
)
def test_paypal_refuses_whatever_arrives_and_raises_nothing_else(
    body: bytes, headers: dict[str, str]
) -> None:
    asked = TestPaypal().asked(headers)
    if headers.items() - {
        (name.removeprefix("PAYPAL-"), value) for name, value in TestPaypal().asked().headers.items()
    }:
        with pytest.raises(VerificationError):
            TestPaypal().checked().verify(request(body, asked.headers), NOW)
