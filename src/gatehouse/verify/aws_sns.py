"""`type: aws-sns`: the signature of Amazon SNS, with a certificate from a host of AWS.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html: SNS signs the names and values
of some members, each on a separate line. `SignatureVersion` 1 is RSA with SHA-1, 2 is RSA with SHA-256.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding

from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError
from gatehouse.language.request import as_sent
from gatehouse.verify.asymmetric import (
    HASHES,
    certificate_key,
    decode_strict,
    is_valid,
    only_provider_can_sign,
)
from gatehouse.verify.base import KnownKeys, NoKeys, RemoteVerifier, fetched_key
from gatehouse.verify.freshness import check_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from gatehouse.config.model import AwsSnsConfig
    from gatehouse.errors import Reason
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts

#: The regions and the domain of each AWS partition, from partitions.json in https://github.com/boto/botocore.
_PARTITIONS = (
    r"[a-z]{2}(-[a-z]{2,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(\.cn)?",
    r"eusc-[a-z]{2}-[a-z]{2,12}-[0-9]{1,2}\.amazonaws\.eu",
    r"us-iso-[a-z]{2,12}-[0-9]{1,2}\.c2s\.ic\.gov",
    r"us-isob-[a-z]{2,12}-[0-9]{1,2}\.sc2s\.sgov\.gov",
    r"eu-isoe-[a-z]{2,12}-[0-9]{1,2}\.cloud\.adc-e\.uk",
    r"us-isof-[a-z]{2,12}-[0-9]{1,2}\.csp\.hci\.ic\.gov",
)
#: The URLs at which SNS publishes its certificates. Nobody else can publish there.
CERTIFICATE_URLS = re.compile(
    rf"https://sns\.({'|'.join(_PARTITIONS)})/SimpleNotificationService-[0-9a-f]{{1,64}}\.pem"
)
_HASHES = {"1": HASHES["sha1"], "2": HASHES["sha256"]}
_CONFIRMATION_MEMBERS = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
#: The signed members of each type, in the order in which they are signed.
_SIGNED_MEMBERS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION_MEMBERS,
    "UnsubscribeConfirmation": _CONFIRMATION_MEMBERS,
}
_OPTIONAL_MEMBER = "Subject"
#: The only member that may contain line breaks. With a second one, a sender could move lines between members.
_MULTILINE_MEMBER = "Message"


class AwsSnsVerifier:
    """Verifies that SNS signed the body for the configured topic, at most `max_age` ago."""

    def __init__(
        self,
        config: AwsSnsConfig,
        secrets: Sequence[bytes],  # noqa: ARG002 - SNS publishes the key
        *,
        certificate_urls: re.Pattern[str] = CERTIFICATE_URLS,
    ) -> None:
        if not config.topic_arn:
            raise ValueError("without topic_arn, requests from any topic of SNS would pass")
        self._topic = config.topic_arn
        self._max_age = config.max_age
        self._certificate_urls = certificate_urls
        self.keys: KnownKeys = NoKeys()
        self.remote: tuple[RemoteVerifier, ...] = (self,)

    def verify(self, request: Request, now: float) -> Facts:
        pem = fetched_key(self, request)
        parsed = self._parse(request)
        timestamp = check_timestamp(parsed.members["Timestamp"], "iso8601", self._max_age, now)
        signature = decode_strict(as_sent(parsed.signature), "base64")
        if not signature:
            raise VerificationError("malformed_signature")
        if not is_valid(parsed.check, certificate_key(pem, now), signature, parsed.signed):
            raise VerificationError("wrong_signature")
        return {"signed": parsed.signed, "timestamp": timestamp}

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        raise only_provider_can_sign("Amazon SNS")

    def credential_headers(self) -> frozenset[str]:
        return frozenset()

    def key_url(self, request: Request) -> str | None:
        parsed = self._parse(request)
        if not self._certificate_urls.fullmatch(parsed.certificate_url):
            raise VerificationError("wrong_credentials")
        return parsed.certificate_url

    def is_outdated(self, request: Request, key: bytes) -> bool:  # noqa: ARG002 - each key has its own URL
        return False

    def _parse(self, request: Request) -> _SignedBody:
        body = Document(request.body)
        kind = _string_member(body, "Type", "missing_signature")
        signature = _string_member(body, "Signature", "missing_signature")
        digest = _HASHES.get(_string_member(body, "SignatureVersion"))
        if digest is None or kind not in _SIGNED_MEMBERS:
            raise VerificationError("malformed_signature")
        values = {
            name: _string_member(body, name)
            for name in _SIGNED_MEMBERS[kind]
            if name != _OPTIONAL_MEMBER or _has_member(body, name)
        }
        if any("\n" in value for name, value in values.items() if name != _MULTILINE_MEMBER):
            raise VerificationError("malformed_body")
        if values["TopicArn"] != self._topic:
            raise VerificationError("wrong_credentials")
        return _SignedBody(signature, _string_member(body, "SigningCertURL"), digest, values)


class _SignedBody(msgspec.Struct, frozen=True):
    """The parts of a body that the signature depends on. They are not verified yet."""

    signature: str
    certificate_url: str
    digest: HashAlgorithm
    #: The signed members, in signing order.
    members: Mapping[str, str]

    @property
    def signed(self) -> bytes:
        """The signed bytes."""
        return as_sent("".join(f"{name}\n{value}\n" for name, value in self.members.items()))

    def check(self, key: RSAPublicKey, signature: bytes, signed: bytes) -> None:
        """Raise `InvalidSignature` if the signature is wrong."""
        key.verify(signature, signed, padding.PKCS1v15(), self.digest)


def _has_member(body: Document, name: str) -> bool:
    return body.raw_unchecked((name,)) not in (None, b"null")


def _string_member(body: Document, name: str, missing: Reason = "malformed_body") -> str:
    """Return a member that must be a JSON string: the number 1 has the signed bytes of the string "1"."""
    try:
        raw = body.raw((name,))
        text = body.text((name,))
    except MalformedDocumentError as error:
        raise VerificationError("malformed_body") from error
    if raw is None or text is None:
        raise VerificationError(missing)
    if not raw.startswith(b'"'):
        raise VerificationError("malformed_body")
    return text
