"""Requests for other sources, wrong credentials and addresses are explained, each for the right verifier."""

from __future__ import annotations

import base64

import pytest

from gatehouse.diagnosis.diagnose import diagnose
from refusals import ANY, BODY, NOW, PLAIN, SECRET, acme, changed, digest, explained, known, request, settings


def test_the_secret_of_another_source_is_recognized() -> None:
    shop = known("shop-eu", settings(PLAIN), "the-secret-of-another-source")
    headers = acme(BODY, "the-secret-of-another-source")

    found = explained(PLAIN, request(headers), others=(shop,))

    assert found.findings[0] == (
        "The signature matches a secret of the source shop-eu. Either the request was sent to acme by "
        "mistake, or the secrets of the two sources are swapped."
    )


def test_a_request_for_another_source_is_recognized() -> None:
    theirs = {"type": "hmac", "signature": {"header": "X-Shop-Sig"}}
    shop = known("shop", settings(theirs), "the-secret-of-another-source")
    headers = {"X-Shop-Sig": digest(BODY, "the-secret-of-another-source").hex()}

    found = explained(PLAIN, request(headers), others=(shop,))

    told = (
        "The request verifies for the source shop. Enter the address of shop, not of acme, at its provider."
    )
    assert told in found.findings


def test_a_source_without_verification_is_never_suggested() -> None:
    open_to_all = known("open", settings({"type": "none", "insecure": True}, secrets=0))

    assert not any("open" in told for told in explained(PLAIN, request({}), others=(open_to_all,)).findings)


@pytest.mark.parametrize(
    ("authorization", "told"),
    [
        ("Bearer abc", "The header Authorization contains no Basic credentials."),
        ("Basic !!", "The Basic credentials are not base64."),
        ("Basic " + base64.b64encode(b"user").decode(), "The Basic credentials have no colon"),
        (
            "Basic " + base64.b64encode(b"user:x").decode(),
            "The user name is right, but the password is wrong.",
        ),
        ("Basic " + base64.b64encode(b"other:x").decode(), "The user name is wrong."),
    ],
)
def test_the_wrong_part_of_basic_credentials_is_named(authorization: str, told: str) -> None:
    found = explained({"type": "basic", "username": "user"}, request({"Authorization": authorization}))

    assert found.findings[0].startswith(told)


def test_an_address_that_is_not_allowed_is_named() -> None:
    verify = {"type": "allowlist", "networks": ("203.0.113.0/24",)}

    assert explained(verify, request({})).findings == (
        (
            "The client's address 10.0.0.9 is in none of the `networks` in `sources.acme.verify`. Add it "
            "there if it belongs to the provider."
        ),
        (
            "10.0.0.9 is a private address, probably that of a proxy. Name the proxy in "
            "`server.trusted_proxies`, so that Gatehouse sees the address of the sender."
        ),
    )
    assert explained(verify, request({}, client="")).findings == (
        "The client's address is not known. For a saved request, add `--client ADDRESS`.",
    )


def test_of_alternatives_the_one_whose_signature_is_present_is_explained() -> None:
    found = explained(ANY, request({"X-Old-Signature": digest(BODY, SECRET, "sha1").hex()}))

    told = changed("`digest: sha1`", "`digest: sha256`", path="sources.acme.verify.of.1")
    assert found.findings == (told,)


def test_all_alternatives_are_named_if_no_signature_is_present() -> None:
    found = explained(ANY, request({}))

    assert found.findings[:2] == (
        "The header X-Acme-Signature is missing.",
        "The header X-Old-Signature is missing.",
    )


def test_in_a_list_the_verifier_that_refuses_is_explained() -> None:
    second = {"type": "hmac", "digest": "sha512", "signature": {"header": "X-Second"}}

    found = explained([PLAIN, second], request(acme(BODY) | {"X-Second": digest(BODY).hex()}))

    assert found.findings == (changed("`digest: sha256`", "`digest: sha512`", path="sources.acme.verify.1"),)


def test_a_source_without_a_readable_secret_is_explained_as_far_as_possible() -> None:
    config = settings(PLAIN)

    found = diagnose(request({}, b""), known("acme", config), [], NOW, "missing_signature")

    (finding,) = found.findings
    assert finding.startswith("The body is empty.")
