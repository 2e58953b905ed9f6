"""`type: jwt`: the times, the issuer, the audience and the body hash in the claims."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from jwts import bearer_request, hs256, signed_token
from verifying import NOW, refusal_reason


class TestClaims:
    """The times, the issuer, the audience and the body hash in the claims."""

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
    def test_expired_and_premature_tokens_are_refused(self, claims: Any, reason: str | None) -> None:
        token = signed_token(claims)
        if reason is None:
            hs256().verify(bearer_request(token), NOW)
        else:
            assert refusal_reason(hs256(), bearer_request(token)) == reason

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            ({"iat": NOW - 300}, None),
            ({"iat": NOW - 301}, "stale_timestamp"),
            ({"iat": NOW + 61}, "future_timestamp"),
            ({}, "malformed_timestamp"),
        ],
    )
    def test_a_token_older_than_max_age_is_refused(self, claims: Any, reason: str | None) -> None:
        checked = hs256(max_age="5m")
        if reason is None:
            checked.verify(bearer_request(signed_token(claims)), NOW)
        else:
            assert refusal_reason(checked, bearer_request(signed_token(claims))) == reason

    @pytest.mark.parametrize("audience", ["us", ["them", "us"]])
    def test_the_configured_issuer_and_audience_pass(self, audience: Any) -> None:
        token = signed_token({"aud": audience, "iss": "provider"})

        hs256(audience="us", issuer="provider").verify(bearer_request(token), NOW)

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
    def test_another_issuer_or_audience_has_the_wrong_credentials(self, claims: Any) -> None:
        checked = hs256(audience="us", issuer="provider")

        assert refusal_reason(checked, bearer_request(signed_token(claims))) == "wrong_credentials"

    @pytest.mark.parametrize(
        ("claims", "passes"),
        [
            ({"email": "a@b.example", "email_verified": True}, True),
            ({"email": "a@b.example", "email_verified": True, "data": {"email": "a@b.example"}}, True),
            ({"data": {"email": "a@b.example"}, "email_verified": True}, True),
            ({"email": "a@b.example", "email_verified": True, "data": {"email": "x@b.example"}}, False),
            ({"email": "a@b.example", "email_verified": True, "data": {"email": None}}, False),
            ({"email": "a@b.example", "email_verified": False}, False),
            ({"email": "a@b.example", "email_verified": "true"}, False),
            ({"email": "a@b.example", "email_verified": 1}, False),
            ({"email": "a@b.example"}, False),
            ({"email": "A@b.example", "email_verified": True}, False),
            ({"email": ["a@b.example"], "email_verified": True}, False),
            ({"data": "a@b.example", "email_verified": True}, False),
            ({"email_verified": True}, False),
        ],
    )
    def test_every_required_claim_must_have_its_value(self, claims: Any, passes: bool) -> None:
        required = (
            {"claim": ("email", "data.email"), "value": "a@b.example"},
            {"claim": "email_verified", "value": True},
        )
        checked = hs256(claims=required)
        if passes:
            checked.verify(bearer_request(signed_token(claims)), NOW)
        else:
            assert refusal_reason(checked, bearer_request(signed_token(claims))) == "wrong_credentials"
        checked.verify(checked.sign(bearer_request(""), NOW), NOW)

    @pytest.mark.parametrize("claims", [b'{"email":"a","email":"b"}', b'{"data":{"email":"a","email":"a"}}'])
    def test_a_required_claim_that_occurs_twice_is_malformed(self, claims: bytes) -> None:
        checked = hs256(claims=({"claim": ("email", "data.email"), "value": "a"},))
        assert refusal_reason(checked, bearer_request(signed_token(claims))) == "malformed_signature"

    def test_a_body_that_does_not_match_the_body_hash_is_refused(self) -> None:
        checked = hs256(body_hash={"claim": "request_body_sha256"})
        token = signed_token({"request_body_sha256": hashlib.sha256(b"body").hexdigest()})

        checked.verify(bearer_request(token, b"body"), NOW)
        assert refusal_reason(checked, bearer_request(token, b"bodY")) == "wrong_signature"
        assert refusal_reason(checked, bearer_request(signed_token({}), b"body")) == "wrong_signature"
        assert (
            refusal_reason(checked, bearer_request(signed_token({"request_body_sha256": 1}), b"body"))
            == "wrong_signature"
        )
        upper = signed_token({"request_body_sha256": hashlib.sha256(b"body").hexdigest().upper()})
        assert refusal_reason(checked, bearer_request(upper, b"body")) == "wrong_signature"
