"""`type: jwt`: tokens from RFC 7515 and PyJWT pass, and a token cannot choose how it is checked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from doubles.keys import ec_key, pem, rsa_key
from gatehouse.config.secrets import SecretError
from gatehouse.errors import GatewayError, VerificationError
from gatehouse.verify.base import Verification
from gatehouse.verify.jws import hs256_key
from jwts import (
    A1_KEY,
    A1_SIGNATURE,
    A2_KEY,
    A2_SIGNATURE,
    A3_KEY,
    A3_SIGNATURE,
    BEARER,
    BODY,
    CLAIMS,
    EXPIRES,
    SECRET,
    asymmetric,
    bearer_request,
    decode_part,
    encode_part,
    hs256,
    private_key,
    signed_token,
    with_published_keys,
)
from verifying import NOW, flipped, refusal_reason, request, verification


class TestRfc7515Vectors:
    """Each vector passes until it expires."""

    def check(self, checked: Verification, header: bytes, signature: str) -> None:
        token = f"{encode_part(header)}.{CLAIMS}.{signature}"

        verified = checked.verify(bearer_request(token), EXPIRES - 1)

        assert json.loads(verified.facts["claims"])["iss"] == "joe"
        assert refusal_reason(checked, bearer_request(token), EXPIRES + 60) == "stale_timestamp"

    def test_hs256(self) -> None:
        key = base64.b64encode(decode_part(A1_KEY)).decode()
        checked = verification(BEARER | {"key": "base64"}, secrets=(key,))

        self.check(checked, b'{"typ":"JWT",\r\n "alg":"HS256"}', A1_SIGNATURE)

    def test_rs256(self) -> None:
        self.check(with_published_keys([A2_KEY]), b'{"alg":"RS256"}', A2_SIGNATURE)

    def test_es256(self) -> None:
        self.check(with_published_keys([A3_KEY], "ES256"), b'{"alg":"ES256"}', A3_SIGNATURE)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_signed_by_pyjwt_passes(algorithm: str) -> None:
    token = signed_token({"iat": NOW}, algorithm)

    facts = asymmetric(algorithm).verify(bearer_request(token), NOW).facts
    assert facts == {"claims": b'{"iat": 1750000000.0}', "timestamp": b"1750000000.0"}


def test_a_token_as_the_body_yields_claims_and_signed_bytes() -> None:
    token = signed_token(b'{"id":"evt_1","amount":1.10}', "RS256")
    checked = verification(BODY, secrets=(pem(rsa_key().public_key()),))

    facts = checked.verify(request(token.encode()), NOW).facts

    assert facts == {"claims": b'{"id":"evt_1","amount":1.10}', "signed": token.rpartition(".")[0].encode()}
    assert refusal_reason(checked, request(b"")) == "missing_signature"
    assert refusal_reason(checked, request(b"{}")) == "malformed_signature"
    assert refusal_reason(checked, request(token.encode() + b"\n")) == "malformed_signature"


class TestAlgorithm:
    """The config determines the algorithm, not the token."""

    @pytest.mark.case("S-12")
    @pytest.mark.parametrize("name", ["none", "None", "NONE", "", "hs256", "HS512", "RS256"])
    def test_another_algorithm_name_is_refused(self, name: str) -> None:
        header = encode_part(json.dumps({"alg": name}).encode())
        for signature in ("", A1_SIGNATURE):
            assert (
                refusal_reason(hs256(), bearer_request(f"{header}.{CLAIMS}.{signature}"), 0)
                == "malformed_signature"
            )

    @pytest.mark.case("S-12")
    @pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
    def test_a_public_key_is_not_accepted_as_an_hmac_secret(self, algorithm: str) -> None:
        """Libraries that trust `alg` can be tricked into using the public key as an HMAC secret."""
        public = pem(private_key(algorithm).public_key()).encode()
        for name in ("HS256", algorithm):
            signed = f"{encode_part(json.dumps({'alg': name}).encode())}.{encode_part(b'{}')}"
            mac = hashlib.sha256  # by hand, because PyJWT refuses to sign with a public key
            forged = f"{signed}.{encode_part(hmac.new(public, signed.encode(), mac).digest())}"
            assert refusal_reason(asymmetric(algorithm), bearer_request(forged)) in (
                "malformed_signature",
                "wrong_signature",
            )

    def test_a_critical_extension_is_refused(self) -> None:
        assert (
            refusal_reason(hs256(), bearer_request(signed_token({}, crit=["b64"], b64=True)))
            == "malformed_signature"
        )

    def test_keys_of_another_kind_are_secret_errors(self) -> None:
        with pytest.raises(SecretError):
            verification(BEARER | {"algorithm": "RS256", "key": "pem"}, secrets=(pem(ec_key().public_key()),))
        with pytest.raises(SecretError):
            verification(
                BEARER | {"algorithm": "ES256", "key": "pem"}, secrets=(pem(rsa_key().public_key()),)
            )
        curve = pem(ec_key("", ec.SECP384R1).public_key())
        with pytest.raises(SecretError):
            verification(BEARER | {"algorithm": "ES256", "key": "pem"}, secrets=(curve,))
        with pytest.raises(SecretError):
            verification(BEARER | {"key": "base64"}, secrets=("not base64!",))
        with pytest.raises(SecretError):
            verification(BEARER)


class TestTokenForm:
    """A token passes in only one form, and ambiguous JSON is refused."""

    def refusal_reason(self, header: bytes, claims: bytes) -> str:
        """Return the reason for a token that is signed by hand, because no library would sign it."""
        signed = f"{encode_part(header)}.{encode_part(claims)}"
        mac = hmac.digest(SECRET.encode(), signed.encode(), "sha256")
        return refusal_reason(hs256(), bearer_request(f"{signed}.{encode_part(mac)}"))

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda token: token + "=",
            lambda token: token + ".",
            lambda token: "." + token,
            lambda token: token.replace(".", "..", 1),
            lambda token: token + " ",
            lambda token: token.rpartition(".")[0],
            lambda token: token.rpartition(".")[0] + ".",
            lambda token: token.replace(".", "", 1),
            lambda token: "é" + token,
            lambda _: "..",
            lambda _: "\udcff",
        ],
    )
    def test_other_forms_are_malformed(self, spoil: Any) -> None:
        assert refusal_reason(hs256(), bearer_request(spoil(signed_token({})))) == "malformed_signature"

    def test_a_token_with_other_padding_bits_is_malformed(self) -> None:
        token = signed_token({})
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        sibling = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
        assert decode_part(sibling.rpartition(".")[2]) == decode_part(token.rpartition(".")[2])

        assert refusal_reason(hs256(), bearer_request(sibling)) == "malformed_signature"

    @pytest.mark.parametrize(
        "header",
        [
            b'{"alg":"none","alg":"HS256"}',
            b'{"alg":"HS256","alg":"HS256"}',
            b"[]",
            b"null",
            b"{",
            b'{"alg":1}',
            b"\xff",
        ],
    )
    def test_an_ambiguous_header_is_malformed(self, header: bytes) -> None:
        assert self.refusal_reason(header, b"{}") == "malformed_signature"

    @pytest.mark.parametrize(
        "claims", [b'{"exp":1,"exp":9999999999}', b"[]", b"null", b"1", b"{", b'{"exp":', b"\xff"]
    )
    def test_ambiguous_claims_are_malformed(self, claims: bytes) -> None:
        assert self.refusal_reason(b'{"alg":"HS256"}', claims) == "malformed_signature"

    def test_a_request_without_a_token_has_a_missing_signature(self) -> None:
        assert refusal_reason(hs256(), request()) == "missing_signature"
        assert refusal_reason(hs256(), request(headers={"Authorization": ""})) == "missing_signature"
        assert (
            refusal_reason(hs256(), request(headers={"Authorization": f"bearer {signed_token({})}"}))
            == "malformed_signature"
        )
        twice = request(headers=[("Authorization", f"Bearer {signed_token({})}")] * 2)
        assert refusal_reason(hs256(), twice) == "duplicate_header"


class TestSigning:
    """`sign`: as the provider does it."""

    def test_a_signed_token_verifies_here_and_in_pyjwt(self) -> None:
        checked = hs256(audience="us", issuer="p", max_age="5m", body_hash={"claim": "h"})

        signed = checked.sign(request(b"body"), NOW)

        checked.verify(signed, NOW)
        token = signed.headers["Authorization"].removeprefix("Bearer ")
        judged = pyjwt.decode(
            token, SECRET, ["HS256"], audience="us", issuer="p", options={"verify_exp": False}
        )
        assert judged["h"] == hashlib.sha256(b"body").hexdigest()
        assert refusal_reason(checked, signed, NOW + 301) == "stale_timestamp"

    def test_sign_turns_the_body_into_claims(self) -> None:
        checked = verification(BODY | {"algorithm": "HS256", "key": "utf8"}, secrets=(SECRET,))

        verified = checked.verify(checked.sign(request(b'{"id":"e","n":1.50}'), NOW), NOW)

        assert verified.facts["claims"] == b'{"id": "e", "n": 1.50, "iat": 1750000000, "exp": 1750000300}'
        with pytest.raises(VerificationError):
            checked.sign(request(b"not json"), NOW)

    def test_sign_raises_for_asymmetric_algorithms(self) -> None:
        with pytest.raises(GatewayError, match="only the provider can sign"):
            asymmetric("RS256").sign(request(), NOW)


TOKEN = signed_token({"iat": NOW, "aud": "us"})


@given(index=st.integers(0, len(TOKEN) - 1), character=st.characters(min_codepoint=33, max_codepoint=126))
def test_a_changed_character_is_refused(index: int, character: str) -> None:
    changed = TOKEN[:index] + character + TOKEN[index + 1 :]
    if changed != TOKEN:
        refusal_reason(hs256(), bearer_request(changed))


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
@given(bit=st.integers(0, 5000), which=st.integers(0, 2))
def test_a_flipped_bit_in_any_part_is_refused(algorithm: str, bit: int, which: int) -> None:
    checked = hs256() if algorithm == "HS256" else asymmetric(algorithm)
    parts = signed_token({"iat": NOW}, algorithm).split(".")
    parts[which] = encode_part(flipped(decode_part(parts[which]), bit))

    refusal_reason(checked, bearer_request(".".join(parts)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["exp", "iat", "aud", "alg"]), inner)
    ),
    max_leaves=5,
)
CLAIM_SETS = st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "aud", "iss", "h"]), JSON).map(
    json.dumps
).map(str.encode) | st.binary(max_size=30)


@given(header=CLAIM_SETS | st.just(b'{"alg":"HS256"}'), claims=CLAIM_SETS, body=st.binary(max_size=20))
def test_random_signed_claims_raise_only_verification_errors(
    header: bytes, claims: bytes, body: bytes
) -> None:
    signed = f"{encode_part(header)}.{encode_part(claims)}"
    mac = hmac.digest(SECRET.encode(), signed.encode(), "sha256")
    checked = hs256(audience="us", issuer="p", max_age="5m", body_hash={"claim": "h"})

    with pytest.raises(VerificationError):
        checked.verify(bearer_request(f"{signed}.{encode_part(mac)}", body), NOW)


TEXT = st.text(st.characters(exclude_characters="\r\n\0", codec=None), max_size=60)


@given(value=TEXT | TEXT.map("Bearer ".__add__), body=st.binary(max_size=60))
def test_random_requests_are_refused_with_verification_errors(value: str, body: bytes) -> None:
    for checked in (
        hs256(),
        with_published_keys([A2_KEY]),
        verification(BODY, secrets=(pem(rsa_key().public_key()),)),
    ):
        with pytest.raises(VerificationError):
            checked.verify(request(body, {"Authorization": value}), NOW)


@given(bit=st.integers(0, 5000))
def test_a_damaged_token_that_passes_here_passes_in_pyjwt_too(bit: int) -> None:
    """PyJWT is an independent check: Gatehouse must not accept a token that PyJWT refuses."""
    token = flipped(TOKEN.encode(), bit).decode("latin-1")
    try:
        hs256().verify(bearer_request(token), NOW)
    except VerificationError:
        return
    options: Any = {"verify_aud": False}
    pyjwt.decode(token, SECRET, ["HS256"], options=options)


def test_a_header_with_a_token_is_a_credential_header() -> None:
    assert hs256().verifiers[0].credential_headers() == {"authorization"}
    in_body = verification(BODY, secrets=(pem(rsa_key().public_key()),))
    assert in_body.verifiers[0].credential_headers() == frozenset()
    with pytest.raises(ValueError, match="empty key"):
        hs256_key(b"", "utf8")


def test_a_private_key_in_pem_is_a_secret_error() -> None:
    private_pem = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    with pytest.raises(SecretError):
        verification(BODY, secrets=(private_pem,))
