"""A refused request is explained: one test for each thing that an operator may be told to look at."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import Secrets
from gatehouse.diagnosis.diagnose import Diagnosis, diagnose, diagnose_head
from gatehouse.diagnosis.known import KnownSource, known_source
from gatehouse.errors import REASONS, Reason, VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.build import build_verification

NOW = 1_750_000_000.0
SECRET = "s3cr3t-of-at-least-16-bytes"
BODY = b'{"id": "evt_1", "amount": 45.50, "name": "caf\xc3\xa9/x"}'
COMPACT = b'{"id":"evt_1","amount":45.50,"name":"caf\xc3\xa9/x"}'

PLAIN = {"type": "hmac", "signature": {"header": "X-Acme-Signature"}}
TIMED = PLAIN | {
    "timestamp": {"header": "X-Acme-Time"},
    "signed": "{timestamp}.{body}",
}


def settings(*verify: dict[str, Any], secrets: int = 1) -> SourceConfig:
    names = tuple(f"env:S{index}" for index in range(secrets))
    return SourceConfig.model_validate({"verify": verify, "event": {"type": "x"}, "secrets": names})


def known(name: str, config: SourceConfig, *secrets: str) -> KnownSource:
    return known_source(name, config, environment(*secrets), 1024 * 1024)


def environment(*secrets: str) -> Secrets:
    return Secrets(Path(), {f"S{index}": secret for index, secret in enumerate(secrets)})


def request(headers: Any, body: bytes = BODY, **more: Any) -> Request:
    whole = Request("POST", "/webhooks/acme", "", CIMultiDict(headers), body, "https://h.example", "10.0.0.9")
    return msgspec.structs.replace(whole, **more)


def digest(message: bytes, secret: str | bytes = SECRET, name: str = "sha256") -> bytes:
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, message, name).digest()


def acme(message: bytes, secret: str | bytes = SECRET, name: str = "sha256") -> dict[str, str]:
    return {"X-Acme-Signature": digest(message, secret, name).hex()}


def explained(
    verify: dict[str, Any] | list[dict[str, Any]],
    asked: Request,
    *secrets: str,
    others: tuple[KnownSource, ...] = (),
) -> Diagnosis:
    """Let the source refuse the request, and ask why."""
    entries = verify if isinstance(verify, list) else [verify]
    config = settings(*entries, secrets=len(secrets or (SECRET,)))
    with pytest.raises(VerificationError) as caught:
        build_verification(config, environment(*(secrets or (SECRET,)))).verify(asked, NOW)
    source = known("acme", config, *(secrets or (SECRET,)))
    return diagnose(asked, source, [source, *others], NOW, caught.value.reason)


def test_an_old_timestamp_is_told_with_its_age() -> None:
    sent = int(NOW) - 812
    headers = acme(f"{sent}.".encode() + BODY) | {"X-Acme-Time": str(sent)}

    found = explained(TIMED, request(headers))

    assert found == Diagnosis(
        "stale_timestamp",
        (
            "the timestamp is 812 s old; up to 5m is let in",
            "without its age it would verify: a late retry, a replayed request, or a wrong clock",
        ),
        sent,
    )


def test_a_timestamp_from_the_future_is_told_with_how_far_it_is_ahead() -> None:
    headers = {"X-Acme-Signature": "00" * 32, "X-Acme-Time": str(int(NOW) + 400)}

    found = explained(TIMED, request(headers))

    assert found.findings[0] == "the timestamp is 400 s ahead of this clock; up to 5m is let in"
    assert "the secret does not fit the signature" in found.findings[1]


@pytest.mark.parametrize(
    ("configured", "sent", "written"),
    [("s", "1750000000123", "ms"), ("ms", "1750000000", "s"), ("s", "2025-06-15T15:06:40Z", "iso8601")],
)
def test_a_timestamp_in_another_unit_is_recognised(configured: str, sent: str, written: str) -> None:
    verify = TIMED | {"timestamp": {"header": "X-Acme-Time", "unit": configured}}
    headers = acme(f"{sent}.".encode() + BODY) | {"X-Acme-Time": sent}

    assert explained(verify, request(headers)).findings == (
        f"the timestamp is in {written}, where `unit: {configured}` is configured",
        f"it would verify with `unit: {written}`",
    )


@pytest.mark.parametrize("headers", [{}, {"X-Acme-Time": "soon"}])
def test_a_timestamp_that_is_not_there_is_told(headers: dict[str, str]) -> None:
    found = explained(TIMED, request(acme(BODY) | headers))

    assert found.findings == ("there is no timestamp where it should be, or none that can be read",)


@pytest.mark.parametrize(
    ("secrets", "told"),
    [
        ((SECRET,), "the secret does not fit the signature: it is the secret, or a body changed on the way"),
        (
            (SECRET, SECRET + "2"),
            "none of 2 secrets fits the signature: it is the secret, or a body changed on the way",
        ),
    ],
)
def test_a_wrong_secret_is_told_with_how_many_were_tried(secrets: tuple[str, ...], told: str) -> None:
    (found,) = explained(PLAIN, request(acme(BODY, "another")), *secrets).findings

    assert found.startswith(f"{told}; is it the current one, of this account and mode")


@pytest.mark.parametrize("name", ["sha1", "sha512"])
def test_the_right_signature_with_another_digest_is_recognised(name: str) -> None:
    found = explained(PLAIN, request(acme(BODY, SECRET, name)))

    assert found.findings == (f"it would verify with `digest: {name}`",)


@pytest.mark.parametrize(
    ("encoding", "secret", "key"),
    [
        ("base64", base64.b64encode(b"0123456789abcdef").decode(), b"0123456789abcdef"),
        ("hex", b"0123456789abcdef".hex(), b"0123456789abcdef"),
        ("whsec", "whsec_" + base64.b64encode(b"0123456789abcdef").decode(), b"0123456789abcdef"),
        ("sha1", SECRET, hashlib.sha1(SECRET.encode(), usedforsecurity=False).digest()),
    ],
)
def test_a_key_that_is_written_otherwise_is_recognised(encoding: str, secret: str, key: bytes) -> None:
    found = explained(PLAIN, request(acme(BODY, key)), secret)

    assert found.findings == (f"it would verify with `key: {encoding}`",)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("base64", base64.b64encode(digest(BODY)).decode()),
        ("base64url", base64.urlsafe_b64encode(digest(BODY, "fits-only-urlsafe")).decode()),
    ],
)
def test_a_signature_in_another_encoding_is_recognised(encoding: str, text: str) -> None:
    secret = SECRET if encoding == "base64" else "fits-only-urlsafe"
    found = explained(PLAIN, request({"X-Acme-Signature": text}), secret)

    assert found.findings == (f"it would verify with `encoding: {encoding}`",)


def test_hex_where_base64_is_configured_is_recognised() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "encoding": "base64"}}

    assert explained(verify, request(acme(BODY))).findings == ("it would verify with `encoding: hex`",)


@pytest.mark.parametrize(
    ("configured", "sent", "told"),
    [("", "sha256=", '`prefix: "sha256="`'), ("v1=", "", "no `prefix`"), ("v1=", "v0=", '`prefix: "v0="`')],
)
def test_another_prefix_is_recognised(configured: str, sent: str, told: str) -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "prefix": configured}}
    headers = {"X-Acme-Signature": sent + digest(BODY).hex()}

    assert explained(verify, request(headers)).findings == (f"it would verify with {told}",)


def test_pairs_where_a_plain_signature_is_configured_are_recognised() -> None:
    signature = digest(b"1750000000." + BODY).hex()
    found = explained(PLAIN, request({"X-Acme-Signature": f"t=1750000000,v1={signature}"}))

    told = '`timestamp: {pair: t}` and `signed: "{timestamp}.{body}"`'
    assert found.findings == (f"it would verify with `format: pairs` and `key: v1`, {told}",)


def test_another_entry_of_the_pairs_is_recognised() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "format": "pairs", "key": "v1"}}
    found = explained(verify, request({"X-Acme-Signature": f"v1=00,s={digest(BODY).hex()}"}))

    assert found.findings == ("it would verify with `key: s`",)


def test_a_list_where_a_plain_signature_is_configured_is_recognised() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "encoding": "base64"}}
    found = explained(verify, request({"X-Acme-Signature": "v1," + base64.b64encode(digest(BODY)).decode()}))

    assert found.findings == ("it would verify with `format: list` and `key: v1`",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda secret: f" {secret}\t", "without the white space around the secret"),
        (lambda secret: f'"{secret}"', "without the quotes around the secret"),
        (lambda secret: f"whsec_{secret}", "without the whsec_ at the start of the secret"),
        (lambda secret: secret.removesuffix("\n"), "with a newline at the end of the secret"),
        (lambda secret: secret.removeprefix("whsec_"), "with whsec_ in front of the secret"),
    ],
)
def test_a_secret_that_was_copied_badly_is_recognised(change: Any, told: str) -> None:
    right = {"newline at": f"{SECRET}\n", "whsec_ in front": f"whsec_{SECRET}"}
    secret = next((value for words, value in right.items() if words in told), SECRET)

    found = explained(PLAIN, request(acme(BODY, secret)), change(secret))

    assert found.findings == (f"it would verify {told}",)


@pytest.mark.parametrize(
    ("signed", "arrived", "told"),
    [
        (BODY, BODY + b"\n", "without the newline at the end of the body: an editor or a tool added it"),
        (BODY, BODY + b"\r\n", "without the newline at the end of the body: an editor or a tool added it"),
        (BODY, b"  " + BODY, "without the white space around the body"),
        (BODY + b"\n", BODY, "with a newline at the end of the body"),
        (b"a\nb", b"a\r\nb", "with LF at the end of the body's lines"),
        (b"a\r\nb", b"a\nb", "with CRLF at the end of the body's lines"),
        (BODY, b"\xef\xbb\xbf" + BODY, "without the byte order mark"),
        (COMPACT, BODY, "if the JSON were written compact:"),
        (BODY, COMPACT, "if the JSON were written with a space after : and ,:"),
        (b'{\n  "a": 1.50\n}', b'{"a":1.50}', "if the JSON were written indented by 2:"),
        (b'{"a":"\\u00e9"}', '{"a": "é"}'.encode(), "if the JSON were written compact and escaped to ASCII:"),
        ('{"a":"é"}'.encode(), b'{"a": "\\u00e9"}', "if the JSON were written compact:"),
        (
            b'{"b": "\\u00e9", "a": 1}',
            '{"b":"é","a":1}'.encode(),
            "if the JSON were written as Python writes it:",
        ),
        (b'{"a":1,"b":2}', b'{"b": 2, "a": 1}', "if the JSON were written compact with sorted keys:"),
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}', 'with `signed: "{body_sorted}"`'),
        (b'{"a":"x\\/y"}', b'{"a":"x/y"}', "if the JSON were written compact, with \\/ as PHP writes it:"),
        (b'{"a":"\\u003cb\\u003e"}', b'{"a":"<b>"}', "if the JSON were written compact, with \\u003c as Go"),
    ],
)
def test_a_body_that_something_in_front_changed_is_recognised(
    signed: bytes, arrived: bytes, told: str
) -> None:
    (found,) = explained(PLAIN, request(acme(signed), arrived)).findings

    assert found.startswith(f"it would verify {told}")


@pytest.mark.parametrize(
    ("signed", "arrived", "told"),
    [(b"a=x+y&b=%C3%A9", b"a=x%20y&b=%c3%a9", "+ for a space"), (b"a=x%20y", b"a=x+y", "%20 for a space")],
)
def test_a_form_that_was_encoded_anew_is_recognised(signed: bytes, arrived: bytes, told: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    (found,) = explained(PLAIN, request(acme(signed) | form, arrived)).findings

    assert found.startswith(f"it would verify if the form were encoded with {told}")


def test_a_compressed_body_is_recognised() -> None:
    headers = acme(BODY) | {"Content-Encoding": "gzip"}

    assert explained(PLAIN, request(headers, gzip.compress(BODY))).findings == (
        "it would verify if the body were not compressed (Content-Encoding)",
        "Content-Encoding is there: the body is compressed, which the gateway does not undo",
    )


def test_a_compressed_body_is_unpacked_up_to_the_limit_only() -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024))
    started = time.perf_counter()

    explained(PLAIN, request(acme(b"") | {"Content-Encoding": "gzip"}, bomb))

    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("signed", "message"),
    [
        ("{timestamp}.{body}", b"1750000000." + BODY),
        ("v0:{timestamp}:{body}", b"v0:1750000000:" + BODY),
        ("{url}{body}", b"https://h.example/webhooks/acme" + BODY),
        ("{body_sorted}", json.dumps(json.loads(BODY), sort_keys=True).encode()),
    ],
)
def test_another_signed_template_is_recognised(signed: str, message: bytes) -> None:
    verify = TIMED | {"signed": "{timestamp}{method}{body}"}
    headers = acme(message) | {"X-Acme-Time": "1750000000"}

    assert explained(verify, request(headers)).findings == (f'it would verify with `signed: "{signed}"`',)


def test_the_body_alone_is_recognised_where_a_timestamp_is_configured() -> None:
    headers = acme(BODY) | {"X-Acme-Time": "1750000000"}

    assert explained(TIMED, request(headers)).findings == ('it would verify with `signed: "{body}"`',)


@pytest.mark.parametrize(
    ("sent", "unit"), [("1750000000", ""), ("1750000000000", ", unit: ms")], ids=["s", "ms"]
)
def test_a_timestamp_that_the_config_does_not_know_is_recognised(sent: str, unit: str) -> None:
    headers = acme(f"{sent}.".encode() + BODY) | {"X-Acme-Timestamp": sent}
    told = f'`signed: "{{timestamp}}.{{body}}"` and `timestamp: {{header: X-Acme-Timestamp{unit}}}`'

    assert explained(PLAIN, request(headers)).findings == (f"it would verify with {told}",)


def test_two_things_that_are_configured_otherwise_are_recognised() -> None:
    key = b"0123456789abcdef"
    headers = {"X-Acme-Signature": "sha256=" + digest(BODY, key).hex()}

    found = explained(PLAIN, request(headers), base64.b64encode(key).decode())

    assert found.findings == ('it would verify with `key: base64` and `prefix: "sha256="`',)


URL = PLAIN | {"signed": "{url}{body}"}


@pytest.mark.parametrize(
    ("used", "headers"),
    [
        ("http://h.example", {}),
        ("https://h.example:443", {}),
        ("https://h.example:8080", {}),
        ("https://inner.example", {"Host": "inner.example"}),
        ("https://outer.example", {"X-Forwarded-Host": "outer.example"}),
        ("http://inner.example:9000", {"Host": "inner.example:9000"}),
    ],
)
def test_another_public_url_is_recognised(used: str, headers: dict[str, str]) -> None:
    signed = acme(f"{used}/webhooks/acme".encode() + BODY)

    found = explained(URL, request(signed | headers))

    assert found.findings == (f"it would verify with `public_url: {used}`",)


@pytest.mark.parametrize(
    ("path", "query", "told"),
    [
        ("/webhooks/acme/", "", "with a slash at the end of the path"),
        ("/webhooks/acme", "a=b", "without the query: it was added to the address, or is not signed"),
    ],
)
def test_another_address_is_recognised(path: str, query: str, told: str) -> None:
    signed = acme(b"https://h.example" + path.encode() + BODY)

    assert explained(URL, request(signed, query=query)).findings == (f"it would verify {told}",)


def test_a_header_that_is_there_twice_is_named() -> None:
    headers = [*acme(BODY).items(), ("x-acme-signature", "00"), ("X-Other", "1"), ("X-Other", "2")]

    assert explained(PLAIN, request(headers)).findings == (
        "X-Acme-Signature is there twice: something in front added one",
    )


def test_a_missing_header_is_named_with_one_like_it() -> None:
    found = explained(PLAIN, request({"X-Acme-Sig": "00", "X-Request-Id": "1", "User-Agent": "a"}))

    assert found.findings == (
        "X-Acme-Signature is not there",
        "X-Acme-Sig is there: is that the signature?",
    )


def test_a_known_providers_signature_is_recognised() -> None:
    found = explained(PLAIN, request({"Stripe-Signature": "t=1,v1=ab"}))

    assert "Stripe-Signature is there: that is how Stripe signs" in found.findings


def test_an_older_form_of_a_known_header_is_recognised() -> None:
    """GitHub, Meta and others send X-Hub-Signature beside X-Hub-Signature-256."""
    found = explained(PLAIN, request({"X-Hub-Signature": "sha1=00"}))

    assert any(finding.startswith("X-Hub-Signature is there: that is how ") for finding in found.findings)


def test_a_signature_header_without_a_value_is_told() -> None:
    assert "X-Acme-Signature is empty" in explained(PLAIN, request({"X-Acme-Signature": ""})).findings


def test_a_request_without_anything_like_a_signature_is_told() -> None:
    found = explained(PLAIN, request({"User-Agent": "scanner"}))

    assert found.findings[1].startswith("no header looks like a signature")


@pytest.mark.parametrize(
    ("verify", "told"),
    [
        ({"type": "hmac", "signature": {"body": "a.sig"}}, "there is no signature at a.sig of the body"),
        ({"type": "token", "query": "key"}, "there is no signature in the query parameter key"),
        ({"type": "token", "form": "key"}, "there is no signature in the form field key"),
        ({"type": "basic"}, "Authorization is not there"),
    ],
)
def test_a_missing_signature_outside_the_headers_is_told(verify: dict[str, Any], told: str) -> None:
    assert told in explained(verify, request({}), "user:a-long-enough-password").findings


def test_another_sources_secret_is_recognised_by_the_sources_name() -> None:
    shop = known("shop-eu", settings(PLAIN), "the-secret-of-another-source")
    headers = acme(BODY, "the-secret-of-another-source")

    found = explained(PLAIN, request(headers), others=(shop,))

    assert found.findings[0] == "it fits the secret of source shop-eu: are the secrets mixed up?"


def test_a_request_for_another_source_is_recognised() -> None:
    theirs = {"type": "hmac", "signature": {"header": "X-Shop-Sig"}}
    shop = known("shop", settings(theirs), "the-secret-of-another-source")
    headers = {"X-Shop-Sig": digest(BODY, "the-secret-of-another-source").hex()}

    found = explained(PLAIN, request(headers), others=(shop,))

    assert "it would verify as source shop: does its provider send to the wrong address?" in found.findings


def test_a_source_that_lets_everyone_in_explains_nothing() -> None:
    open_to_all = known("open", settings({"type": "none", "insecure": True}, secrets=0))

    assert not any("open" in told for told in explained(PLAIN, request({}), others=(open_to_all,)).findings)


def test_a_signature_of_the_wrong_length_is_told_with_what_it_could_be() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature"}}

    found = explained(verify, request({"X-Acme-Signature": "0" * 40}))

    assert found.findings[0] == "the signature has 40 characters, as sha1 in hex has; sha256 in hex has 64"


def test_a_signature_without_its_prefix_is_told() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "prefix": "sha256="}}

    found = explained(verify, request({"X-Acme-Signature": "0" * 64}))

    assert found.findings[0] == 'the signature does not start with `prefix: "sha256="`'


def test_an_empty_body_is_told() -> None:
    assert explained(PLAIN, request(acme(b"x"), b"")).findings[-1] == "the body is empty"


@pytest.mark.parametrize(("length", "told"), [(1, "1 byte more"), (-2, "2 bytes fewer")])
def test_a_body_of_another_length_than_announced_is_told(length: int, told: str) -> None:
    headers = acme(b"x") | {"Content-Length": str(len(BODY) - length)}

    assert f"the body has {told} than Content-Length says" in explained(PLAIN, request(headers)).findings


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({}, b"not JSON", "the body is no JSON"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", "the body is a form"),
        ({}, b'{"a": 1, "a": 2}', "a name occurs twice in the JSON of the body"),
    ],
)
def test_a_body_that_cannot_be_read_is_told(headers: dict[str, str], body: bytes, told: str) -> None:
    found = explained(PLAIN | {"signed": "{body_sorted}"}, request(acme(BODY) | headers, body))

    assert found.reason == "malformed_body"
    assert told in found.findings


def test_a_part_of_what_is_signed_that_is_not_there_is_named() -> None:
    found = explained(PLAIN | {"signed": "{header:X-Request-Id}{body}"}, request(acme(BODY)))

    assert found.findings == ("what is signed needs {header:X-Request-Id}, which is not there",)


def test_a_missing_public_url_is_named() -> None:
    found = explained(URL, request(acme(BODY), public_url=""))

    assert found.findings == ("what is signed needs {url}, server.public_url is not set",)


@pytest.mark.parametrize(
    ("configured", "sent", "told"),
    [("", "Bearer ", '`prefix: "Bearer "`'), ("Bearer ", "", "no `prefix`")],
)
def test_a_token_with_another_prefix_is_recognised(configured: str, sent: str, told: str) -> None:
    verify = {"type": "token", "header": "X-Token", "prefix": configured}

    found = explained(verify, request({"X-Token": sent + SECRET}))

    assert found.findings == (f"it would verify with {told}",)


def test_a_wrong_token_is_told() -> None:
    found = explained({"type": "token", "header": "X-Token"}, request({"X-Token": "wrong"}))

    assert found.findings[0].startswith("the secret does not fit the request")


@pytest.mark.parametrize(
    ("authorization", "told"),
    [
        ("Bearer abc", "Authorization holds no Basic credentials, but another kind"),
        ("Basic !!", "the Basic credentials are not base64"),
        ("Basic " + base64.b64encode(b"user").decode(), "the Basic credentials have no colon"),
        ("Basic " + base64.b64encode(b"user:x").decode(), "the user name is right, the password is not"),
        ("Basic " + base64.b64encode(b"other:x").decode(), "the user name is wrong"),
    ],
)
def test_wrong_basic_credentials_are_told_apart(authorization: str, told: str) -> None:
    found = explained({"type": "basic", "username": "user"}, request({"Authorization": authorization}))

    assert found.findings[0].startswith(told)


def test_an_address_that_is_not_allowed_is_named() -> None:
    verify = {"type": "allowlist", "networks": ("203.0.113.0/24",)}

    assert explained(verify, request({})).findings == (
        "the client's address 10.0.0.9 is in none of the networks",
        "that is an inner address: does server.trusted_proxies name the proxy in front?",
    )
    assert explained(verify, request({}, client="")).findings == ("the client's address is not known",)


ANY = {"type": "any", "of": (PLAIN, {"type": "hmac", "signature": {"header": "X-Old-Signature"}})}


def test_of_several_ways_the_one_whose_signature_is_there_is_explained() -> None:
    found = explained(ANY, request({"X-Old-Signature": digest(BODY, SECRET, "sha1").hex()}))

    assert found.findings == ("it would verify with `digest: sha1`",)


def test_of_several_ways_all_are_named_when_none_is_there() -> None:
    found = explained(ANY, request({}))

    assert found.findings[:2] == ("X-Acme-Signature is not there", "X-Old-Signature is not there")


def test_in_a_list_the_verifier_that_refuses_is_explained() -> None:
    second = {"type": "hmac", "digest": "sha512", "signature": {"header": "X-Second"}}

    found = explained([PLAIN, second], request(acme(BODY) | {"X-Second": digest(BODY).hex()}))

    assert found.findings == ("it would verify with `digest: sha256`",)


def test_the_items_of_a_batch_are_tried_with_changes_too() -> None:
    item = {"type": "hmac", "each": "items", "signature": {"body": "sig"}, "signed": "{body:id}"}
    body = json.dumps({"items": [{"id": "1", "sig": digest(b"1", name="sha1").hex()}]}).encode()

    assert explained(item, request({}, body)).findings == ("it would verify with `digest: sha1`",)


def test_the_source_that_has_no_secret_here_explains_what_it_can() -> None:
    config = settings(PLAIN)

    found = diagnose(request({}, b""), known("acme", config), [], NOW, "missing_signature")

    assert found == Diagnosis("missing_signature", ("the body is empty",))


def test_no_finding_holds_a_secret_a_signature_or_any_of_the_body() -> None:
    secret, body = "an-unmistakable-secret", b'{"unmistakable": "text-of-the-body"}'
    verifiers: list[dict[str, Any]] = [PLAIN, TIMED, URL, ANY, PLAIN | {"signed": "{body:absent}"}]
    for verify in verifiers:
        for signature in (digest(body, secret, "sha1").hex(), "sha256=feedfacefeedface", "v1,feedface"):
            headers = {"X-Acme-Signature": signature, "X-Acme-Time": "1", "X-Acme-Sig": signature}
            told = " ".join(explained(verify, request(headers, body), secret).findings)
            for text in ("unmistakable", "text-of-the-body", "feedface", signature[:16]):
                assert text not in told


HEADERS = st.sampled_from(["X-Acme-Signature", "X-Acme-Time", "Host", "Content-Type", "Authorization", "X-A"])
VERIFIERS = st.sampled_from(
    [
        *(PLAIN, TIMED, URL, ANY, PLAIN | {"signed": "{body:a.b}{header:X-A}"}),
        *({"type": "token", "header": "X-A"}, {"type": "basic"}, {"type": "token", "body": "a"}),
        {"type": "allowlist", "networks": ("10.0.0.0/8",)},
    ]
)


@given(
    verify=VERIFIERS,
    headers=st.lists(st.tuples(HEADERS, st.text(max_size=40)), max_size=5),
    body=st.binary(max_size=60) | st.just(b'{"a": {"b": 1e999}}') | st.just(b"[" * 100_000),
    reason=st.sampled_from(REASONS),
)
def test_whatever_arrives_a_diagnosis_is_made(
    verify: dict[str, Any], headers: list[tuple[str, str]], body: bytes, reason: Reason
) -> None:
    source = known("acme", settings(verify), SECRET + ":x")

    assert diagnose(request(headers, body), source, [source], NOW, reason).reason == reason


def test_a_long_body_is_diagnosed_within_bounds() -> None:
    """The work is a fixed number of variants, each about as long as verifying is."""
    body = json.dumps({"text": "x" * 1_000_000}).encode()
    started = time.perf_counter()

    explained(PLAIN, request(acme(b"another"), body), SECRET, SECRET + "2")

    assert time.perf_counter() - started < 10


PAIRED = {
    "type": "hmac",
    "signature": {"header": "X-Acme-Signature", "format": "pairs", "key": "v1"},
    "timestamp": {"pair": "t"},
    "signed": "{timestamp}.{body}",
}


def test_the_age_is_read_out_of_the_signatures_pairs_too() -> None:
    signature = digest(b"1749999188." + BODY).hex()

    found = explained(PAIRED, request({"X-Acme-Signature": f"t=1749999188,v1={signature}"}))

    assert found.signed_at == NOW - 812
    assert found.findings[1].startswith("without its age it would verify")


def test_several_numbered_signatures_are_tried_with_changes() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature-{n}"}}

    found = explained(verify, request({"X-Acme-Signature-1": digest(BODY, name="sha1").hex()}))

    assert found.findings == ("it would verify with `digest: sha1`",)


def test_what_only_looks_compressed_or_like_a_form_is_explained_all_the_same() -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}

    found = explained(PLAIN, request(acme(b"x") | headers, b"&".join([b"a=b"] * 2000)))

    assert found.findings[0].startswith("the secret does not fit the signature")


@pytest.mark.parametrize(
    ("verify", "headers", "reason", "told"),
    [
        (PLAIN, {}, "missing_signature", "X-Acme-Signature is not there"),
        (
            TIMED,
            [("X-Acme-Time", "1"), ("X-Acme-Time", "2")],
            "duplicate_header",
            "X-Acme-Time is there twice: something in front added one",
        ),
        (TIMED, {"X-Acme-Time": "1749999188"}, "stale_timestamp", "the timestamp is 812 s old"),
    ],
)
def test_without_its_body_a_request_is_explained_by_its_head(
    verify: dict[str, Any], headers: Any, reason: Reason, told: str
) -> None:
    found = diagnose_head(request(headers, b""), known("acme", settings(verify), SECRET), NOW, reason)

    assert found.findings[0] == told
    assert found.findings[-1].startswith("the body is too long to be kept")


ITEMWISE = PLAIN | {"signature": {"body": "proof"}, "signed": "{body:id}", "each": "items"}


def batch(*ids: str, secret: str = SECRET, forged: str = "") -> Request:
    items = [{"id": one, "proof": digest(one.encode(), secret).hex()} for one in ids]
    changed = [item | {"id": "other"} if item["id"] == forged else item for item in items]
    return request({}, json.dumps({"items": changed}).encode())


def test_the_forged_element_of_a_batch_is_named_and_the_secret_is_not_doubted() -> None:
    found = explained(ITEMWISE, batch(*"abcdefghij", forged="g"))
    assert found.findings == ("element 7 of 10 in items: wrong_signature; the secret fits the others",)


def test_a_batch_of_which_no_element_fits_points_at_the_secret() -> None:
    found = explained(ITEMWISE, batch("a", "b", secret="another-secret-of-16"))
    assert found.findings[0] == "all 2 elements in items: wrong_signature"
    assert found.findings[1].startswith("the secret does not fit the signature")


def test_a_batch_without_elements_is_told_as_one() -> None:
    assert "there is no element in items of the body" in explained(ITEMWISE, batch()).findings


def test_a_stale_element_is_told_with_its_age_and_the_time_to_verify_it_at() -> None:
    timed = ITEMWISE | {"timestamp": {"body": "at"}, "signed": "{timestamp}{body:id}"}
    at = int(NOW) - 812
    item = {"id": "a", "at": at, "proof": digest(f"{at}a".encode()).hex()}
    found = explained(timed, request({}, json.dumps({"items": [item]}).encode()))
    assert found.findings[0] == "the timestamp is 812 s old; up to 5m is let in"
    assert found.signed_at == at


def test_a_signed_header_that_is_missing_is_named_and_not_the_signature() -> None:
    signed = PLAIN | {"id": "{header:X-Acme-Id}", "signed": "{id}.{body}"}
    found = explained(signed, request(acme(b"1." + BODY)))
    assert found.findings == ("what is signed needs {header:X-Acme-Id}, which is not there",)


def test_the_secrets_of_an_asymmetric_scheme_are_called_public_keys() -> None:
    found = explained(
        {"type": "ed25519", "signature": {"header": "X-Acme-Signature"}},
        request({"X-Acme-Signature": "00" * 64}),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    )
    assert found.findings[-1].startswith("the public key does not fit the signature")
