"""`type: aws-sns`: keys come only from pinned URLs and valid certificates. Every signed part is checked."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from doubles.keys import Known, rsa_key
from gatehouse.config.model import AwsSnsConfig
from gatehouse.config.secrets import SecretError
from gatehouse.errors import GatewayError, VerificationError
from gatehouse.language.request import Request
from gatehouse.language.times import rfc3339
from gatehouse.verify.aws_sns import AwsSnsVerifier
from gatehouse.verify.base import Verification
from published_keys import issued_certificate, signed, with_fetched_keys
from verifying import NOW, flipped, refusal_reason, request, verification

SNS_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"


class TestSns:
    """`type: aws-sns`."""

    def checked(self, key: bytes | None = None, url: str = SNS_URL, **settings: Any) -> Verification:
        found = Known({url: issued_certificate("sns.amazonaws.com") if key is None else key})
        return with_fetched_keys(verification({"type": "aws-sns", "topic_arn": TOPIC} | settings), found)

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
        """Build the signed text as the documentation of SNS describes it."""
        if members["Type"] == "Notification":
            names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        else:
            names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        return "".join(f"{name}\n{members[name]}\n" for name in names if members.get(name) is not None)

    def asked(self, members: dict[str, Any], **after: Any) -> Request:
        """Sign the members, and then change some of them."""
        digest = hashes.SHA1() if members["SignatureVersion"] == "1" else hashes.SHA256()  # noqa: S303
        signature = signed(self.canonical(members).encode(), digest)
        kept = {
            name: value
            for name, value in (members | {"Signature": signature} | after).items()
            if value != "-"
        }
        return request(json.dumps(kept).encode(), {"Content-Type": "text/plain; charset=UTF-8"})

    @pytest.mark.parametrize("version", ["1", "2"])
    def test_a_genuine_sns_request_passes(self, version: str) -> None:
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
    def test_a_notification_with_a_changed_member_is_refused(self, name: str) -> None:
        changed = {"Timestamp": rfc3339(NOW + 1), "Type": "SubscriptionConfirmation"}.get(name, "another")

        assert refusal_reason(self.checked(), self.asked(self.notification(), **{name: changed})) in (
            "wrong_signature",
            "malformed_body",
        )
        assert refusal_reason(self.checked(), self.asked(self.notification(), **{name: "-"})) in (
            "wrong_signature",
            "malformed_body",
            "missing_signature",
        )

    @pytest.mark.parametrize("name", ["Message", "MessageId", "SubscribeURL", "Token", "Type"])
    def test_a_confirmation_with_a_changed_member_is_refused(self, name: str) -> None:
        changed = "UnsubscribeConfirmation" if name == "Type" else "https://evil.example/"

        assert (
            refusal_reason(self.checked(), self.asked(self.confirmation(), **{name: changed}))
            == "wrong_signature"
        )

    def test_signed_lines_cannot_move_between_members(self) -> None:
        """An id that contains the subject would have the same signed text but identify another event."""
        genuine = self.notification()
        moved = genuine | {
            "MessageId": f"{genuine['MessageId']}\nSubject\n{genuine['Subject']}",
            "Subject": None,
        }
        assert self.canonical(moved) == self.canonical(genuine)

        changes = {"MessageId": moved["MessageId"], "Subject": "-"}
        assert refusal_reason(self.checked(), self.asked(genuine, **changes)) == "malformed_body"

    @pytest.mark.parametrize("value", [1, True, {"a": 1}, ["x"]])
    def test_a_signed_member_must_be_a_json_string(self, value: Any) -> None:
        genuine = self.notification(Message=json.dumps(value))

        self.checked().verify(self.asked(genuine), NOW)
        assert refusal_reason(self.checked(), self.asked(genuine, Message=value)) == "malformed_body"

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
    def test_another_topic_or_a_timestamp_out_of_tolerance_is_refused(
        self, changes: dict[str, str], reason: str
    ) -> None:
        members = self.notification(**changes)
        names = members if members["Type"] == "Notification" else members | {"Type": "Notification"}
        signature = signed(self.canonical(names).encode())
        asked = request(json.dumps(members | {"Signature": signature}).encode())

        assert refusal_reason(self.checked(), asked) == reason

    def test_max_age_is_configurable(self) -> None:
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
    def test_a_malformed_signature_is_refused(self, changes: dict[str, Any], reason: str) -> None:
        assert refusal_reason(self.checked(), self.asked(self.notification(), **changes)) == reason

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
    def test_any_other_certificate_url_is_refused(self, url: str) -> None:
        checked, asked = self.checked(url=url), self.asked(self.notification(SigningCertURL=url))

        assert refusal_reason(checked, asked) == "wrong_credentials"
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
    def test_the_host_of_every_region_is_accepted(self, host: str) -> None:
        url = SNS_URL.replace("eu-west-1.amazonaws.com", host)

        self.checked(url=url).verify(self.asked(self.notification(SigningCertURL=url)), NOW)

    def test_an_expired_or_malformed_certificate_is_refused(self) -> None:
        for key in (
            issued_certificate("x", until=NOW - 1),
            issued_certificate("x", since=NOW + 1),
            issued_certificate("x", key=rsa_key("other")),
        ):
            assert refusal_reason(self.checked(key), self.asked(self.notification())) == "wrong_signature"

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b"null", b"{}", b"{", b'{"Type":"Notification","Type":"x"}', b"\xff"]
    )
    def test_a_body_that_is_not_a_notification_is_refused(self, body: bytes) -> None:
        assert refusal_reason(self.checked(), request(body)) in ("malformed_body", "missing_signature")

    def test_a_topic_is_required(self) -> None:
        with pytest.raises(SecretError):
            verification({"type": "aws-sns", "topic_arn": ""})
        assert self.checked().verifiers[0].credential_headers() == frozenset()
        assert not self.checked().remote[0].is_outdated(request(), b"")

    def test_sign_raises_because_only_sns_can_sign(self) -> None:
        with pytest.raises(GatewayError, match="only the provider can sign"):
            self.checked().sign(request(), NOW)

    def test_the_pinned_certificate_urls_can_be_replaced(self) -> None:
        url = "https://127.0.0.1:8443/cert"
        config = AwsSnsConfig(type="aws-sns", topic_arn=TOPIC)
        verifier = AwsSnsVerifier(config, (), certificate_urls=re.compile(re.escape(url)))
        verifier.keys = Known({url: issued_certificate("sns.amazonaws.com")})

        verifier.verify(self.asked(self.notification(SigningCertURL=url)), NOW)

    @given(bit=st.integers(0, 10_000))
    def test_a_flipped_bit_is_refused_unless_the_signed_bytes_stay_the_same(self, bit: int) -> None:
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


@given(body=MEMBERS.map(json.dumps).map(str.encode) | st.binary(max_size=60))
def test_random_bodies_raise_only_verification_errors_in_sns(body: bytes) -> None:
    with pytest.raises(VerificationError):
        TestSns().checked().verify(request(body), NOW)
