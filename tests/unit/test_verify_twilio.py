"""`type: twilio`: URL and form, or URL and hash of the body; the vectors of Twilio's own tests pass.

The vectors are those of twilio-python, tests/unit/test_request_validator.py. More of them, and some that its
RequestValidator made, are in tests/vectors/twilio.json.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.config.secrets import SecretError
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from verifying import NOW, flipped, refusal_reason, request, verification

SECRET = "12345"
FORM = "application/x-www-form-urlencoded"
FIELDS = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
TWILIO = verification({"type": "twilio"}, secrets=(SECRET,))


def signature(signed: str, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), signed.encode(), "sha1")).decode()


def form(
    given: str,
    fields: object = tuple(FIELDS.items()),
    *,
    url: str = "https://mycompany.com",
    query: str = "foo=1&bar=2",
) -> Request:
    """Create the request of the published vector, with this signature."""
    headers = CIMultiDict({"X-Twilio-Signature": given, "Content-Type": f"{FORM}; charset=UTF-8"})
    return Request("POST", "/myapp.php", query, headers, urlencode(fields).encode(), url)  # type: ignore[arg-type]


class TestForms:
    """Signatures over the URL, followed by the names and values of the form."""

    def test_the_published_vector_passes(self) -> None:
        verified = TWILIO.verify(form("RSOYDt4T1cUTdK1PDd93/VVr8B8="), NOW)

        assert verified.facts["signed"] == (
            b"https://mycompany.com/myapp.php?foo=1&bar=2CallSidCA1234567890ABCDECaller+14158675309Digits1234"
            b"From+14158675309To+18005551212"
        )

    def test_the_published_vector_passes_on_another_port(self) -> None:
        TWILIO.verify(form("RSOYDt4T1cUTdK1PDd93/VVr8B8=", url="https://mycompany.com:1234"), NOW)

    def test_a_url_signed_with_the_standard_port_passes(self) -> None:
        TWILIO.verify(form("kvajT1Ptam85bY51eRf/AJRuM3w="), NOW)
        signed = "http://mycompany.com:80/myapp.php"
        TWILIO.verify(form(signature(signed), (), url="http://mycompany.com", query=""), NOW)

    def test_a_form_has_the_same_identity_with_and_without_port(self) -> None:
        without = TWILIO.verify(form("RSOYDt4T1cUTdK1PDd93/VVr8B8="), NOW)
        with_port = TWILIO.verify(form("kvajT1Ptam85bY51eRf/AJRuM3w="), NOW)

        assert without.facts == with_port.facts

    @pytest.mark.parametrize(
        "url", ["http://mycompany.com", "https://mycompany.org", "https://mycompany.com.evil"]
    )
    def test_a_signature_for_another_url_is_refused(self, url: str) -> None:
        assert refusal_reason(TWILIO, form("RSOYDt4T1cUTdK1PDd93/VVr8B8=", url=url)) == "wrong_signature"

    def test_the_query_is_signed(self) -> None:
        asked = form("RSOYDt4T1cUTdK1PDd93/VVr8B8=", query="foo=1&bar=3")

        assert refusal_reason(TWILIO, asked) == "wrong_signature"

    @pytest.mark.case("S-26")
    def test_repeated_fields_are_signed_once_and_sorted(self) -> None:
        fields = (("b", "2"), ("a", "1"), ("b", "1"), ("b", "2"), ("empty", ""))
        signed = "https://mycompany.com/myapp.php?foo=1&bar=2a1b1b2empty"

        TWILIO.verify(form(signature(signed), fields), NOW)
        assert refusal_reason(TWILIO, form(signature(signed), (*fields, ("b", "3")))) == "wrong_signature"
        assert refusal_reason(TWILIO, form(signature(signed), fields[2:])) == "wrong_signature"

    def test_a_shared_key_signs_the_same_bytes_with_sha_256(self) -> None:
        signed = "https://mycompany.com/myapp.php?foo=1&bar=2a1"
        made = base64.b64encode(hmac.digest(SECRET.encode(), signed.encode(), "sha256")).decode()

        assert TWILIO.verify(form(made, (("a", "1"),)), NOW).facts["signed"] == signed.encode()
        assert refusal_reason(TWILIO, form(made, (("a", "2"),))) == "wrong_signature"
        assert refusal_reason(TWILIO, form(made[:28], (("a", "1"),))) == "wrong_signature"
        assert refusal_reason(TWILIO, form(made[:43], (("a", "1"),))) == "malformed_signature"

    def test_the_retry_count_is_signed_but_not_part_of_the_identity(self) -> None:
        url = "https://mycompany.com/myapp.php?foo=1&bar=2"

        def identity(*fields: tuple[str, str]) -> bytes | None:
            signed = url + "".join(name + value for name, value in sorted(fields))
            return TWILIO.verify(form(signature(signed), fields), NOW).facts["id"]

        first = identity(("MessageSid", "IM1"), ("RetryCount", "0"))

        assert identity(("MessageSid", "IM1"), ("RetryCount", "12")) == first
        assert identity(("MessageSid", "IM2"), ("RetryCount", "0")) != first
        # The signature stays valid if the count moves to another field. So must the identity.
        assert identity(("MessageSid", "IM1RetryCount0")) == first

    def test_the_signed_bytes_of_an_empty_form_are_the_url(self) -> None:
        TWILIO.verify(form(signature("https://mycompany.com/myapp.php?foo=1&bar=2"), ()), NOW)

    @pytest.mark.case("S-26")
    def test_a_form_with_too_many_fields_is_malformed(self) -> None:
        fields = [("a", str(number)) for number in range(1001)]

        assert refusal_reason(TWILIO, form(signature("x"), fields)) == "malformed_body"

    def test_the_last_part_of_an_ipv6_address_is_not_taken_for_a_port(self) -> None:
        TWILIO.verify(form(signature("https://[::1]/myapp.php"), (), url="https://[::1]:8443", query=""), NOW)
        TWILIO.verify(form(signature("https://[::1]:443/myapp.php"), (), url="https://[::1]", query=""), NOW)

    def test_a_request_without_a_public_url_is_refused(self) -> None:
        assert refusal_reason(TWILIO, form("RSOYDt4T1cUTdK1PDd93/VVr8B8=", url="")) == "malformed_body"


class TestOtherBodies:
    """Signatures over a URL with `bodySHA256`, the hash of the body."""

    def json(self, body: bytes, query: str, **headers: str) -> Request:
        signed = f"https://h.example/webhooks/a?{query}" if query else "https://h.example/webhooks/a"
        named = {"X-Twilio-Signature": signature(signed), "Content-Type": "application/json"}
        return request(body, named | headers, query=query)

    def hashed(self, body: bytes) -> str:
        return "foo=1&bodySHA256=" + hashlib.sha256(body).hexdigest()

    def test_the_published_vector_passes(self) -> None:
        digest = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
        body = b'{"property": "value", "boolean": true}'
        headers = CIMultiDict({"X-Twilio-Signature": "a9nBmqA0ju/hNViExpshrM61xv4="})
        url = "https://mycompany.com"
        asked = Request("POST", "/myapp.php", f"foo=1&bar=2&bodySHA256={digest}", headers, body, url)

        TWILIO.verify(asked, NOW)

    def test_another_body_is_refused(self) -> None:
        asked = self.json(b'{"a":2}', self.hashed(b'{"a":1}'))

        assert refusal_reason(TWILIO, asked) == "wrong_signature"
        TWILIO.verify(self.json(b'{"a":1}', self.hashed(b'{"a":1}')), NOW)

    def test_a_malformed_query_contains_no_hash(self) -> None:
        assert refusal_reason(TWILIO, self.json(b'{"a":1}', "&".join(["a=1"] * 1001))) == "wrong_signature"

    @pytest.mark.parametrize("query", ["", "foo=1", "bodySHA256=", "bodySHA256=é", "bodySHA256=A"])
    def test_a_body_without_its_hash_is_refused(self, query: str) -> None:
        assert refusal_reason(TWILIO, self.json(b'{"a":1}', query)) == "wrong_signature"

    def test_a_repeated_hash_is_refused(self) -> None:
        body = b'{"a":1}'
        right = hashlib.sha256(body).hexdigest()

        assert (
            refusal_reason(TWILIO, self.json(body, f"bodySHA256={'0' * 64}&bodySHA256={right}"))
            == "wrong_signature"
        )

    def test_a_hash_in_upper_case_is_refused(self) -> None:
        body = b'{"a":1}'

        assert refusal_reason(
            TWILIO, self.json(body, "bodySHA256=" + hashlib.sha256(body).hexdigest().upper())
        ) == ("wrong_signature")

    def test_the_signature_of_an_empty_request_does_not_cover_a_body(self) -> None:
        """Twilio signed the URL alone, for an empty form. Nobody may add a body of another kind."""
        bare = self.json(b"", "")
        TWILIO.verify(bare, NOW)

        assert refusal_reason(TWILIO, self.json(b'{"a":1}', "")) == "wrong_signature"

    def test_json_sent_as_a_form_is_still_checked_against_its_hash(self) -> None:
        query = self.hashed(b'{"a":1}')
        asked = {"Content-Type": FORM}

        assert refusal_reason(TWILIO, self.json(b"", query, **asked)) == "wrong_signature"
        assert refusal_reason(TWILIO, self.json(b'{"a":2}', query, **asked)) == "wrong_signature"
        assert refusal_reason(TWILIO, self.json(b'{"a":1}', "", **asked)) == "wrong_signature"


class TestSigning:
    """`sign`: as Twilio does it."""

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [(b"a=1&b=2", FORM), (b'{"a":1}', "application/json"), (b"", "application/json"), (b"", FORM)],
    )
    def test_a_signed_request_verifies(self, body: bytes, content_type: str) -> None:
        asked = request(body, {"Content-Type": content_type}, query="foo=1")

        TWILIO.verify(TWILIO.sign(asked, NOW), NOW)

    def test_signing_again_replaces_the_hash(self) -> None:
        once = TWILIO.sign(request(b"x"), NOW)

        assert TWILIO.sign(once, NOW) == once
        assert once.query == "bodySHA256=" + hashlib.sha256(b"x").hexdigest()

    def test_sign_raises_without_a_public_url(self) -> None:
        with pytest.raises(VerificationError):
            TWILIO.sign(request(b"x", public_url=""), NOW)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "missing_signature"),
        ("x", "malformed_signature"),
        ("é" * 28, "malformed_signature"),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B8", "malformed_signature"),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B9=", "wrong_signature"),
    ],
)
def test_missing_malformed_and_wrong_signatures_are_refused(value: str, reason: str) -> None:
    assert refusal_reason(TWILIO, form(value)) == reason
    assert refusal_reason(TWILIO, request(b"x")) == "missing_signature"


def test_during_a_rotation_each_auth_token_verifies() -> None:
    both = verification({"type": "twilio"}, secrets=("another", SECRET))

    both.verify(form("RSOYDt4T1cUTdK1PDd93/VVr8B8="), NOW)
    other = verification({"type": "twilio"}, secrets=("another",))
    assert refusal_reason(other, form("RSOYDt4T1cUTdK1PDd93/VVr8B8=")) == "wrong_signature"
    assert both.verifiers[0].credential_headers() == {"x-twilio-signature"}
    for secrets in ((), ("",)):
        with pytest.raises(SecretError):
            verification({"type": "twilio"}, secrets=secrets)


@given(
    fields=st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=8)), max_size=6).filter(bool),
    bit=st.integers(0, 2000),
)
def test_a_flipped_bit_is_refused_unless_the_form_stays_the_same(
    fields: list[tuple[str, str]], bit: int
) -> None:
    signed = TWILIO.sign(request(urlencode(fields).encode("utf-8"), {"Content-Type": FORM}), NOW)
    known = TWILIO.verify(signed, NOW).facts["signed"]
    changed = Request("POST", signed.path, "", signed.headers, flipped(signed.body, bit), signed.public_url)

    try:
        assert TWILIO.verify(changed, NOW).facts["signed"] == known
    except VerificationError as error:
        assert error.reason in ("wrong_signature", "malformed_body")  # noqa: PT017 - both reasons are correct


AS_PARSED = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0")
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=40,
)


@given(
    body=st.binary(max_size=60),
    value=AS_PARSED,
    query=AS_PARSED,
    content_type=st.sampled_from([FORM, "x/y", ""]),
)
def test_random_requests_are_refused_with_verification_errors(
    body: bytes, value: str, query: str, content_type: str
) -> None:
    for given_signature in (value, signature("x")):
        headers = {"X-Twilio-Signature": given_signature, "Content-Type": content_type}
        with pytest.raises(VerificationError):
            TWILIO.verify(request(body, headers, query), NOW)
