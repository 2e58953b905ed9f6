"""`type: jwt`: what the RFCs and PyJWT sign passes; no token chooses how it is checked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from doubles.keys import Known, ec_key, pem, rsa_key
from gatehouse.config.secrets import SecretError
from gatehouse.errors import GatewayError, VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.base import Verification
from gatehouse.verify.jws import hs256_key
from verifying import NOW, flipped, refused, request, verification

SECRET = "a-secret-of-at-least-thirty-two-bytes"
BEARER: dict[str, Any] = {
    "type": "jwt",
    "algorithm": "HS256",
    "header": "Authorization",
    "prefix": "Bearer ",
}
BODY: dict[str, Any] = {"type": "jwt", "algorithm": "RS256", "body": True, "key": "pem"}
JWKS_URL = "https://provider.example/.well-known/jwks.json"

#: RFC 7515, appendices A.1, A.2 and A.3: the same claims, signed three times.
CLAIMS = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
EXPIRES = 1300819380
A1_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
A1_SIGNATURE = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
A2_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-y"
    "RT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS"
    "-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2et"
    "hFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e": "AQAB",
}
A2_SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb"
    "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383"
    "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy"
    "wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
A3_SIGNATURE = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def unpart(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def private(algorithm: str) -> Any:
    return {"HS256": SECRET, "RS256": rsa_key(), "ES256": ec_key()}[algorithm]


def made(claims: Any, algorithm: str = "HS256", key: Any = None, **headers: Any) -> str:
    """Sign with PyJWT."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return pyjwt.PyJWS().encode(payload, key or private(algorithm), algorithm, headers)


def bearing(token: str, body: bytes = b"{}") -> Request:
    return request(body, {"Authorization": f"Bearer {token}"})


def hs256(**settings: Any) -> Verification:
    return verification(BEARER | settings, secrets=(SECRET,))


def asymmetric(algorithm: str, **settings: Any) -> Verification:
    scheme = BEARER | {"algorithm": algorithm, "key": "pem"} | settings
    return verification(scheme, secrets=(pem(private(algorithm).public_key()),))


def with_keys(keys: list[dict[str, Any]] | bytes, algorithm: str = "RS256", **settings: Any) -> Verification:
    """Build a verification whose keys are published, and fetched already."""
    checked = verification(BEARER | {"algorithm": algorithm, "jwks": JWKS_URL} | settings)
    document = keys if isinstance(keys, bytes) else json.dumps({"keys": keys}).encode()
    for remote in checked.remote:
        remote.keys = Known({JWKS_URL: document})
    return checked


def jwk(key: Any, **members: str) -> dict[str, Any]:
    maker = (
        pyjwt.algorithms.ECAlgorithm
        if isinstance(key, ec.EllipticCurvePublicKey)
        else pyjwt.algorithms.RSAAlgorithm
    )
    return {**maker.to_jwk(key, as_dict=True), **members}


class TestTheVectorsOfRfc7515:
    """Each passes before it expires, and not after."""

    def check(self, checked: Verification, header: bytes, signature: str) -> None:
        token = f"{part(header)}.{CLAIMS}.{signature}"

        verified = checked.verify(bearing(token), EXPIRES - 1)

        assert json.loads(verified.facts["claims"])["iss"] == "joe"
        assert refused(checked, bearing(token), EXPIRES + 60) == "stale_timestamp"

    def test_hs256(self) -> None:
        key = base64.b64encode(unpart(A1_KEY)).decode()
        checked = verification(BEARER | {"key": "base64"}, secrets=(key,))

        self.check(checked, b'{"typ":"JWT",\r\n "alg":"HS256"}', A1_SIGNATURE)

    def test_rs256(self) -> None:
        self.check(with_keys([A2_KEY]), b'{"alg":"RS256"}', A2_SIGNATURE)

    def test_es256(self) -> None:
        self.check(with_keys([A3_KEY], "ES256"), b'{"alg":"ES256"}', A3_SIGNATURE)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_of_pyjwt_passes(algorithm: str) -> None:
    token = made({"iat": NOW}, algorithm)

    facts = asymmetric(algorithm).verify(bearing(token), NOW).facts
    assert facts == {"claims": b'{"iat": 1750000000.0}', "timestamp": b"1750000000.0"}


def test_a_body_that_is_the_token_gives_its_claims_and_the_signed_bytes() -> None:
    token = made(b'{"id":"evt_1","amount":1.10}', "RS256")
    checked = verification(BODY, secrets=(pem(rsa_key().public_key()),))

    facts = checked.verify(request(token.encode()), NOW).facts

    assert facts == {"claims": b'{"id":"evt_1","amount":1.10}', "signed": token.rpartition(".")[0].encode()}
    assert refused(checked, request(b"")) == "missing_signature"
    assert refused(checked, request(b"{}")) == "malformed_signature"
    assert refused(checked, request(token.encode() + b"\n")) == "malformed_signature"


class TestTheAlgorithmIsTheConfigs:
    """A token can't choose how it is checked."""

    @pytest.mark.case("S-12")
    @pytest.mark.parametrize("name", ["none", "None", "NONE", "", "hs256", "HS512", "RS256"])
    def test_no_other_name_is_taken(self, name: str) -> None:
        header = part(json.dumps({"alg": name}).encode())
        for signature in ("", A1_SIGNATURE):
            assert refused(hs256(), bearing(f"{header}.{CLAIMS}.{signature}"), 0) == "malformed_signature"

    @pytest.mark.case("S-12")
    @pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
    def test_a_public_key_is_no_secret(self, algorithm: str) -> None:
        """The attack by which a library that trusts `alg` takes the public key for an HMAC secret."""
        public = pem(private(algorithm).public_key()).encode()
        for name in ("HS256", algorithm):
            signed = f"{part(json.dumps({'alg': name}).encode())}.{part(b'{}')}"
            mac = hashlib.sha256  # PyJWT refuses to sign with a public key, so the token is made by hand
            forged = f"{signed}.{part(hmac.new(public, signed.encode(), mac).digest())}"
            assert refused(asymmetric(algorithm), bearing(forged)) in (
                "malformed_signature",
                "wrong_signature",
            )

    def test_a_critical_extension_is_refused(self) -> None:
        assert refused(hs256(), bearing(made({}, crit=["b64"], b64=True))) == "malformed_signature"

    def test_keys_of_another_kind_build_nothing(self) -> None:
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


class TestTheFormOfATokenIsStrict:
    """One spelling, one meaning."""

    def refused(self, header: bytes, claims: bytes) -> str:
        """Sign by hand what no library would."""
        signed = f"{part(header)}.{part(claims)}"
        mac = hmac.digest(SECRET.encode(), signed.encode(), "sha256")
        return refused(hs256(), bearing(f"{signed}.{part(mac)}"))

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
    def test_other_spellings_are_malformed(self, spoil: Any) -> None:
        assert refused(hs256(), bearing(spoil(made({})))) == "malformed_signature"

    def test_a_last_character_with_other_padding_bits_is_malformed(self) -> None:
        token = made({})
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        sibling = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
        assert unpart(sibling.rpartition(".")[2]) == unpart(token.rpartition(".")[2])

        assert refused(hs256(), bearing(sibling)) == "malformed_signature"

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
    def test_a_header_with_no_one_meaning_is_malformed(self, header: bytes) -> None:
        assert self.refused(header, b"{}") == "malformed_signature"

    @pytest.mark.parametrize(
        "claims", [b'{"exp":1,"exp":9999999999}', b"[]", b"null", b"1", b"{", b'{"exp":', b"\xff"]
    )
    def test_claims_with_no_one_meaning_are_malformed(self, claims: bytes) -> None:
        assert self.refused(b'{"alg":"HS256"}', claims) == "malformed_signature"

    def test_where_there_is_no_token_it_is_missing(self) -> None:
        assert refused(hs256(), request()) == "missing_signature"
        assert refused(hs256(), request(headers={"Authorization": ""})) == "missing_signature"
        assert (
            refused(hs256(), request(headers={"Authorization": f"bearer {made({})}"}))
            == "malformed_signature"
        )
        twice = request(headers=[("Authorization", f"Bearer {made({})}")] * 2)
        assert refused(hs256(), twice) == "duplicate_header"


class TestClaims:
    """What a token says of its time and its parties."""

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            ({"exp": NOW - 59}, None),
            ({"exp": NOW - 60}, "stale_timestamp"),
            ({"exp": NOW - 60.5}, "stale_timestamp"),
            ({"nbf": NOW + 60}, None),
            ({"nbf": NOW + 61}, "future_timestamp"),
            ({"iat": NOW + 60}, None),
            ({"iat": NOW + 61}, "future_timestamp"),
            ({"iat": NOW - 1e8}, None),
            ({"exp": "1"}, "malformed_timestamp"),
            ({"exp": None}, "malformed_timestamp"),
            ({"exp": True}, "malformed_timestamp"),
            ({"nbf": []}, "malformed_timestamp"),
            ({"iat": {}}, "malformed_timestamp"),
            (b'{"exp":1e999}', "malformed_timestamp"),
            ({"exp": 10**30}, None),
        ],
    )
    def test_times(self, claims: Any, reason: str | None) -> None:
        token = made(claims)
        if reason is None:
            hs256().verify(bearing(token), NOW)
        else:
            assert refused(hs256(), bearing(token)) == reason

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            ({"iat": NOW - 300}, None),
            ({"iat": NOW - 301}, "stale_timestamp"),
            ({"iat": NOW + 61}, "future_timestamp"),
            ({}, "malformed_timestamp"),
        ],
    )
    def test_max_age(self, claims: Any, reason: str | None) -> None:
        checked = hs256(max_age="5m")
        if reason is None:
            checked.verify(bearing(made(claims)), NOW)
        else:
            assert refused(checked, bearing(made(claims))) == reason

    @pytest.mark.parametrize("audience", ["us", ["them", "us"]])
    def test_the_right_parties_pass(self, audience: Any) -> None:
        token = made({"aud": audience, "iss": "provider"})

        hs256(audience="us", issuer="provider").verify(bearing(token), NOW)

    @pytest.mark.parametrize(
        "claims",
        [
            {"iss": "provider"},
            {"aud": "us"},
            {"aud": "them", "iss": "provider"},
            {"aud": [], "iss": "provider"},
            {"aud": ["usa"], "iss": "provider"},
            {"aud": {"us": 1}, "iss": "provider"},
            {"aud": ["us", 1], "iss": "provider"},
            {"aud": None, "iss": "provider"},
            {"aud": "us", "iss": "provider2"},
            {"aud": "us", "iss": ["provider"]},
            {"aud": "us", "iss": None},
        ],
    )
    def test_others_have_the_wrong_credentials(self, claims: Any) -> None:
        checked = hs256(audience="us", issuer="provider")

        assert refused(checked, bearing(made(claims))) == "wrong_credentials"

    def test_the_body_is_the_one_that_the_token_is_about(self) -> None:
        checked = hs256(body_hash={"claim": "request_body_sha256"})
        token = made({"request_body_sha256": hashlib.sha256(b"body").hexdigest()})

        checked.verify(bearing(token, b"body"), NOW)
        assert refused(checked, bearing(token, b"bodY")) == "wrong_signature"
        assert refused(checked, bearing(made({}), b"body")) == "wrong_signature"
        assert refused(checked, bearing(made({"request_body_sha256": 1}), b"body")) == "wrong_signature"
        upper = made({"request_body_sha256": hashlib.sha256(b"body").hexdigest().upper()})
        assert refused(checked, bearing(upper, b"body")) == "wrong_signature"


class TestPublishedKeys:
    """`jwks`: the keys that the provider publishes."""

    def test_the_key_that_the_token_names_is_taken(self) -> None:
        keys = [jwk(rsa_key("other").public_key(), kid="a"), jwk(rsa_key().public_key(), kid="b")]
        checked = with_keys(keys)

        checked.verify(bearing(made({}, "RS256", kid="b")), NOW)
        checked.verify(bearing(made({}, "RS256")), NOW)
        assert refused(checked, bearing(made({}, "RS256", kid="a"))) == "wrong_signature"
        assert refused(checked, bearing(made({}, "RS256", kid="c"))) == "wrong_signature"

    @pytest.mark.parametrize(
        "members",
        [
            {"use": "enc"},
            {"alg": "RS512"},
            {"alg": "HS256"},
            {"kty": "oct"},
            {"n": "AQAB"},
            {"e": ""},
            {"n": "!"},
        ],
    )
    def test_keys_for_something_else_are_not_used(self, members: dict[str, str]) -> None:
        checked = with_keys([jwk(rsa_key().public_key(), **members)])

        assert refused(checked, bearing(made({}, "RS256"))) == "wrong_signature"

    @pytest.mark.parametrize("members", [{"crv": "P-384"}, {"x": "AQAB"}, {"y": A3_KEY["x"]}, {"kty": "RSA"}])
    def test_curves_and_points_have_to_be_right(self, members: dict[str, str]) -> None:
        right = jwk(ec_key().public_key())

        with_keys([right], "ES256").verify(bearing(made({}, "ES256")), NOW)
        assert refused(with_keys([right | members], "ES256"), bearing(made({}, "ES256"))) == "wrong_signature"

    @pytest.mark.parametrize(
        "document", [b"", b"{}", b"[]", b'{"keys":{}}', b'{"keys":[1,null,{}]}', b"\xff", b"<html>"]
    )
    def test_what_is_no_key_set_has_no_key(self, document: bytes) -> None:
        assert refused(with_keys(document), bearing(made({}, "RS256"))) == "wrong_signature"

    def test_one_key_that_is_not_understood_does_not_spoil_the_others(self) -> None:
        checked = with_keys([{"kty": "OKP", "crv": "Ed25519"}, {"kty": 1}, jwk(rsa_key().public_key())])

        checked.verify(bearing(made({}, "RS256")), NOW)

    def test_the_address_is_the_configured_one_and_nothing_in_the_token_changes_it(self) -> None:
        (remote,) = with_keys([]).remote
        token = made(
            {"iss": "https://evil.example"}, "RS256", jku="https://evil.example", x5u="https://evil.example"
        )

        assert remote.key_url(bearing(token)) == JWKS_URL
        assert remote.key_url(request()) is None
        with pytest.raises(VerificationError):
            remote.key_url(bearing("x"))

    def test_an_unknown_key_id_makes_the_set_outdated(self) -> None:
        (remote,) = with_keys([]).remote
        document = json.dumps({"keys": [jwk(rsa_key().public_key(), kid="a")]}).encode()

        assert not remote.is_outdated(bearing(made({}, "RS256", kid="a")), document)
        assert remote.is_outdated(bearing(made({}, "RS256", kid="b")), document)

    def test_without_a_fetched_set_nothing_passes(self) -> None:
        checked = verification(BEARER | {"algorithm": "RS256", "jwks": JWKS_URL})

        assert refused(checked, bearing(made({}, "RS256"))) == "wrong_signature"

    def test_with_secrets_nothing_is_fetched(self) -> None:
        assert hs256().remote == ()


class TestSigning:
    """`sign`: as the provider would."""

    def test_what_is_signed_verifies_and_pyjwt_agrees(self) -> None:
        checked = hs256(audience="us", issuer="p", max_age="5m", body_hash={"claim": "h"})

        signed = checked.sign(request(b"body"), NOW)

        checked.verify(signed, NOW)
        token = signed.headers["Authorization"].removeprefix("Bearer ")
        judged = pyjwt.decode(
            token, SECRET, ["HS256"], audience="us", issuer="p", options={"verify_exp": False}
        )
        assert judged["h"] == hashlib.sha256(b"body").hexdigest()
        assert refused(checked, signed, NOW + 301) == "stale_timestamp"

    def test_a_body_becomes_the_claims(self) -> None:
        checked = verification(BODY | {"algorithm": "HS256", "key": "utf8"}, secrets=(SECRET,))

        verified = checked.verify(checked.sign(request(b'{"id":"e","n":1.50}'), NOW), NOW)

        assert verified.facts["claims"] == b'{"id": "e", "n": 1.50, "iat": 1750000000, "exp": 1750000300}'
        with pytest.raises(VerificationError):
            checked.sign(request(b"not json"), NOW)

    def test_only_the_provider_has_a_private_key(self) -> None:
        with pytest.raises(GatewayError, match="only the provider can sign"):
            asymmetric("RS256").sign(request(), NOW)


TOKEN = made({"iat": NOW, "aud": "us"})


@given(index=st.integers(0, len(TOKEN) - 1), character=st.characters(min_codepoint=33, max_codepoint=126))
def test_one_changed_character_never_passes(index: int, character: str) -> None:
    changed = TOKEN[:index] + character + TOKEN[index + 1 :]
    if changed != TOKEN:
        refused(hs256(), bearing(changed))


@pytest.mark.parametrize("wrap", [str, lambda key: f'\n{{"request_id": "a", "key": {key}}}\n'])
def test_a_public_key_may_be_a_jwk_or_an_answer_that_holds_one(wrap: Callable[[str], str]) -> None:
    settings = BEARER | {"algorithm": "ES256", "key": "pem"}
    header = base64.urlsafe_b64encode(b'{"alg":"ES256"}').decode().rstrip("=")

    checked = verification(settings, secrets=(wrap(json.dumps(A3_KEY)),))

    checked.verify(bearing(f"{header}.{CLAIMS}.{A3_SIGNATURE}"), EXPIRES - 1)

    for spoilt in ({"x": A3_KEY["y"]}, {"crv": "P-384"}, {"kty": "oct"}, {"use": "enc"}):
        with pytest.raises(SecretError):
            verification(settings, secrets=(wrap(json.dumps(A3_KEY | spoilt)),))


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
@given(bit=st.integers(0, 5000), which=st.integers(0, 2))
def test_one_flipped_bit_of_any_part_never_passes(algorithm: str, bit: int, which: int) -> None:
    checked = hs256() if algorithm == "HS256" else asymmetric(algorithm)
    parts = made({"iat": NOW}, algorithm).split(".")
    parts[which] = part(flipped(unpart(parts[which]), bit))

    refused(checked, bearing(".".join(parts)))


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
def test_whatever_is_signed_verifies_or_is_refused_and_nothing_else_is_raised(
    header: bytes, claims: bytes, body: bytes
) -> None:
    signed = f"{part(header)}.{part(claims)}"
    mac = hmac.digest(SECRET.encode(), signed.encode(), "sha256")
    checked = hs256(audience="us", issuer="p", max_age="5m", body_hash={"claim": "h"})

    with pytest.raises(VerificationError):
        checked.verify(bearing(f"{signed}.{part(mac)}", body), NOW)


TEXT = st.text(st.characters(exclude_characters="\r\n\0", codec=None), max_size=60)


@given(value=TEXT | TEXT.map("Bearer ".__add__), body=st.binary(max_size=60))
def test_whatever_arrives_is_refused_and_nothing_else_is_raised(value: str, body: bytes) -> None:
    for checked in (hs256(), with_keys([A2_KEY]), verification(BODY, secrets=(pem(rsa_key().public_key()),))):
        with pytest.raises(VerificationError):
            checked.verify(request(body, {"Authorization": value}), NOW)


@given(bit=st.integers(0, 5000))
def test_what_passes_here_passes_pyjwt_too(bit: int) -> None:
    """An independent judge for tokens that were damaged a little: we are never the laxer one."""
    token = flipped(TOKEN.encode(), bit).decode("latin-1")
    try:
        hs256().verify(bearing(token), NOW)
    except VerificationError:
        return
    options: Any = {"verify_aud": False}
    pyjwt.decode(token, SECRET, ["HS256"], options=options)


def test_tokens_are_never_stored() -> None:
    assert hs256().verifiers[0].credential_headers() == {"authorization"}
    in_body = verification(BODY, secrets=(pem(rsa_key().public_key()),))
    assert in_body.verifiers[0].credential_headers() == frozenset()
    with pytest.raises(ValueError, match="empty key"):
        hs256_key(b"", "utf8")


def test_a_private_key_in_pem_is_no_public_key() -> None:
    private_pem = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    with pytest.raises(SecretError):
        verification(BODY, secrets=(private_pem,))
