"""`type: hmac`: signatures in each format, timestamps, and signed ids."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.config.secrets import SecretError
from growth import growing
from hmac_sources import LIST, NOW, PAIRS, PLAIN, PREFIXED, SECRET, hexdigest, verification
from verifying import refusal_reason, request


class TestHmac:
    """`type: hmac`."""

    def test_a_correct_signature_passes_and_the_facts_hold_the_signed_bytes(self) -> None:
        verified = verification(PLAIN).verify(request(b"body", {"x-sig": hexdigest(b"body")}), NOW)

        assert verified.facts["signed"] == b"body"
        assert "timestamp" not in verified.facts

    @pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
    def test_each_digest_verifies(self, digest: str) -> None:
        checked = verification(PLAIN | {"digest": digest})

        checked.verify(request(b"x", {"X-Sig": hexdigest(b"x", digest=digest)}), NOW)

    @pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
    def test_each_encoding_verifies(self, encoding: str) -> None:
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
    def test_each_key_encoding_verifies(self, encoding: str, secret: str) -> None:
        key = b"\x00\xff" * 10
        checked = verification(PLAIN | {"key": encoding}, secrets=(secret,))

        checked.verify(request(b"x", {"X-Sig": hmac.new(key, b"x", hashlib.sha256).hexdigest()}), NOW)

    @pytest.mark.parametrize("value", ["", "   "])
    def test_an_empty_signature_is_reported_as_missing(self, value: str) -> None:
        assert refusal_reason(verification(PLAIN), request(b"x", {"X-Sig": value})) == "missing_signature"
        assert refusal_reason(verification(PLAIN), request(b"x")) == "missing_signature"

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
    def test_other_forms_are_malformed(self, spoil: Any) -> None:
        right = hexdigest(b"x")

        assert (
            refusal_reason(verification(PLAIN), request(b"x", {"X-Sig": spoil(right)}))
            == "malformed_signature"
        )

    def test_hex_in_upper_case_is_a_wrong_signature(self) -> None:
        right = hexdigest(b"x").upper()

        assert refusal_reason(verification(PLAIN), request(b"x", {"X-Sig": right})) == "wrong_signature"

    def test_base64_with_other_padding_bits_is_a_wrong_signature(self) -> None:
        checked = verification({"type": "hmac", "signature": {"header": "X-Sig", "encoding": "base64"}})
        right = base64.b64encode(hmac.digest(SECRET.encode(), b"x", "sha256")).decode()
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        sibling = alphabet[alphabet.index(right[-2]) ^ 1]
        assert base64.b64decode(right[:-2] + sibling + "=") == base64.b64decode(right)

        assert (
            refusal_reason(checked, request(b"x", {"X-Sig": right[:-2] + sibling + "="})) == "wrong_signature"
        )

    @pytest.mark.parametrize("order", ["good bad", "bad good", "good good"])
    def test_a_header_that_occurs_twice_is_refused(self, order: str) -> None:
        values = {"good": hexdigest(b"x"), "bad": "0" * 64}
        headers = [("X-Sig", values[word]) for word in order.split()]

        assert refusal_reason(verification(PLAIN), request(b"x", headers)) == "duplicate_header"

    def test_a_signature_without_the_prefix_is_malformed(self) -> None:
        right = hexdigest(b"x")
        verification(PREFIXED).verify(request(b"x", {"X-Sig": "sha256=" + right}), NOW)

        assert (
            refusal_reason(verification(PREFIXED), request(b"x", {"X-Sig": right})) == "malformed_signature"
        )

    def test_the_first_present_header_of_a_list_is_read(self) -> None:
        checked = verification({"type": "hmac", "signature": {"header": ("X-New", "X-Old")}})
        checked.verify(request(b"x", {"X-Old": hexdigest(b"x")}), NOW)

        both = request(b"x", {"X-New": "0" * 64, "X-Old": hexdigest(b"x")})
        assert refusal_reason(checked, both) == "wrong_signature"

    @pytest.mark.case("S-13")
    def test_during_a_rotation_each_secret_verifies(self) -> None:
        checked = verification(PLAIN, secrets=(SECRET, "another-secret-of-16-bytes"))

        for secret in (SECRET, "another-secret-of-16-bytes"):
            checked.verify(request(b"x", {"X-Sig": hexdigest(b"x", secret)}), NOW)
        third = request(b"x", {"X-Sig": hexdigest(b"x", "a-third-secret-of-16-bytes")})
        assert refusal_reason(checked, third) == "wrong_signature"

    def test_a_signature_in_the_body_verifies(self) -> None:
        checked = verification(
            {"type": "hmac", "signature": {"body": "sig.value"}, "signed": "{body:ts}{body:token}"}
        )
        signature = hexdigest(b"17abc")

        checked.verify(request(f'{{"ts":17,"token":"abc","sig":{{"value":"{signature}"}}}}'.encode()), NOW)
        assert refusal_reason(
            checked, request(b'{"ts":17,"sig":{"value":"' + signature.encode() + b'"}}')
        ) == ("malformed_body")
        assert refusal_reason(checked, request(b"nope")) == "malformed_body"

    @pytest.mark.case("S-01")
    def test_an_empty_key_is_a_secret_error(self) -> None:
        with pytest.raises(SecretError):
            verification(PLAIN, secrets=("   ",))
        with pytest.raises(SecretError):
            verification(PLAIN | {"key": "base64", "min_secret": 1}, secrets=("=",))


def in_pairs(**changes: str) -> dict[str, Any]:
    return PAIRS | {"signature": {**PAIRS["signature"], **changes}}  # type: ignore[dict-item]


class TestPairs:
    """Signatures with `format: pairs` and `format: list`, such as `t=1,v1=ab`."""

    def sign(self, at: int, body: bytes = b"x") -> str:
        return hexdigest(f"{at}.".encode() + body)

    def test_one_correct_signature_of_several_is_enough(self) -> None:
        value = f"t={NOW},v1={'0' * 64},v0=junk,v1={self.sign(NOW)},v1={'f' * 64}"

        verified = verification(PAIRS).verify(request(b"x", {"X-Sig": value}), NOW)

        assert verified.facts["timestamp"] == str(NOW).encode()
        assert verified.facts["signed"] == f"{NOW}.x".encode()

    @pytest.mark.case("S-12")
    def test_a_signature_under_another_key_is_ignored(self) -> None:
        value = f"t={NOW},v0={self.sign(NOW)}"

        assert refusal_reason(verification(PAIRS), request(b"x", {"X-Sig": value})) == "malformed_signature"

    @pytest.mark.parametrize("value", ["", "v1", "v1=", "=", ",,,", f"t={NOW}", "t=,v1=", f"t={NOW},v1="])
    def test_incomplete_pairs_are_refused(self, value: str) -> None:
        assert refusal_reason(verification(PAIRS), request(b"x", {"X-Sig": value})) in {
            "missing_signature",
            "malformed_signature",
            "malformed_timestamp",
        }

    @pytest.mark.case("S-13")
    def test_only_the_first_ten_signatures_are_checked(self) -> None:
        many = ",".join([f"v1={'0' * 64}"] * 10)
        value = f"t={NOW},{many},v1={self.sign(NOW)}"

        assert refusal_reason(verification(PAIRS), request(b"x", {"X-Sig": value})) == "wrong_signature"

    def test_an_entry_costs_the_same_however_many_there_are(self) -> None:
        signature = {"form": "s", "format": "pairs", "key": "*", "between": ";", "assign": ":"}
        checks = verification(PLAIN | {"signature": signature})
        for number in growing(100_000):
            entries = ";".join(map(str, range(number))).encode()
            asked = request(b"s=" + entries, {"Content-Type": "application/x-www-form-urlencoded"})

            assert refusal_reason(checks, asked) == "malformed_signature"

    def test_one_correct_signature_in_any_set_is_enough(self) -> None:
        sets = verification(in_pairs(sets=" "))
        right, wrong = f"t={NOW},v1={self.sign(NOW)}", f"t={NOW},v1={'0' * 64}"

        for value in (right, f"{right} {wrong}", f"{wrong} {right}"):
            assert sets.verify(request(b"x", {"X-Sig": value}), NOW).facts["timestamp"] == str(NOW).encode()
        assert refusal_reason(sets, request(b"x", {"X-Sig": f"{wrong} {wrong}"})) == "wrong_signature"

    def test_sets_with_different_timestamps_are_refused(self) -> None:
        sets = verification(in_pairs(sets=" "))
        value = f"t={NOW},v1={self.sign(NOW)} t={NOW + 1},v1={self.sign(NOW + 1)}"

        assert refusal_reason(sets, request(b"x", {"X-Sig": value})) == "malformed_timestamp"

    def test_the_space_after_a_separator_is_written_and_optional_when_read(self) -> None:
        spaced = verification(in_pairs(between=", "))

        signed = spaced.sign(request(b"x"), NOW)

        assert signed.headers["X-Sig"] == f"t={NOW}, v1={self.sign(NOW)}"
        for value in (signed.headers["X-Sig"], signed.headers["X-Sig"].replace(", ", ",")):
            spaced.verify(request(b"x", {"X-Sig": value}), NOW)

    def test_the_entries_of_a_list_may_be_separated_by_comma_and_space(self) -> None:
        listed = {"header": "X-Sig", "format": "list", "key": "v1", "between": ", "}
        checked = verification(PLAIN | {"signature": listed})

        for value in (f"v1,{hexdigest(b'x')}, v1,{'0' * 64}", f"v1,{'0' * 64}, v1,{hexdigest(b'x')}"):
            checked.verify(request(b"x", {"X-Sig": value}), NOW)

    def test_a_timestamp_that_occurs_twice_is_refused(self) -> None:
        value = f"t={NOW},t={NOW + 1},v1={self.sign(NOW)}"

        assert refusal_reason(verification(PAIRS), request(b"x", {"X-Sig": value})) == "malformed_timestamp"

    @pytest.mark.parametrize("age", [299, 300, -299, -300])
    def test_a_timestamp_within_the_tolerance_passes(self, age: int) -> None:
        at = NOW - age

        verification(PAIRS).verify(request(b"x", {"X-Sig": f"t={at},v1={self.sign(at)}"}), NOW)

    @pytest.mark.parametrize(("age", "reason"), [(301, "stale_timestamp"), (-301, "future_timestamp")])
    def test_a_timestamp_out_of_tolerance_is_refused(self, age: int, reason: str) -> None:
        at = NOW - age

        assert (
            refusal_reason(verification(PAIRS), request(b"x", {"X-Sig": f"t={at},v1={self.sign(at)}"}))
            == reason
        )

    @pytest.mark.parametrize(
        "text",
        ["nan", "inf", "1e10", "-1", "+1", " 1", "1_0", "١٢٣", f"{NOW}\n", "9" * 400, "", f"{NOW}.0", "0x10"],
    )
    def test_a_malformed_timestamp_is_refused(self, text: str) -> None:
        signature = hmac.new(SECRET.encode(), text.encode() + b".x", "sha256").hexdigest()
        reason = refusal_reason(verification(PAIRS), request(b"x", {"X-Sig": f"t={text},v1={signature}"}))

        assert reason in {"malformed_timestamp", "malformed_signature"}

    def test_milliseconds_instead_of_seconds_are_malformed(self) -> None:
        at = NOW * 1000
        value = f"t={at},v1={self.sign(at)}"

        assert refusal_reason(verification(PAIRS), request(b"x", {"X-Sig": value})) == "malformed_timestamp"


class TestTimestamps:
    """Timestamps in a separate header."""

    @pytest.mark.parametrize(
        ("unit", "text"), [("s", str(NOW)), ("ms", str(NOW * 1000)), ("iso8601", "2025-06-15T15:06:40Z")]
    )
    def test_each_unit(self, unit: str, text: str) -> None:
        checked = verification(
            PLAIN | {"timestamp": {"header": "X-Time", "unit": unit}, "signed": "{timestamp}{body}"}
        )
        headers = {"X-Time": text, "X-Sig": hexdigest(text.encode() + b"x")}

        assert checked.verify(request(b"x", headers), NOW).facts["timestamp"] == text.encode()
        assert refusal_reason(checked, request(b"x", headers), NOW + 301) == "stale_timestamp"

    def test_a_timestamp_header_that_is_missing_or_repeated_is_refused(self) -> None:
        checked = verification(PLAIN | {"timestamp": {"header": "X-Time"}, "signed": "{timestamp}{body}"})
        signature = ("X-Sig", hexdigest(f"{NOW}x".encode()))

        assert refusal_reason(checked, request(b"x", [signature])) == "malformed_timestamp"
        twice = [signature, ("X-Time", str(NOW)), ("X-Time", str(NOW))]
        assert refusal_reason(checked, request(b"x", twice)) == "duplicate_header"

    def test_without_a_tolerance_digits_cannot_move_from_the_timestamp_to_the_body(self) -> None:
        timestamp = {"header": "X-Time", "tolerance": "none"}
        checked = verification(PLAIN | {"timestamp": timestamp, "signed": "{timestamp}{body}"})
        text, signature = str(NOW), hexdigest(f"{NOW}[]".encode())

        checked.verify(request(b"[]", {"X-Time": text, "X-Sig": signature}), NOW)
        cut = request(text[-1:].encode() + b"[]", {"X-Time": text[:-1], "X-Sig": signature})
        assert refusal_reason(checked, cut) == "malformed_timestamp"


@pytest.mark.parametrize(
    ("signed", "body", "identity"),
    [
        ("{body}.{id}.{timestamp}", b'{"text":"a', 'b"}.n1'),
        ("{id}.{timestamp}.{body}", b'5"}', f'n1.{NOW}.{{"text":"a'),
    ],
)
def test_a_part_of_the_body_cannot_move_to_the_signed_id(signed: str, body: bytes, identity: str) -> None:
    """Otherwise text inside a genuine event could become the body of an event with a new id."""
    timestamp = {"header": "X-Time"}
    checked = verification(PLAIN | {"timestamp": timestamp, "id": "{header:X-Id}", "signed": signed})
    values = {"body": body.decode(), "id": identity, "timestamp": str(NOW)}
    headers = {"X-Id": identity, "X-Time": str(NOW), "X-Sig": hexdigest(signed.format_map(values).encode())}

    assert refusal_reason(checked, request(body, headers)) == "malformed_signature"


def test_the_scheme_of_standard_webhooks_can_be_configured() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v2,junk v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

    verification(LIST, secrets=(secret,)).verify(request(b'{"test": 2432232314}', headers), 1614265330)


@pytest.mark.parametrize("scheme", [PLAIN, PREFIXED, PAIRS, LIST], ids=["plain", "prefixed", "pairs", "list"])
@given(body=st.binary(min_size=1, max_size=200), data=st.data())
def test_a_signed_body_verifies_and_a_flipped_bit_is_refused(
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
    assert refusal_reason(checked, request(bytes(flipped), headers)) == "wrong_signature"


@pytest.mark.case("S-08")
@given(data=st.data())
def test_a_changed_character_of_a_signature_header_is_refused(data: st.DataObject) -> None:
    checked = verification(PAIRS)
    headers = checked.sign(request(b"x"), NOW).headers
    value = headers["X-Sig"]
    index = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda c: c != value[index]))
    changed = value[:index] + other + value[index + 1 :]

    refusal_reason(checked, request(b"x", {"X-Sig": changed}))
