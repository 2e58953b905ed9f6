"""`type: twilio`: Twilio's signature over the URL and either the form or a hash of the body.

https://www.twilio.com/docs/usage/security#validating-requests: the signature is HMAC-SHA1 in base64, with the
auth token as the key. It covers the registered URL. For a form, the names and values of all fields follow the
URL, sorted and without repetitions. For any other body, the query of the URL contains `bodySHA256`. Twilio's
own validators try the URL with and without its port.

With a SharedKey (https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys), Twilio signs the same bytes
with HMAC-SHA256. The header X-Twilio-Webhooks-Signature-Settings names the hash, but that header is not
signed, so the length of the signature determines the hash. All secrets are tried with that hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from gatehouse.errors import VerificationError
from gatehouse.language.document import MalformedDocumentError
from gatehouse.language.request import as_sent
from gatehouse.language.scope import Scope, is_urlencoded
from gatehouse.language.template import Template
from gatehouse.verify.base import ct_equal, matching_position, proven_with, single_header
from gatehouse.verify.places import with_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import TwilioConfig
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts

_HEADER = "X-Twilio-Signature"
_BODY_HASH = "bodySHA256"
_FORM_FIELDS = Template("{form_sorted?}")
_URL = Template("{url}")
_PORT = re.compile(r":[0-9]+$")
_STANDARD_PORTS = {"https": 443, "http": 80}
#: The field in which Twilio's Conversations counts its attempts.
_RETRY_COUNT = re.compile(rb"RetryCount[0-9]{1,9}")
#: The hash for each length of a signature in base64.
_DIGESTS = {28: "sha1", 44: "sha256"}


class TwilioVerifier:
    """Checks the signature with each configured auth token or SharedKey."""

    def __init__(self, config: TwilioConfig, secrets: Sequence[bytes]) -> None:  # noqa: ARG002 - no settings
        if not secrets or not all(secrets):
            raise ValueError("a verifier needs a secret")
        self._keys = tuple(secrets)

    def verify(self, request: Request, now: float) -> Facts:  # noqa: ARG002 - Twilio signs no timestamp
        given, digest = _signature(request)
        _check_body_hash(request)
        # A retry may be signed with the port and the first attempt without. `{signed}` identifies the event,
        # so it always has the same form.
        signed = _signed(request)
        variants = [signed] + [
            _signed(_with_public_url(request, url)) for url in _other_urls(request.public_url)
        ]
        expected = [_hmac(key, one, digest) for key in self._keys for one in variants]
        position = matching_position(given, expected)
        if not position:
            raise VerificationError("wrong_signature")
        facts = proven_with((position - 1) // len(variants) + 1)
        facts["signed"] = signed
        # The identity of an event that is sent as a form, without its retry count. Twilio signs no separator
        # between names and values, so an attacker could replay a form with the count moved to another field.
        # Therefore the count is removed wherever it occurs.
        if is_urlencoded(request):
            facts["id"] = hashlib.sha256(_RETRY_COUNT.sub(b"", signed)).hexdigest().encode()
        return facts

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        if not is_urlencoded(request) and request.body:
            hashed = urlencode({_BODY_HASH: hashlib.sha256(request.body).hexdigest()})
            kept = [part for part in request.query.split("&") if part and not part.startswith(_BODY_HASH)]
            request = msgspec.structs.replace(request, query="&".join([*kept, hashed]))
        signature = _hmac(self._keys[0], _signed(request), "sha1")
        return with_header(request, _HEADER, signature.decode())

    def credential_headers(self) -> frozenset[str]:
        return frozenset({_HEADER.lower()})


def _hmac(key: bytes, signed: bytes, digest: str) -> bytes:
    return base64.b64encode(hmac.digest(key, signed, digest))


def _signature(request: Request) -> tuple[bytes, str]:
    """Return the signature, and the hash that its length implies."""
    text = single_header(request, _HEADER)
    if not text:
        raise VerificationError("missing_signature")
    digest = _DIGESTS.get(len(text))
    if digest is None or not text.isascii():
        raise VerificationError("malformed_signature")
    return as_sent(text), digest


def _check_body_hash(request: Request) -> None:
    """Check the body against the hash in the signed URL. Only a form may come without a hash."""
    try:
        claimed = Scope(request).query.get(_BODY_HASH)
    except MalformedDocumentError:
        claimed = None
    if claimed is None:
        if request.body and not is_urlencoded(request):
            raise VerificationError("wrong_signature")
        return
    actual = hashlib.sha256(request.body).hexdigest()
    if not claimed.isascii() or not ct_equal(as_sent(claimed), as_sent(actual)):
        raise VerificationError("wrong_signature")


def _signed(request: Request) -> bytes:
    """Build the signed bytes. Raises `VerificationError` if the form is malformed or the URL is unknown."""
    scope = Scope(request)
    try:
        url, fields = _URL.render(scope), _FORM_FIELDS.render(scope) if is_urlencoded(request) else b""
    except MalformedDocumentError as error:
        raise VerificationError("malformed_body") from error
    if url is None:
        raise VerificationError("malformed_body")
    return url + (fields or b"")


def _other_urls(public_url: str) -> list[str]:
    """Return the other form of the URL: without its port, or with the standard port."""
    if _PORT.search(public_url):
        return [_PORT.sub("", public_url)]
    port = _STANDARD_PORTS.get(public_url.partition(":")[0])
    return [f"{public_url}:{port}"] if port else []


def _with_public_url(request: Request, public_url: str) -> Request:
    return msgspec.structs.replace(request, public_url=public_url)
