"""`type: jwt` with `certificates`: only a chain that ends at a pinned root can bring its own key."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from chains import (
    INTERMEDIATE_MARK,
    LEAF_MARK,
    YEAR,
    chained_token,
    fingerprint,
    good_chain,
    in_body,
    intermediate,
    issued,
    leaf,
    root,
    settings,
)
from doubles.keys import ec_key, pem, rsa_key
from gatehouse.config.model import CertificatesConfig
from gatehouse.errors import VerificationError
from gatehouse.verify import certificates
from gatehouse.verify.certificates import CertificateChains
from gatehouse.verify.jws import parse_token
from jwts import decode_part, encode_part
from verifying import NOW, flipped, refusal_reason, request, verification

Chain = Callable[[], Any]


def checked(**changes: Any) -> Any:
    return verification(settings(**changes))


def reason(token: str, now: float = NOW) -> str:
    return refusal_reason(checked(), request(in_body(token)), now)


def test_a_token_with_a_trusted_chain_passes_and_yields_its_claims_as_sent() -> None:
    claims = b'{"signedDate": 1750000000000, "data": {"signedTransactionInfo": "a.b.c",  "n": 1.0}}'
    verifier = checked()

    for _ in range(2):  # the second time, the chain is known
        verified = verifier.verify(request(in_body(chained_token(claims=claims))), NOW)
    assert verified.facts["claims"] == claims
    assert verified.facts["timestamp"] == b"1750000000000"
    assert verified.secret == 0


APPLE = json.loads(Path(__file__).with_name("apple_chains.json").read_text())


@pytest.mark.parametrize("chain", APPLE["chains"], ids=lambda chain: chain["name"])
def test_the_chains_in_the_tests_of_apple_are_judged_as_apple_judges_them(chain: dict[str, Any]) -> None:
    roots = fingerprint(base64.b64decode(chain["x5c"][-1]))
    config = CertificatesConfig.model_validate(settings()["certificates"] | {"roots": roots})
    header = encode_part(json.dumps({"alg": "ES256", "x5c": chain["x5c"]}).encode())
    token = parse_token(f"{header}.e30.AA".encode(), "ES256")
    at = chain.get("at", APPLE["at"])

    if chain["trusted"]:
        assert not CertificateChains(config).check_of(token, at)(token.signed, token.signature)
    else:
        with pytest.raises(VerificationError):
            CertificateChains(config).check_of(token, at)


UNTRUSTED: dict[str, Chain] = {
    "a leaf without its mark": lambda: [issued("leaf", "intermediate"), intermediate(), root()],
    "a leaf with another mark": lambda: [
        issued("leaf", "intermediate", mark=INTERMEDIATE_MARK),
        intermediate(),
        root(),
    ],
    "an intermediate certificate without its mark": lambda: [
        leaf(),
        issued("intermediate", "root", authority=True),
        root(),
    ],
    "an intermediate certificate that is no authority": lambda: [
        leaf(),
        issued("intermediate", "root", mark=INTERMEDIATE_MARK),
        root(),
    ],
    "an intermediate certificate that may not issue": lambda: [
        leaf(),
        issued("intermediate", "root", mark=INTERMEDIATE_MARK, authority=True, signs=False),
        root(),
    ],
    "an intermediate certificate of another key": lambda: [
        leaf(),
        issued("intermediate", "root", mark=INTERMEDIATE_MARK, authority=True, key=ec_key("x")),
        root(),
    ],
    "an intermediate certificate that names the root but was not issued by it": lambda: [
        leaf(),
        issued("intermediate", "root", mark=INTERMEDIATE_MARK, authority=True, issuer_key=ec_key("x")),
        root(),
    ],
    "a leaf that names the intermediate certificate but was not issued by it": lambda: [
        issued("leaf", "intermediate", mark=LEAF_MARK, issuer_key=ec_key("x")),
        intermediate(),
        root(),
    ],
    "a leaf that the root issued": lambda: [issued("leaf", "root", mark=LEAF_MARK), intermediate(), root()],
    "a leaf that is an authority": lambda: [
        issued("leaf", "intermediate", mark=LEAF_MARK, authority=True),
        intermediate(),
        root(),
    ],
    "a leaf that may not sign": lambda: [
        issued("leaf", "intermediate", mark=LEAF_MARK, signs=False),
        intermediate(),
        root(),
    ],
    "a leaf on another curve": lambda: [
        issued("leaf", "intermediate", mark=LEAF_MARK, key=ec_key("y", ec.SECP384R1)),
        intermediate(),
        root(),
    ],
    "a leaf with an RSA key": lambda: [
        issued("leaf", "intermediate", mark=LEAF_MARK, key=rsa_key()),
        intermediate(),
        root(),
    ],
    "a leaf of another key": lambda: [
        issued("leaf", "intermediate", mark=LEAF_MARK, key=ec_key("x")),
        intermediate(),
        root(),
    ],
    "an expired leaf": lambda: [
        issued("leaf", "intermediate", mark=LEAF_MARK, until=NOW - 1),
        intermediate(),
        root(),
    ],
    "a leaf that is not valid yet": lambda: [
        issued("leaf", "intermediate", mark=LEAF_MARK, since=NOW + 1),
        intermediate(),
        root(),
    ],
    "an expired intermediate certificate": lambda: [
        leaf(),
        issued("intermediate", "root", mark=INTERMEDIATE_MARK, authority=True, until=NOW - 1),
        root(),
    ],
    "bytes after the leaf": lambda: [leaf() + b"\0", intermediate(), root()],
    "a wrong order": lambda: [intermediate(), leaf(), root()],
    "no certificate but the root": lambda: [root(), root(), root()],
    "bytes that are no certificate": lambda: [b"x", intermediate(), root()],
}


@pytest.mark.parametrize("chain", UNTRUSTED.values(), ids=UNTRUSTED)
def test_an_untrusted_chain_is_refused(chain: Chain) -> None:
    assert reason(chained_token(chain())) == "wrong_signature"


@pytest.mark.parametrize(
    "chain",
    [
        lambda: [leaf(), intermediate(), root("other")],
        lambda: [root(), intermediate(), leaf()],
        lambda: [
            issued("leaf", "fake", mark=LEAF_MARK),
            issued("fake", "other", mark=INTERMEDIATE_MARK, authority=True),
            root("other"),
        ],
    ],
)
def test_a_chain_that_ends_elsewhere_is_refused(chain: Chain) -> None:
    assert reason(chained_token(chain())) == "wrong_credentials"


@pytest.mark.parametrize(
    "chain",
    [
        list,
        lambda: [leaf(), root()],
        lambda: [*good_chain(), root()],
        lambda: [leaf(), intermediate(), intermediate(), root()],
        lambda: {"0": "a"},
        lambda: "text",
        lambda: None,
        lambda: [leaf(), intermediate(), 1],
        lambda: [leaf(), intermediate(), ""],
        lambda: [leaf(), intermediate(), encode_part(root()) + "_"],
        lambda: [leaf(), intermediate(), " " + base64.b64encode(root()).decode()],
        lambda: ["A" * 8200, intermediate(), root()],
        lambda: ["A"] * 100_000,
    ],
)
def test_another_number_or_form_of_certificates_is_refused_before_any_is_read(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(x509, "load_der_x509_certificate", read.append)

    assert reason(chained_token(chain() if chain() is not None else {})) == "malformed_signature"
    assert not read


def test_a_chain_must_be_valid_when_the_token_was_signed_not_when_it_arrives() -> None:
    ends = NOW + 100
    chain = [issued("leaf", "intermediate", mark=LEAF_MARK, until=ends), intermediate(), root()]
    verifier = checked()

    verifier.verify(request(in_body(chained_token(chain, at=ends - 1))), ends + 3600)
    late = request(in_body(chained_token(chain, at=ends + 1)))
    assert refusal_reason(verifier, late, ends + 3600) == "wrong_signature"  # although the chain is known


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, "malformed_timestamp"),
        ({"iat": NOW}, "malformed_timestamp"),
        ({"signedDate": "1"}, "malformed_timestamp"),
        ({"signedDate": (NOW - 8 * 86_400 - 1) * 1000}, "stale_timestamp"),
        ({"signedDate": (NOW + 61) * 1000}, "future_timestamp"),
        ({"signedDate": 1e308}, "future_timestamp"),
        ({"signedDate": -1e308}, "stale_timestamp"),
        (b"[]", "malformed_signature"),
        (b'{"signedDate":1,"signedDate":1}', "malformed_signature"),
    ],
)
def test_the_signed_time_is_required_and_recent(claims: Any, expected: str) -> None:
    assert reason(chained_token(claims=claims)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "missing_signature"),
        (b"{}", "missing_signature"),
        (b'{"signedPayload":null}', "missing_signature"),
        (b'{"signedPayload":1}', "malformed_signature"),
        (b'{"signedPayload":"\xc3\xa9.a.b"}', "malformed_signature"),
        (b'{"signedPayload":"a","signedPayload":"a"}', "malformed_body"),
        (b"[]", "missing_signature"),
        (b"a.b.c", "malformed_body"),
    ],
)
def test_a_body_without_a_token_is_refused(body: bytes, expected: str) -> None:
    assert refusal_reason(checked(), request(body)) == expected


def test_no_other_algorithm_passes_even_with_the_public_key_as_a_secret() -> None:
    header, claims, _ = chained_token().split(".")
    for algorithm in ("none", "HS256", "ES384", "RS256"):
        named = json.loads(decode_part(header)) | {"alg": algorithm}
        text = f"{encode_part(json.dumps(named).encode())}.{claims}"
        mac = pyjwt.get_algorithm_by_name("HS256")
        for secret in (pem(ec_key("leaf").public_key()).encode(), leaf()):
            signature = mac.sign(text.encode(), secret)
            assert reason(f"{text}.{encode_part(signature)}") == "malformed_signature"
        assert reason(f"{text}.") == "malformed_signature"


def test_a_token_of_hs256_inside_a_body_can_be_signed_and_verified() -> None:
    verifier = verification(
        {"type": "jwt", "algorithm": "HS256", "body": "a.token"},
        secrets=("a-secret-of-32-bytes-or-more-xxxx",),
    )
    made = verifier.sign(request(b'{"id": 7}'), NOW)

    assert json.loads(verifier.verify(made, NOW).facts["claims"])["id"] == 7


@given(bit=st.integers(0, 40_000), which=st.integers(0, 2))
def test_a_flipped_bit_in_any_part_is_refused(bit: int, which: int) -> None:
    parts = chained_token(at=NOW).split(".")
    parts[which] = encode_part(flipped(decode_part(parts[which]), bit))

    reason(".".join(parts))


@given(bit=st.integers(0, 20_000), which=st.integers(0, 2))
@example(bit=127, which=0)  # a negative serial number
def test_a_flipped_bit_in_any_certificate_is_refused(bit: int, which: int) -> None:
    chain = good_chain()
    chain[which] = flipped(chain[which], bit)

    # The key of the leaf signs the changed header, so that only the chain can refuse it.
    assert reason(chained_token(chain)) in ("wrong_signature", "wrong_credentials")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x5c", "signedDate"]), inner)
    ),
    max_leaves=5,
)


@given(
    chain=JSON | st.lists(st.sampled_from([*good_chain(), b"\x30\x03\x02\x01\x01", "é"]), max_size=4),
    claims=st.dictionaries(st.sampled_from(["signedDate", "exp", "nbf"]), JSON),
)
def test_random_chains_and_claims_raise_only_verification_errors(chain: Any, claims: Any) -> None:
    token = chained_token(chain if chain is not None else 0, claims)
    try:
        checked().verify(request(in_body(token)), NOW)
    except VerificationError:
        return
    assert chain == good_chain()


@given(
    body=st.binary(max_size=80)
    | st.text(max_size=80).map(lambda text: json.dumps({"signedPayload": text}).encode())
)
def test_random_bodies_are_refused_with_verification_errors(body: bytes) -> None:
    refusal_reason(checked(), request(body))


def test_at_most_a_few_trusted_chains_are_remembered() -> None:
    verifier = checked()
    for _ in range(12):
        chain = [issued("leaf", "intermediate", mark=LEAF_MARK, until=NOW + YEAR), intermediate(), root()]
        verifier.verify(request(in_body(chained_token(chain))), NOW)
    assert len(verifier.verifiers[0]._chains._trusted) == certificates._MAX_CHAINS
