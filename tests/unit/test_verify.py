"""Tokens, credentials, several verifiers, and secrets that are missing or too short."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import SecretError, SecretRef, Secrets
from gatehouse.errors import VerificationError
from gatehouse.verify.build import build_verification
from hmac_sources import NOW, PAIRS, PLAIN, PREFIXED, SECRET, hexdigest, verification
from verifying import refusal_reason, request


class TestToken:
    """`type: token`."""

    CHECK: ClassVar[dict[str, Any]] = {"type": "token", "header": "Authorization", "prefix": "Bearer "}

    def test_the_correct_token_passes(self) -> None:
        verification(self.CHECK).verify(request(headers={"Authorization": f"Bearer {SECRET}"}), NOW)

    @pytest.mark.parametrize(
        "value", [SECRET, "Bearer", "Bearer ", f"Bearer {SECRET}x", f"bearer {SECRET}", "é\udcff"]
    )
    def test_any_other_token_is_refused(self, value: str) -> None:
        assert (
            refusal_reason(verification(self.CHECK), request(headers={"Authorization": value}))
            == "wrong_credentials"
        )

    def test_a_token_in_the_query_passes(self) -> None:
        checked = verification({"type": "token", "query": "code"})
        checked.verify(request(query=f"code={SECRET}"), NOW)

        assert refusal_reason(checked, request(query="code=x")) == "wrong_credentials"
        assert refusal_reason(checked, request(query=f"code={SECRET}&code=x")) == "missing_signature"
        assert refusal_reason(checked, request()) == "missing_signature"

    def test_a_header_that_occurs_twice_is_refused(self) -> None:
        headers = [("Authorization", f"Bearer {SECRET}"), ("Authorization", "x")]

        assert refusal_reason(verification(self.CHECK), request(headers=headers)) == "duplicate_header"


class TestBasic:
    """`type: basic`."""

    def header(self, credentials: str, scheme: str = "Basic") -> dict[str, str]:
        return {"Authorization": f"{scheme} {base64.b64encode(credentials.encode()).decode()}"}

    @pytest.mark.parametrize("settings", [{"secrets": "env:BASIC"}, {"username": "user"}])
    def test_the_correct_credentials_pass(self, settings: dict[str, str]) -> None:
        checked = verification({"type": "basic"} | settings, secrets=("a-long-enough-password",))

        checked.verify(request(headers=self.header("user:a-long-enough-password")), NOW)
        checked.verify(request(headers=self.header("user:a-long-enough-password", "basic")), NOW)
        assert refusal_reason(checked, request(headers=self.header("user:wrong"))) == "wrong_credentials"
        assert refusal_reason(
            checked, request(headers=self.header("user:a-long-enough-password", "Digest"))
        ) == ("wrong_credentials")
        assert refusal_reason(checked, request()) == "missing_signature"

    def test_a_secret_without_a_colon_needs_a_username(self) -> None:
        with pytest.raises(SecretError, match="basic"):
            verification({"type": "basic"})


class TestSeveralVerifiers:
    """Several verifiers: each must pass."""

    BOTH = (PLAIN, {"type": "basic", "secrets": "env:BASIC"})

    def test_a_request_must_pass_both_verifiers(self) -> None:
        checked = verification(*self.BOTH)
        basic = {"Authorization": "Basic " + base64.b64encode(b"user:a-long-enough-password").decode()}
        signature = {"X-Sig": hexdigest(b"x")}

        assert checked.verify(request(b"x", signature | basic), NOW).facts["signed"] == b"x"
        assert refusal_reason(checked, request(b"x", signature)) == "missing_signature"
        assert refusal_reason(checked, request(b"x", basic)) == "missing_signature"
        assert refusal_reason(checked, request(b"x", basic | {"X-Sig": "0" * 64})) == "wrong_signature"


@pytest.mark.case("S-01")
@pytest.mark.parametrize(
    ("environment", "fragment"),
    [({}, "not set"), ({"S": ""}, "empty"), ({"S": " \n"}, "empty"), ({"S": "short"}, "shorter than 16")],
)
def test_a_missing_empty_or_short_secret_is_an_error(environment: dict[str, str], fragment: str) -> None:
    config = SourceConfig.model_validate({"verify": PLAIN, "event": {"type": "x"}, "secrets": "env:S"})

    with pytest.raises(SecretError, match=fragment):
        build_verification(config, Secrets(Path(), environment))


def test_an_error_never_contains_the_secret() -> None:
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
def test_random_requests_raise_only_verification_errors(
    scheme: tuple[dict[str, Any], ...], body: bytes, headers: list[tuple[str, str]], query: str, now: float
) -> None:
    with pytest.raises(VerificationError):
        verification(*scheme).verify(request(body, headers, query), now)


def test_a_verification_lists_the_verifiers_that_need_published_keys() -> None:
    remote = {"type": "paypal", "webhook_id": "1JE4291016473214C"}

    assert verification(PLAIN).remote == ()
    assert len(verification(remote).remote) == 1
    assert len(verification(PLAIN, remote).remote) == 1
    assert len(verification({"type": "any", "of": (PLAIN, remote)}).remote) == 1
