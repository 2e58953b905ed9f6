"""`type: jwt`: key sets that the provider publishes, and public keys as JWK."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from doubles.keys import ec_key, rsa_key
from gatehouse.config.secrets import SecretError
from gatehouse.errors import VerificationError
from jwts import (
    A3_KEY,
    A3_SIGNATURE,
    BEARER,
    CLAIMS,
    EXPIRES,
    JWKS_URL,
    bearer_request,
    hs256,
    jwk,
    signed_token,
    with_published_keys,
)
from verifying import NOW, refusal_reason, request, verification


class TestPublishedKeys:
    """`jwks`: the key set that the provider publishes."""

    def test_the_key_id_of_the_token_selects_the_key(self) -> None:
        keys = [jwk(rsa_key("other").public_key(), kid="a"), jwk(rsa_key().public_key(), kid="b")]
        checked = with_published_keys(keys)

        checked.verify(bearer_request(signed_token({}, "RS256", kid="b")), NOW)
        checked.verify(bearer_request(signed_token({}, "RS256")), NOW)
        assert (
            refusal_reason(checked, bearer_request(signed_token({}, "RS256", kid="a"))) == "wrong_signature"
        )
        assert (
            refusal_reason(checked, bearer_request(signed_token({}, "RS256", kid="c"))) == "wrong_signature"
        )

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
    def test_keys_for_other_uses_are_ignored(self, members: dict[str, str]) -> None:
        checked = with_published_keys([jwk(rsa_key().public_key(), **members)])

        assert refusal_reason(checked, bearer_request(signed_token({}, "RS256"))) == "wrong_signature"

    @pytest.mark.parametrize("members", [{"crv": "P-384"}, {"x": "AQAB"}, {"y": A3_KEY["x"]}, {"kty": "RSA"}])
    def test_keys_with_a_wrong_curve_or_point_are_ignored(self, members: dict[str, str]) -> None:
        right = jwk(ec_key().public_key())

        with_published_keys([right], "ES256").verify(bearer_request(signed_token({}, "ES256")), NOW)
        assert (
            refusal_reason(
                with_published_keys([right | members], "ES256"), bearer_request(signed_token({}, "ES256"))
            )
            == "wrong_signature"
        )

    @pytest.mark.parametrize(
        "document", [b"", b"{}", b"[]", b'{"keys":{}}', b'{"keys":[1,null,{}]}', b"\xff", b"<html>"]
    )
    def test_a_malformed_key_set_contains_no_key(self, document: bytes) -> None:
        assert (
            refusal_reason(with_published_keys(document), bearer_request(signed_token({}, "RS256")))
            == "wrong_signature"
        )

    def test_an_unsupported_key_does_not_affect_the_others(self) -> None:
        checked = with_published_keys(
            [{"kty": "OKP", "crv": "Ed25519"}, {"kty": 1}, jwk(rsa_key().public_key())]
        )

        checked.verify(bearer_request(signed_token({}, "RS256")), NOW)

    def test_the_jwks_url_is_the_configured_one_regardless_of_the_token(self) -> None:
        (remote,) = with_published_keys([]).remote
        token = signed_token(
            {"iss": "https://evil.example"}, "RS256", jku="https://evil.example", x5u="https://evil.example"
        )

        assert remote.key_url(bearer_request(token)) == JWKS_URL
        assert remote.key_url(request()) is None
        with pytest.raises(VerificationError):
            remote.key_url(bearer_request("x"))

    def test_an_unknown_key_id_makes_the_key_set_outdated(self) -> None:
        (remote,) = with_published_keys([]).remote
        document = json.dumps({"keys": [jwk(rsa_key().public_key(), kid="a")]}).encode()

        assert not remote.is_outdated(bearer_request(signed_token({}, "RS256", kid="a")), document)
        assert remote.is_outdated(bearer_request(signed_token({}, "RS256", kid="b")), document)

    def test_without_a_fetched_key_set_a_token_is_refused(self) -> None:
        checked = verification(BEARER | {"algorithm": "RS256", "jwks": JWKS_URL})

        assert refusal_reason(checked, bearer_request(signed_token({}, "RS256"))) == "wrong_signature"

    def test_a_verifier_with_secrets_needs_no_published_keys(self) -> None:
        assert hs256().remote == ()


@pytest.mark.parametrize("wrap", [str, lambda key: f'\n{{"request_id": "a", "key": {key}}}\n'])
def test_a_public_key_may_be_a_jwk_or_an_api_response_with_one(wrap: Callable[[str], str]) -> None:
    settings = BEARER | {"algorithm": "ES256", "key": "pem"}
    header = base64.urlsafe_b64encode(b'{"alg":"ES256"}').decode().rstrip("=")

    checked = verification(settings, secrets=(wrap(json.dumps(A3_KEY)),))

    checked.verify(bearer_request(f"{header}.{CLAIMS}.{A3_SIGNATURE}"), EXPIRES - 1)

    for spoilt in ({"x": A3_KEY["y"]}, {"crv": "P-384"}, {"kty": "oct"}, {"use": "enc"}):
        with pytest.raises(SecretError):
            verification(settings, secrets=(wrap(json.dumps(A3_KEY | spoilt)),))
