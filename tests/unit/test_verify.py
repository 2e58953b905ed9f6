"""Verifiers let in what was signed, and nothing else, whatever arrives."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import SecretError, SecretRef, Secrets
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.base import Verification
from gatehouse.verify.build import build_verification

NOW = 1_750_000_000
SECRET = "s3cr3t-of-at-least-16-bytes"


def verification(
    *verify: dict[str, Any], secrets: tuple[str, ...] = (SECRET,), **settings: Any
) -> Verification:
    names = {f"S{index}": secret for index, secret in enumerate(secrets)}
    config = SourceConfig.model_validate(
        {
            "verify": verify,
            "event": {"type": "x"},
            "secrets": tuple(f"env:{name}" for name in names),
            **settings,
        }
    )
    return build_verification(config, Secrets(Path(), names | {"BASIC": "user:a-long-enough-password"}))


def request(body: bytes = b"{}", headers: Any = (), query: str = "") -> Request:
    return Request("POST", "/webhooks/a", query, CIMultiDict(headers), body, "https://h.example")


def refused(checked: Verification, asked: Request, now: float = NOW) -> str:
    with pytest.raises(VerificationError) as caught:
        checked.verify(asked, now)
    return caught.value.reason


def hexdigest(message: bytes, secret: str = SECRET, digest: str = "sha256") -> str:
    return hmac.new(secret.encode(), message, digest).hexdigest()


PLAIN = {"type": "hmac", "signature": {"header": "X-Sig"}}
PREFIXED = {"type": "hmac", "signature": {"header": "X-Sig", "prefix": "sha256="}}
PAIRS = {
    "type": "hmac",
    "signature": {"header": "X-Sig", "format": "pairs", "key": "v1"},
    "timestamp": {"pair": "t"},
    "signed": "{timestamp}.{body}",
}
LIST = {
    "type": "hmac",
    "key": "whsec",
    "signature": {"header": "webhook-signature", "format": "list", "key": "v1", "encoding": "base64"},
    "timestamp": {"header": "webhook-timestamp"},
    "signed": "{header:webhook-id}.{timestamp}.{body}",
}


class TestHmac:
    """`type: hmac`."""

    def test_the_right_signature_passes_and_the_signed_bytes_are_known(self) -> None:
        verified = verification(PLAIN).verify(request(b"body", {"x-sig": hexdigest(b"body")}), NOW)

        assert verified.facts["signed"] == b"body"
        assert "timestamp" not in verified.facts

    @pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
    def test_each_digest(self, digest: str) -> None:
        checked = verification(PLAIN | {"digest": digest})

        checked.verify(request(b"x", {"X-Sig": hexdigest(b"x", digest=digest)}), NOW)

    @pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
    def test_each_encoding(self, encoding: str) -> None:
        mac = hmac.digest(SECRET.encode(), b"x", "sha256")
        written = {
            "hex": mac.hex(),
            "base64": base64.b64encode(mac).decode(),
            "base64url": base64.urlsafe_b64encode(mac).decode(),
        }
        checked = verification({"type": "hmac", "signature": {"header": "X-Sig", "encoding": encoding}})

        checked.verify(request(b"x", {"X-Sig": written[encoding]}), NOW)

    @pytest.mark.parametrize(
        ("encoding", "secret"),
        [
            ("hex", "00ff" * 10),
            ("base64", base64.b64encode(b"\x00\xff" * 10).decode()),
            ("whsec", "whsec_" + base64.b64encode(b"\x00\xff" * 10).decode()),
            ("whsec", "v1,whsec_" + base64.b64encode(b"\x00\xff" * 10).decode()),
        ],
    )
    def test_each_key_encoding(self, encoding: str, secret: str) -> None:
        key = b"\x00\xff" * 10
        checked = verification(PLAIN | {"key": encoding}, secrets=(secret,))

        checked.verify(request(b"x", {"X-Sig": hmac.new(key, b"x", hashlib.sha256).hexdigest()}), NOW)

    @pytest.mark.parametrize("value", ["", "   "])
    def test_an_empty_signature_is_a_missing_one(self, value: str) -> None:
        assert refused(verification(PLAIN), request(b"x", {"X-Sig": value})) == "missing_signature"
        assert refused(verification(PLAIN), request(b"x")) == "missing_signature"

    @pytest.mark.case("S-03", "S-06", "S-08")
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda right: right[:-1],
            lambda right: right[:10],
            lambda right: right + "0",
            lambda right: right + " ",
            lambda right: " " + right,
            lambda right: "0x" + right,
            lambda right: "é" + right[1:],
            lambda right: "sha256=" + right,
            lambda _: "sha256=",
            lambda _: "\udce9\udcff",
            lambda _: "x" * 8000,
        ],
    )
    def test_other_spellings_are_malformed(self, spoil: Any) -> None:
        right = hexdigest(b"x")

        assert refused(verification(PLAIN), request(b"x", {"X-Sig": spoil(right)})) == "malformed_signature"

    def test_hex_in_upper_case_is_another_signature(self) -> None:
        right = hexdigest(b"x").upper()

        assert refused(verification(PLAIN), request(b"x", {"X-Sig": right})) == "wrong_signature"

    def test_base64_with_another_last_character_does_not_pass(self) -> None:
        checked = verification({"type": "hmac", "signature": {"header": "X-Sig", "encoding": "base64"}})
        right = base64.b64encode(hmac.digest(SECRET.encode(), b"x", "sha256")).decode()
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        sibling = alphabet[alphabet.index(right[-2]) ^ 1]
        assert base64.b64decode(right[:-2] + sibling + "=") == base64.b64decode(right)

        assert refused(checked, request(b"x", {"X-Sig": right[:-2] + sibling + "="})) == "wrong_signature"

    @pytest.mark.parametrize("order", ["good bad", "bad good", "good good"])
    def test_a_header_that_is_there_twice_is_refused(self, order: str) -> None:
        values = {"good": hexdigest(b"x"), "bad": "0" * 64}
        headers = [("X-Sig", values[word]) for word in order.split()]

        assert refused(verification(PLAIN), request(b"x", headers)) == "duplicate_header"

    def test_the_prefix_is_needed(self) -> None:
        right = hexdigest(b"x")
        verification(PREFIXED).verify(request(b"x", {"X-Sig": "sha256=" + right}), NOW)

        assert refused(verification(PREFIXED), request(b"x", {"X-Sig": right})) == "malformed_signature"

    def test_the_first_header_of_a_list_that_is_there_counts(self) -> None:
        checked = verification({"type": "hmac", "signature": {"header": ("X-New", "X-Old")}})
        checked.verify(request(b"x", {"X-Old": hexdigest(b"x")}), NOW)

        both = request(b"x", {"X-New": "0" * 64, "X-Old": hexdigest(b"x")})
        assert refused(checked, both) == "wrong_signature"

    @pytest.mark.case("S-13")
    def test_all_secrets_of_a_rotation_are_live(self) -> None:
        checked = verification(PLAIN, secrets=(SECRET, "another-secret-of-16-bytes"))

        for secret in (SECRET, "another-secret-of-16-bytes"):
            checked.verify(request(b"x", {"X-Sig": hexdigest(b"x", secret)}), NOW)
        third = request(b"x", {"X-Sig": hexdigest(b"x", "a-third-secret-of-16-bytes")})
        assert refused(checked, third) == "wrong_signature"

    def test_a_signature_in_the_body_is_read_from_there(self) -> None:
        checked = verification(
            {"type": "hmac", "signature": {"body": "sig.value"}, "signed": "{body:ts}{body:token}"}
        )
        signature = hexdigest(b"17abc")

        checked.verify(request(f'{{"ts":17,"token":"abc","sig":{{"value":"{signature}"}}}}'.encode()), NOW)
        assert refused(checked, request(b'{"ts":17,"sig":{"value":"' + signature.encode() + b'"}}')) == (
            "malformed_body"
        )
        assert refused(checked, request(b"nope")) == "malformed_body"

    @pytest.mark.case("S-01")
    def test_an_empty_key_can_not_be_built(self) -> None:
        with pytest.raises(SecretError):
            verification(PLAIN, secrets=("   ",))
        with pytest.raises(SecretError):
            verification(PLAIN | {"key": "base64", "min_secret": 1}, secrets=("=",))


def in_pairs(**changes: str) -> dict[str, Any]:
    return PAIRS | {"signature": {**PAIRS["signature"], **changes}}  # type: ignore[dict-item]


class TestPairs:
    """`t=1,v1=ab`."""

    def sign(self, at: int, body: bytes = b"x") -> str:
        return hexdigest(f"{at}.".encode() + body)

    def test_any_of_several_signatures_may_pass(self) -> None:
        value = f"t={NOW},v1={'0' * 64},v0=junk,v1={self.sign(NOW)},v1={'f' * 64}"

        verified = verification(PAIRS).verify(request(b"x", {"X-Sig": value}), NOW)

        assert verified.facts["timestamp"] == str(NOW).encode()
        assert verified.facts["signed"] == f"{NOW}.x".encode()

    @pytest.mark.case("S-12")
    def test_a_signature_under_another_name_does_not_count(self) -> None:
        value = f"t={NOW},v0={self.sign(NOW)}"

        assert refused(verification(PAIRS), request(b"x", {"X-Sig": value})) == "malformed_signature"

    @pytest.mark.parametrize("value", ["", "v1", "v1=", "=", ",,,", f"t={NOW}", "t=,v1=", f"t={NOW},v1="])
    def test_fragments_are_refused(self, value: str) -> None:
        assert refused(verification(PAIRS), request(b"x", {"X-Sig": value})) in {
            "missing_signature",
            "malformed_signature",
            "malformed_timestamp",
        }

    @pytest.mark.case("S-13")
    def test_no_more_than_ten_signatures_are_tried(self) -> None:
        many = ",".join([f"v1={'0' * 64}"] * 10)
        value = f"t={NOW},{many},v1={self.sign(NOW)}"

        assert refused(verification(PAIRS), request(b"x", {"X-Sig": value})) == "wrong_signature"

    def test_a_hundred_thousand_entries_cost_no_more_than_reading_them(self) -> None:
        signature = {"form": "s", "format": "pairs", "key": "*", "between": ";", "assign": ":"}
        entries = ";".join(map(str, range(100_000))).encode()
        asked = request(b"s=" + entries, {"Content-Type": "application/x-www-form-urlencoded"})
        began = time.process_time()

        assert refused(verification(PLAIN | {"signature": signature}), asked) == "malformed_signature"
        assert time.process_time() - began < 5  # counting each among all the others takes a minute

    def test_of_several_sets_any_signature_may_pass_wherever_it_stands(self) -> None:
        sets = verification(in_pairs(sets=" "))
        right, wrong = f"t={NOW},v1={self.sign(NOW)}", f"t={NOW},v1={'0' * 64}"

        for value in (right, f"{right} {wrong}", f"{wrong} {right}"):
            assert sets.verify(request(b"x", {"X-Sig": value}), NOW).facts["timestamp"] == str(NOW).encode()
        assert refused(sets, request(b"x", {"X-Sig": f"{wrong} {wrong}"})) == "wrong_signature"

    def test_sets_that_say_two_times_are_refused(self) -> None:
        sets = verification(in_pairs(sets=" "))
        value = f"t={NOW},v1={self.sign(NOW)} t={NOW + 1},v1={self.sign(NOW + 1)}"

        assert refused(sets, request(b"x", {"X-Sig": value})) == "malformed_timestamp"

    def test_entries_a_comma_and_a_space_apart_are_written_so_and_read_with_and_without(self) -> None:
        spaced = verification(in_pairs(between=", "))

        signed = spaced.sign(request(b"x"), NOW)

        assert signed.headers["X-Sig"] == f"t={NOW}, v1={self.sign(NOW)}"
        for value in (signed.headers["X-Sig"], signed.headers["X-Sig"].replace(", ", ",")):
            spaced.verify(request(b"x", {"X-Sig": value}), NOW)

    def test_a_list_may_be_a_comma_and_a_space_apart(self) -> None:
        listed = {"header": "X-Sig", "format": "list", "key": "v1", "between": ", "}
        checked = verification(PLAIN | {"signature": listed})

        for value in (f"v1,{hexdigest(b'x')}, v1,{'0' * 64}", f"v1,{'0' * 64}, v1,{hexdigest(b'x')}"):
            checked.verify(request(b"x", {"X-Sig": value}), NOW)

    def test_a_timestamp_that_is_there_twice_is_refused(self) -> None:
        value = f"t={NOW},t={NOW + 1},v1={self.sign(NOW)}"

        assert refused(verification(PAIRS), request(b"x", {"X-Sig": value})) == "malformed_timestamp"

    @pytest.mark.parametrize("age", [299, 300, -299, -300])
    def test_within_the_tolerance_it_passes(self, age: int) -> None:
        at = NOW - age

        verification(PAIRS).verify(request(b"x", {"X-Sig": f"t={at},v1={self.sign(at)}"}), NOW)

    @pytest.mark.parametrize(("age", "reason"), [(301, "stale_timestamp"), (-301, "future_timestamp")])
    def test_outside_it_does_not(self, age: int, reason: str) -> None:
        at = NOW - age

        assert refused(verification(PAIRS), request(b"x", {"X-Sig": f"t={at},v1={self.sign(at)}"})) == reason

    @pytest.mark.parametrize(
        "text",
        ["nan", "inf", "1e10", "-1", "+1", " 1", "1_0", "١٢٣", f"{NOW}\n", "9" * 400, "", f"{NOW}.0", "0x10"],
    )
    def test_what_is_no_timestamp_is_refused(self, text: str) -> None:
        signature = hmac.new(SECRET.encode(), text.encode() + b".x", "sha256").hexdigest()
        reason = refused(verification(PAIRS), request(b"x", {"X-Sig": f"t={text},v1={signature}"}))

        assert reason in {"malformed_timestamp", "malformed_signature"}

    def test_milliseconds_for_seconds_are_far_in_the_future(self) -> None:
        at = NOW * 1000
        value = f"t={at},v1={self.sign(at)}"

        assert refused(verification(PAIRS), request(b"x", {"X-Sig": value})) == "malformed_timestamp"


class TestTimestamps:
    """Timestamps in a header of their own."""

    @pytest.mark.parametrize(
        ("unit", "text"), [("s", str(NOW)), ("ms", str(NOW * 1000)), ("iso8601", "2025-06-15T15:06:40Z")]
    )
    def test_each_unit(self, unit: str, text: str) -> None:
        checked = verification(
            PLAIN | {"timestamp": {"header": "X-Time", "unit": unit}, "signed": "{timestamp}{body}"}
        )
        headers = {"X-Time": text, "X-Sig": hexdigest(text.encode() + b"x")}

        assert checked.verify(request(b"x", headers), NOW).facts["timestamp"] == text.encode()
        assert refused(checked, request(b"x", headers), NOW + 301) == "stale_timestamp"

    def test_a_timestamp_header_that_is_missing_or_twice_is_refused(self) -> None:
        checked = verification(PLAIN | {"timestamp": {"header": "X-Time"}, "signed": "{timestamp}{body}"})
        signature = ("X-Sig", hexdigest(f"{NOW}x".encode()))

        assert refused(checked, request(b"x", [signature])) == "malformed_timestamp"
        twice = [signature, ("X-Time", str(NOW)), ("X-Time", str(NOW))]
        assert refused(checked, request(b"x", twice)) == "duplicate_header"

    def test_without_an_age_limit_its_last_digits_can_not_be_given_to_the_body(self) -> None:
        timestamp = {"header": "X-Time", "tolerance": "none"}
        checked = verification(PLAIN | {"timestamp": timestamp, "signed": "{timestamp}{body}"})
        text, signature = str(NOW), hexdigest(f"{NOW}[]".encode())

        checked.verify(request(b"[]", {"X-Time": text, "X-Sig": signature}), NOW)
        cut = request(text[-1:].encode() + b"[]", {"X-Time": text[:-1], "X-Sig": signature})
        assert refused(checked, cut) == "malformed_timestamp"


@pytest.mark.parametrize(
    ("signed", "body", "identity"),
    [
        ("{body}.{id}.{timestamp}", b'{"text":"a', 'b"}.n1'),
        ("{id}.{timestamp}.{body}", b'5"}', f'n1.{NOW}.{{"text":"a'),
    ],
)
def test_a_signed_id_does_not_swallow_a_part_of_the_body(signed: str, body: bytes, identity: str) -> None:
    """What somebody wrote into a genuine event would become the body, under an id that nobody knows yet."""
    timestamp = {"header": "X-Time"}
    checked = verification(PLAIN | {"timestamp": timestamp, "id": "{header:X-Id}", "signed": signed})
    values = {"body": body.decode(), "id": identity, "timestamp": str(NOW)}
    headers = {"X-Id": identity, "X-Time": str(NOW), "X-Sig": hexdigest(signed.format_map(values).encode())}

    assert refused(checked, request(body, headers)) == "malformed_signature"


def test_standard_webhooks_can_be_spelled_out() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v2,junk v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

    verification(LIST, secrets=(secret,)).verify(request(b'{"test": 2432232314}', headers), 1614265330)


class TestToken:
    """`type: token`."""

    CHECK: ClassVar[dict[str, Any]] = {"type": "token", "header": "Authorization", "prefix": "Bearer "}

    def test_the_token_passes(self) -> None:
        verification(self.CHECK).verify(request(headers={"Authorization": f"Bearer {SECRET}"}), NOW)

    @pytest.mark.parametrize(
        "value", [SECRET, "Bearer", "Bearer ", f"Bearer {SECRET}x", f"bearer {SECRET}", "é\udcff"]
    )
    def test_anything_else_does_not(self, value: str) -> None:
        assert (
            refused(verification(self.CHECK), request(headers={"Authorization": value}))
            == "wrong_credentials"
        )

    def test_a_token_in_the_query(self) -> None:
        checked = verification({"type": "token", "query": "code"})
        checked.verify(request(query=f"code={SECRET}"), NOW)

        assert refused(checked, request(query="code=x")) == "wrong_credentials"
        assert refused(checked, request(query=f"code={SECRET}&code=x")) == "missing_signature"
        assert refused(checked, request()) == "missing_signature"

    def test_a_header_that_is_there_twice_is_refused(self) -> None:
        headers = [("Authorization", f"Bearer {SECRET}"), ("Authorization", "x")]

        assert refused(verification(self.CHECK), request(headers=headers)) == "duplicate_header"


class TestBasic:
    """`type: basic`."""

    def header(self, credentials: str, scheme: str = "Basic") -> dict[str, str]:
        return {"Authorization": f"{scheme} {base64.b64encode(credentials.encode()).decode()}"}

    @pytest.mark.parametrize("settings", [{"secrets": "env:BASIC"}, {"username": "user"}])
    def test_the_credentials_pass(self, settings: dict[str, str]) -> None:
        checked = verification({"type": "basic"} | settings, secrets=("a-long-enough-password",))

        checked.verify(request(headers=self.header("user:a-long-enough-password")), NOW)
        checked.verify(request(headers=self.header("user:a-long-enough-password", "basic")), NOW)
        assert refused(checked, request(headers=self.header("user:wrong"))) == "wrong_credentials"
        assert refused(checked, request(headers=self.header("user:a-long-enough-password", "Digest"))) == (
            "wrong_credentials"
        )
        assert refused(checked, request()) == "missing_signature"

    def test_a_secret_without_a_colon_needs_a_username(self) -> None:
        with pytest.raises(SecretError, match="basic"):
            verification({"type": "basic"})


class TestAllOfAList:
    """Several verifiers: each must pass."""

    BOTH = (PLAIN, {"type": "basic", "secrets": "env:BASIC"})

    def test_both_must_pass(self) -> None:
        checked = verification(*self.BOTH)
        basic = {"Authorization": "Basic " + base64.b64encode(b"user:a-long-enough-password").decode()}
        signature = {"X-Sig": hexdigest(b"x")}

        assert checked.verify(request(b"x", signature | basic), NOW).facts["signed"] == b"x"
        assert refused(checked, request(b"x", signature)) == "missing_signature"
        assert refused(checked, request(b"x", basic)) == "missing_signature"
        assert refused(checked, request(b"x", basic | {"X-Sig": "0" * 64})) == "wrong_signature"


@pytest.mark.case("S-01")
@pytest.mark.parametrize(
    ("environment", "fragment"),
    [({}, "not set"), ({"S": ""}, "empty"), ({"S": " \n"}, "empty"), ({"S": "short"}, "shorter than 16")],
)
def test_a_secret_that_is_missing_empty_or_short_builds_nothing(
    environment: dict[str, str], fragment: str
) -> None:
    config = SourceConfig.model_validate({"verify": PLAIN, "event": {"type": "x"}, "secrets": "env:S"})

    with pytest.raises(SecretError, match=fragment):
        build_verification(config, Secrets(Path(), environment))


def test_an_error_never_repeats_the_secret() -> None:
    with pytest.raises(SecretError) as caught:
        verification(PLAIN | {"key": "base64"}, secrets=("not-base64-at-all!!",))

    assert "not-base64" not in str(caught.value)
    assert str(SecretRef("env", "S0")) in str(caught.value)


SCHEMES: tuple[tuple[dict[str, Any], ...], ...] = (
    (PLAIN,),
    (PREFIXED,),
    (PAIRS,),
    (PLAIN | {"signed": "{body_sorted}"},),
    (PLAIN | {"timestamp": {"header": "X-Time", "unit": "iso8601"}, "signed": "{timestamp}{body}"},),
    ({"type": "hmac", "signature": {"body": "a.b"}},),
    ({"type": "hmac", "signature": {"form": "a"}, "signed": "{form_sorted}"},),
    (TestToken.CHECK,),
    ({"type": "token", "query": "a"},),
    ({"type": "basic", "username": "u"},),
)
HEADER = st.sampled_from(["X-Sig", "X-Time", "Authorization", "webhook-signature", "x-sig"])
VALUE = st.text(st.characters(exclude_characters="\r\n\0", codec=None), max_size=80) | st.from_regex(
    r"(t=[0-9]{0,12},)?(v1=[0-9a-f]{64},?){0,3}", fullmatch=True
)
JSONISH = st.binary(max_size=100) | st.from_regex(
    rb'\{("a":("b"|\{"b":1\}|"\\u[0-9a-f]{4}"),?){0,2}\}', fullmatch=True
)


@pytest.mark.case("S-06")
@pytest.mark.parametrize("scheme", SCHEMES)
@given(
    body=JSONISH,
    headers=st.lists(st.tuples(HEADER, VALUE), max_size=4),
    query=VALUE,
    now=st.floats(0, 4e9, allow_nan=False),
)
def test_a_verifier_returns_or_raises_verification_error_and_nothing_else(
    scheme: tuple[dict[str, Any], ...], body: bytes, headers: list[tuple[str, str]], query: str, now: float
) -> None:
    with pytest.raises(VerificationError):
        verification(*scheme).verify(request(body, headers, query), now)


@pytest.mark.parametrize("scheme", [PLAIN, PREFIXED, PAIRS, LIST], ids=["plain", "prefixed", "pairs", "list"])
@given(body=st.binary(min_size=1, max_size=200), data=st.data())
def test_what_is_signed_verifies_and_one_flipped_bit_never_does(
    scheme: dict[str, Any], body: bytes, data: st.DataObject
) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    checked = verification(scheme, secrets=(secret,))
    extra = {"webhook-id": "m1"}
    headers = checked.sign(request(body, extra), NOW).headers
    checked.verify(request(body, headers), NOW)

    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    flipped = bytearray(body)
    flipped[bit // 8] ^= 1 << bit % 8
    assert refused(checked, request(bytes(flipped), headers)) == "wrong_signature"


@pytest.mark.case("S-08")
@given(data=st.data())
def test_one_changed_character_of_a_signature_header_never_passes(data: st.DataObject) -> None:
    checked = verification(PAIRS)
    headers = checked.sign(request(b"x"), NOW).headers
    value = headers["X-Sig"]
    index = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda c: c != value[index]))
    changed = value[:index] + other + value[index + 1 :]

    refused(checked, request(b"x", {"X-Sig": changed}))
