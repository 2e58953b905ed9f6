"""Attacks on a signature without knowledge of the secret: all are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from doubles.keys import ed25519_key, pem, raw
from gatehouse.config.model import HmacConfig, VerifierConfig
from gatehouse.config.sources import SourceConfig
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.base import Verification
from gatehouse.verify.build import build_verifier
from gatehouse.verify.hmac import HmacScheme
from verifying import NOW, refusal_reason, request, verification

SECRET = "s3cr3t-of-at-least-16-bytes"
WHSEC = "whsec_" + base64.b64encode(b"a key of twenty-four byte").decode()
FORM = "application/x-www-form-urlencoded"
ENCODED = {"type": "hmac", "signature": {"header": "X-Sig"}}
PAIRS = {
    "type": "hmac",
    "signature": {"header": "X-Sig", "format": "pairs", "key": "v1"},
    "timestamp": {"pair": "t"},
    "signed": "{timestamp}.{body}",
}
LIST = {
    "type": "hmac",
    "key": "whsec",
    "signature": {"header": "X-Sig", "format": "list", "key": "v1", "encoding": "base64"},
    "timestamp": {"header": "X-Time"},
    "id": "{header:X-Id}",
    "signed": "{id}.{timestamp}.{body}",
}
#: Each scheme with a signature or credentials in a header: the header, the verifier and its secret.
SCHEMES: dict[str, tuple[str, dict[str, Any], str]] = {
    "plain": ("X-Sig", ENCODED, SECRET),
    "prefixed": ("X-Sig", ENCODED | {"signature": {"header": "X-Sig", "prefix": "sha256="}}, SECRET),
    "base64": ("X-Sig", ENCODED | {"signature": {"header": "X-Sig", "encoding": "base64"}}, SECRET),
    "pairs": ("X-Sig", PAIRS, SECRET),
    "list": ("X-Sig", LIST, WHSEC),
    "token": ("X-Token", {"type": "token", "header": "X-Token"}, SECRET),
    "bearer": ("Authorization", {"type": "token", "header": "Authorization", "prefix": "Bearer "}, SECRET),
    "basic": ("Authorization", {"type": "basic"}, "user:a-long-enough-password"),
    "twilio": ("X-Twilio-Signature", {"type": "twilio"}, SECRET),
    "jwt": (
        "Authorization",
        {"type": "jwt", "algorithm": "HS256", "header": "Authorization", "prefix": "Bearer "},
        SECRET,
    ),
}
each_scheme = pytest.mark.parametrize("name", SCHEMES)


def genuine(name: str) -> tuple[Verification, Request, str]:
    """Return a verification, a request that passes it, and the header with the signature or credentials."""
    header, scheme, secret = SCHEMES[name]
    checked = verification(scheme, secrets=(secret,))
    signed = checked.sign(request(b"a=1&b=2", {"X-Id": "m1", "Content-Type": FORM}), NOW)
    checked.verify(signed, NOW)
    return checked, signed, header


def with_values(asked: Request, name: str, *values: str) -> Request:
    """Return the request with these values of one header."""
    headers = CIMultiDict((known, value) for known, value in asked.headers.items() if known != name)
    for value in values:
        headers.add(name, value)
    return msgspec.structs.replace(asked, headers=headers)


@pytest.mark.case("S-03")
@each_scheme
def test_a_truncated_or_extended_signature_is_refused(name: str) -> None:
    checked, signed, header = genuine(name)
    right = signed.headers[header]

    for end in range(len(right)):
        refusal_reason(checked, with_values(signed, header, right[:end]))
    for more in ("0", "=", "a", "%00", "\x00", ".", "=" * 4):
        refusal_reason(checked, with_values(signed, header, right + more))


@pytest.mark.case("S-03")
@pytest.mark.parametrize("name", ["list", "pairs", "prefixed"])
@pytest.mark.parametrize(
    "value", ["v1,", "v1", "v1=", "v1=,", "sha256=", ",", "=", "t=1750000000,v1=", "v1, v1,"]
)
def test_a_key_without_a_signature_is_refused(name: str, value: str) -> None:
    checked, signed, header = genuine(name)

    refusal_reason(checked, with_values(signed, header, value))


@pytest.mark.case("S-05")
@each_scheme
@pytest.mark.parametrize("values", [(), ("",), (" ",), ("   \t",)])
def test_a_missing_or_blank_signature_is_refused(name: str, values: tuple[str, ...]) -> None:
    checked, signed, header = genuine(name)

    reason = refusal_reason(checked, with_values(signed, header, *values))

    assert reason in ("missing_signature", "malformed_signature", "wrong_credentials")
    assert values or reason == "missing_signature"


@pytest.mark.case("S-07")
@each_scheme
@pytest.mark.parametrize("order", ["good bad", "bad good", "good good"])
def test_a_repeated_signature_is_refused(name: str, order: str) -> None:
    checked, signed, header = genuine(name)
    values = {"good": signed.headers[header], "bad": "x" * len(signed.headers[header])}

    asked = with_values(signed, header, *(values[each] for each in order.split()))
    assert refusal_reason(checked, asked) == "duplicate_header"


@pytest.mark.case("S-07")
@pytest.mark.parametrize("header", ["X-Time", "X-Id"])
@pytest.mark.parametrize("order", ["good bad", "bad good", "good good"])
def test_a_repeated_signed_timestamp_or_id_is_refused(header: str, order: str) -> None:
    checked, signed, _ = genuine("list")
    values = {"good": signed.headers[header], "bad": "1750000001"}

    refusal_reason(checked, with_values(signed, header, *(values[each] for each in order.split())))


def odd_value(dice: random.Random) -> str:
    """Return a header value of random bytes that the HTTP parser accepts."""
    length = dice.choice((1, 10, 28, 44, 64, 71, 200))
    alphabet = dice.choice((bytes(range(1, 256)), b"0123456789abcdef", b"v1=,t.+/ Basic\xe9\xff\xed\xa0\x80"))
    allowed = [byte for byte in alphabet if byte not in b"\r\n\0"]
    return bytes(dice.choices(allowed, k=length)).decode("utf-8", "surrogateescape")


@pytest.mark.case("S-06")
def test_ten_thousand_odd_headers_raise_only_verification_errors() -> None:
    dice = random.Random(6)  # noqa: S311 - the same headers each time
    targets = [genuine(name) for name in SCHEMES]

    for _ in range(10_000):
        checked, signed, header = dice.choice(targets)
        with pytest.raises(VerificationError):
            checked.verify(with_values(signed, header, odd_value(dice)), NOW)


@pytest.mark.case("S-06")
@each_scheme
@pytest.mark.parametrize(
    "value", ["é", "\udce9\udcff", "\udced\udca0\udc80", "x" * 8192, "\x01\x1b[31m\x7f", "☃" * 64]
)
def test_a_signature_that_is_not_text_is_refused(name: str, value: str) -> None:
    checked, signed, header = genuine(name)
    right = signed.headers[header]

    for spoilt in (value, value + right, right + value, right[:-1] + value[0]):
        refusal_reason(checked, with_values(signed, header, spoilt))


def mac(encoding: str) -> str:
    made = hmac.digest(SECRET.encode(), b"x", "sha256")
    return {
        "hex": made.hex(),
        "base64": base64.b64encode(made).decode(),
        "base64url": base64.urlsafe_b64encode(made).decode(),
    }[encoding]


def pick(text: str, index: int, step: int) -> str:
    """Return the text with another character of the alphabet at this index."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(text[index].replace("-", "+").replace("_", "/")) ^ step]
    return text[:index] + other + text[index + 1 :]


SPELLINGS: list[tuple[str, Callable[[str], str]]] = [
    ("hex", str.upper),
    ("hex", lambda right: "0x" + right),
    ("hex", lambda right: right[:2] + " " + right[2:]),
    ("hex", lambda right: " ".join(right[at : at + 2] for at in range(0, len(right), 2))),
    ("hex", lambda right: right[:-1] + chr(ord(right[-1]) + 0xFEE0)),  # full-width
    ("hex", lambda _: mac("base64")),
    ("base64", lambda right: right.rstrip("=")),
    ("base64", lambda right: right + "="),
    ("base64", lambda right: right[:10] + "\n" + right[10:]),
    ("base64", lambda right: right[:10] + "!" + right[10:]),
    ("base64", lambda right: right[:10] + " " + right[10:]),
    ("base64", lambda right: pick(right, -2, 1)),  # decodes to the same bytes
    ("base64", lambda right: right.replace("+", "-").replace("/", "_")),
    ("base64", lambda _: mac("hex")),
    ("base64url", lambda right: pick(right, -2, 1)),
    ("base64url", lambda right: right.replace("-", "+").replace("_", "/")),
    ("base64url", lambda right: right[:10] + "=" + right[10:]),
    ("base64url", lambda right: "=" + right),
]


@pytest.mark.case("S-08")
@pytest.mark.parametrize(("encoding", "spell"), SPELLINGS)
def test_a_signature_passes_in_only_one_form(encoding: str, spell: Callable[[str], str]) -> None:
    """The MAC of `x` has both characters in which the alphabets of base64 differ."""
    checked = verification(
        ENCODED | {"signature": {"header": "X-Sig", "encoding": encoding}}, secrets=(SECRET,)
    )
    right = mac(encoding)
    other = spell(right)
    checked.verify(request(b"x", {"X-Sig": right}), NOW)

    assert other != right
    assert refusal_reason(checked, request(b"x", {"X-Sig": other})) in (
        "malformed_signature",
        "wrong_signature",
    )


AT = 1_750_000_000


def arabic(number: int) -> str:
    """Format a number in digits that `int()` accepts but no provider sends."""
    return "".join(chr(ord("\N{ARABIC-INDIC DIGIT ZERO}") + int(digit)) for digit in str(number))


#: Texts that `int()`, `float()` and `fromisoformat()` would accept, or that no clock shows.
NO_TIMES = {
    "s": [
        *("nan", "inf", "-inf", "1e10", "-1", "+1", f" {AT}", f"{AT} ", "1_0", f"{AT}\n", "9" * 400, ""),
        *(arabic(AT), f"{AT}.0", f"{AT * 1000}", "0x684eab80", "None", "\udcff"),
    ],
    "ms": ["nan", "1e13", f"+{AT}000", f"{AT}_000", f"{AT}000\n", "9" * 400, arabic(AT * 1000), ""],
    "iso8601": [
        *(
            "2025-06-15",
            "20250615T150640Z",
            "2025-06-15T15:06:40Z\n",
            arabic(2025) + "-06-15T15:06:40Z",
            str(AT),
            "",
        ),
        *("2025-W24-7T15:06:40Z", "2025-06-15T24:06:40Z", "2025-06-15T15:06:40+99:99", "now"),
    ],
}


def timed(unit: str, text: str) -> tuple[Verification, Request]:
    """Sign correctly with this timestamp in a separate header."""
    scheme = ENCODED | {"timestamp": {"header": "X-Time", "unit": unit}, "signed": "{timestamp}.{body}"}
    signed = text.encode("utf-8", "surrogateescape") + b".x"
    signature = hmac.new(SECRET.encode(), signed, "sha256").hexdigest()
    return verification(scheme, secrets=(SECRET,)), request(b"x", {"X-Time": text, "X-Sig": signature})


@pytest.mark.case("S-09")
@pytest.mark.parametrize(
    ("unit", "text"), [(unit, text) for unit, texts in NO_TIMES.items() for text in texts]
)
def test_a_signed_but_malformed_timestamp_is_refused(unit: str, text: str) -> None:
    assert refusal_reason(*timed(unit, text)) == "malformed_timestamp"


@pytest.mark.case("S-09")
@pytest.mark.parametrize(
    ("age", "reason"), [(299, None), (-299, None), (301, "stale_timestamp"), (-301, "future_timestamp")]
)
@pytest.mark.parametrize("unit", ["s", "ms", "iso8601"])
def test_five_minutes_of_tolerance_on_either_side_pass(unit: str, age: int, reason: str | None) -> None:
    at = AT - age
    minutes, seconds = divmod(at - 1_749_999_600, 60)  # 15:00:00 that day
    texts = {"s": f"{at}", "ms": f"{at}000", "iso8601": f"2025-06-15T15:{minutes:02}:{seconds:02}Z"}
    checked, asked = timed(unit, texts[unit])

    if reason is None:
        checked.verify(asked, AT)
    else:
        assert refusal_reason(checked, asked, AT) == reason


@pytest.mark.case("S-12")
def test_a_public_key_is_not_accepted_as_an_hmac_key() -> None:
    key = ed25519_key().public_key()
    signature = {"header": "X-Sig", "format": "list", "key": "v1a", "encoding": "base64"}
    checked = verification({"type": "ed25519", "key": "pem", "signature": signature}, secrets=(pem(key),))
    genuine = base64.b64encode(ed25519_key().sign(b"x")).decode()
    checked.verify(request(b"x", {"X-Sig": f"v1a,{genuine}"}), NOW)

    for known in (raw(key), pem(key).encode(), pem(key).strip().encode()):
        for digest in ("sha256", "sha512"):
            forged = base64.b64encode(hmac.digest(known, b"x", digest)).decode()
            for name in ("v1a", "v1"):
                assert refusal_reason(checked, request(b"x", {"X-Sig": f"{name},{forged}"})) in (
                    "malformed_signature",
                    "wrong_signature",
                )


@pytest.mark.case("S-12")
@pytest.mark.parametrize("other", ["v0", "v1a", "v2", "V1", "v11", "", "v"])
@pytest.mark.parametrize("name", ["list", "pairs"])
def test_a_signature_of_another_version_is_ignored(name: str, other: str) -> None:
    checked, signed, header = genuine(name)
    right = signed.headers[header]
    renamed = right.replace("v1", other)
    wrong = right[:-8] + "AAAAAAAA"

    assert refusal_reason(checked, with_values(signed, header, renamed)) == "malformed_signature"
    beside = {"list": f"{renamed} {wrong}", "pairs": f"{renamed},{wrong.partition(',')[2]}"}
    assert refusal_reason(checked, with_values(signed, header, beside[name])) == "wrong_signature"


@pytest.mark.case("S-13")
def test_only_ten_of_a_hundred_signatures_are_checked() -> None:
    checked, signed, header = genuine("list")
    right, wrong = signed.headers[header], "v1," + base64.b64encode(bytes(32)).decode()

    checked.verify(with_values(signed, header, " ".join([wrong] * 9 + [right] + [wrong] * 90)), NOW)
    for before in (10, 99):
        late = " ".join([wrong] * before + [right])
        assert refusal_reason(checked, with_values(signed, header, late)) == "wrong_signature"


@pytest.mark.case("S-15")
@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"\r\n", b"\n"),
        lambda body: body.replace(b"\r\n", b"\r\n\r\n"),
        lambda body: body.replace(b": ", b":"),
        lambda body: msgspec.json.encode(msgspec.json.decode(body)),
        lambda body: msgspec.json.format(body, indent=2),
        lambda body: body + b"\n",
        lambda body: b"\xef\xbb\xbf" + body,
        lambda body: body.replace("é".encode(), b"\\u00e9"),
        lambda body: body.replace(b"1.50", b"1.5"),
        lambda body: body[:-1],
        lambda _: b"",
    ],
)
@pytest.mark.parametrize("name", ["plain", "prefixed", "base64", "pairs", "list"])
def test_an_equivalent_body_with_other_bytes_is_refused(name: str, change: Callable[[bytes], bytes]) -> None:
    body = '{"a": 1.50,\r\n "b": "é"}'.encode()
    header, scheme, secret = SCHEMES[name]
    checked = verification(scheme, secrets=(secret,))
    signed = checked.sign(request(body, {"X-Id": "m1"}), NOW)
    checked.verify(signed, NOW)

    assert change(body) != body
    assert refusal_reason(checked, msgspec.structs.replace(signed, body=change(body))) == "wrong_signature"
    assert header in signed.headers


#: Every scheme with secrets, with the other settings that it needs.
KEYED: list[dict[str, Any]] = [
    *(ENCODED | {"key": key} for key in ("utf8", "hex", "base64", "whsec", "sha1")),
    {"type": "token", "header": "X-Token"},
    {"type": "token", "header": "X-Token", "prefix": "Bearer "},
    *({"type": "basic"} | username for username in ({}, {"username": "user"})),
    {"type": "twilio"},
    {"type": "jwt", "algorithm": "HS256", "header": "X-Token"},
    {"type": "jwt", "algorithm": "HS256", "header": "X-Token", "key": "base64"},
    {"type": "jwt", "algorithm": "RS256", "header": "X-Token", "key": "pem"},
    *({"type": kind, "signature": {"header": "X-Sig"}} for kind in ("ed25519", "ecdsa", "rsa")),
    {"type": "ebay"},
]


@pytest.mark.case("S-01")
@pytest.mark.parametrize("secrets", [[], [b""], [b"a-good-secret-of-16-bytes", b""]])
@pytest.mark.parametrize("scheme", KEYED, ids=lambda scheme: f"{scheme['type']} {scheme.get('key', '')}")
def test_no_verifier_is_built_with_an_empty_key(scheme: dict[str, Any], secrets: list[bytes]) -> None:
    """Even at the lowest layer, below the checks of the config."""
    settings = {"verify": scheme, "event": {"type": "x"}, "secrets": "env:S"}
    (entry,) = SourceConfig.model_validate(settings).verify
    assert isinstance(entry, VerifierConfig)

    with pytest.raises(ValueError):  # noqa: PT011 - each scheme has its own text
        build_verifier(entry, secrets)


@pytest.mark.case("S-01")
@pytest.mark.parametrize(("key", "secret"), [("whsec", b"whsec_"), ("base64", b"===="), ("hex", b"")])
def test_a_secret_that_decodes_to_an_empty_key_is_an_error(key: str, secret: bytes) -> None:
    config = HmacConfig.model_validate(ENCODED | {"key": key})

    with pytest.raises(ValueError):  # noqa: PT011 - as above
        HmacScheme(config, [secret])


@pytest.mark.case("S-01")
def test_a_signature_with_an_empty_key_is_refused() -> None:
    checked, signed, header = genuine("plain")
    for key in (b"", b"\0", b" ", b"None"):
        forged = hmac.new(key, signed.body, hashlib.sha256).hexdigest()
        assert refusal_reason(checked, with_values(signed, header, forged)) == "wrong_signature"
