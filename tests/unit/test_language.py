"""Generated signature schemes: a signed request passes, and a changed one does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.base import Verification
from gatehouse.verify.build import build_verification

NOW = 1_750_000_000.0
RAW_KEY = b"0123456789abcdefghijklmn"
SECRETS = {
    "utf8": "s3cr3t-of-at-least-16-bytes",
    "hex": RAW_KEY.hex(),
    "base64": base64.b64encode(RAW_KEY).decode(),
    "whsec": "whsec_" + base64.b64encode(RAW_KEY).decode(),
    "sha1": "s3cr3t-of-at-least-16-bytes",
}


def verification(verify: Any, secret: str, event: dict[str, Any] | None = None) -> Verification:
    """Load a source as a user would write it."""
    source = {"verify": verify, "secrets": "env:S", "event": {"type": "x"} | (event or {})}
    text = json.dumps({"server": {"public_url": "https://in.example"}, "sources": {"it": source}})
    return build_verification(parse(text).config.sources["it"], Secrets(Path(), {"S": secret}))


def request(body: bytes, headers: Any = (), query: str = "") -> Request:
    return Request("POST", "/webhooks/it", query, CIMultiDict(headers), body, "https://in.example")


LITERAL = st.sampled_from([".", ":", "|", "v0:", "\n", "{{", "}}", "é"])
PLACEHOLDER = st.sampled_from(
    [
        "{method}",
        "{path}",
        "{url}",
        "{url_decoded}",
        "{query:q}",
        "{query:none?}",
        "{header:X-Id}",
        "{body:id}",
        "{body:none?}",
        "{body_name:a|id}",
        "{body_sorted}",
        "{timestamp}",
        "{id}",
    ]
)
SIGNED = st.lists(st.one_of(LITERAL, PLACEHOLDER), max_size=5).map(lambda parts: "".join([*parts, "{body}"]))
PLACES: list[dict[str, Any]] = [
    {"header": "X-Sig"},
    {"header": ["X-Sig", "X-Sig-Old"], "prefix": "sha256="},
    {"header": "X-Sig-{n}"},
    {"header": "X-Sig", "format": "pairs", "key": "v1"},
    {"header": "X-Sig", "format": "pairs", "key": "*", "between": "&", "assign": "|"},
    {"header": "X-Sig", "format": "list", "key": ["v1", "v2"]},
    {"header": "X-Sig", "format": "positional", "key": ["0", "1"], "prefix": "p"},
]


@st.composite
def schemes(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """Generate a signature scheme and the format of its secret."""
    key = draw(st.sampled_from(sorted(SECRETS)))
    place = draw(st.sampled_from(PLACES))
    timestamp = {
        "unit": draw(st.sampled_from(["s", "ms", "iso8601"])),
        "tolerance": draw(st.sampled_from(["5m", "none"])),
    }
    where = draw(st.sampled_from(["header", "query", "pair" if place.get("format") == "pairs" else "header"]))
    scheme = {
        "type": "hmac",
        "digest": draw(st.sampled_from(["sha1", "sha256", "sha512"])),
        "key": key,
        "signature": place | {"encoding": draw(st.sampled_from(["hex", "base64", "base64url"]))},
        "timestamp": timestamp | {where: "q-time" if where != "pair" else "t"},
        "id": "{header:X-Id}",
        "signed": draw(SIGNED),
    }
    return scheme, SECRETS[key]


@given(scheme=schemes(), value=st.text(st.characters(codec="utf-8"), max_size=20), data=st.data())
@settings(max_examples=300, deadline=None)
def test_every_scheme_that_loads_verifies_its_signature_and_refuses_a_changed_body(
    scheme: tuple[dict[str, Any], str], value: str, data: st.DataObject
) -> None:
    checked = verification(*scheme)
    body = json.dumps({"id": "e1", "value": value}).encode()
    signed = checked.sign(request(body, {"X-Id": "m1"}, "q=a%20b"), NOW)

    facts = checked.verify(signed, NOW).facts
    assert facts["id"] == b"m1"
    assert facts["signed"].endswith(body)

    position = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VerificationError):
        checked.verify(msgspec.structs.replace(signed, body=bytes(changed)), NOW)


@given(
    scheme=schemes(),
    body=st.binary(max_size=60),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["X-Sig", "X-Sig-Old", "X-Sig-1", "X-Sig-2", "X-Id", "q-time"]),
            st.text(max_size=40)
            | st.sampled_from(["t=1750000000,v1=", "v1,", "1750000000", "=|&,", "p" * 70]),
        ),
        max_size=6,
    ),
    query=st.text(max_size=20),
)
@settings(max_examples=500, deadline=None)
def test_no_input_makes_a_verifier_raise_anything_but_its_error(
    scheme: tuple[dict[str, Any], str], body: bytes, headers: list[tuple[str, str]], query: str
) -> None:
    with pytest.raises(VerificationError):
        verification(*scheme).verify(request(body, headers, query), NOW)


def hexdigest(message: bytes, digest: str = "sha256") -> str:
    return hmac.new(SECRETS["utf8"].encode(), message, digest).hexdigest()


def refused(checked: Verification, asked: Request) -> str:
    with pytest.raises(VerificationError) as caught:
        checked.verify(asked, NOW)
    return caught.value.reason


class TestPlaces:
    def test_numbered_headers_are_read_up_to_the_first_gap(self) -> None:
        checked = verification({"type": "hmac", "signature": {"header": "X-Sig-{n}"}}, SECRETS["utf8"])
        good = hexdigest(b"x")

        checked.verify(request(b"x", {"X-Sig-1": "0" * 64, "X-Sig-2": good}), NOW)
        assert refused(checked, request(b"x", {"X-Sig-2": good})) == "missing_signature"
        assert refused(checked, request(b"x", {"X-Sig-1": "0" * 64, "X-Sig-3": good})) == "wrong_signature"

    def test_positional_entries_are_named_by_their_position(self) -> None:
        scheme = {
            "type": "hmac",
            "signature": {"header": "X-Sig", "format": "positional", "key": ["1", "2"]},
            "timestamp": {"pair": "0"},
            "signed": "{timestamp}.{body}",
        }
        checked = verification(scheme, SECRETS["utf8"])
        good = hexdigest(b"1750000000.x")

        checked.verify(request(b"x", {"X-Sig": f"1750000000,{'0' * 64},{good}"}), NOW)
        assert refused(checked, request(b"x", {"X-Sig": f"{good},1750000000"})) == "malformed_timestamp"
        assert refused(checked, request(b"x", {"X-Sig": f"1750000001,{good}"})) == "wrong_signature"

    def test_form_fields_may_contain_the_signature_and_the_signed_text(self) -> None:
        place = {"form": "bt_signature", "format": "pairs", "key": "*", "between": "&", "assign": "|"}
        scheme = {"type": "hmac", "digest": "sha1", "signature": place, "signed": "{form:data}"}
        checked = verification(scheme, SECRETS["utf8"])
        form = urlencode({"bt_signature": f"pub|{hexdigest(b'data', 'sha1')}&old|x", "data": "data"}).encode()

        headers = {"Content-Type": "application/x-www-form-urlencoded"}

        checked.verify(request(form, headers), NOW)
        changed = request(form.replace(b"data=data", b"data=datb"), headers)
        assert refused(checked, changed) == "wrong_signature"
        assert refused(checked, request(form)) == "missing_signature"

    def test_the_body_may_contain_the_signature_and_the_timestamp(self) -> None:
        scheme = {
            "type": "hmac",
            "signature": {"body": "signature.value"},
            "timestamp": {"body": "signature.at"},
            "signed": "{timestamp}{body:signature.token}",
        }
        checked = verification(scheme, SECRETS["utf8"])
        body = b'{"amount": 45.50, "signature": {"at": 1750000000, "token": "abc", "value": ""}}'
        signed = checked.sign(request(body), NOW)

        checked.verify(signed, NOW)
        assert b'"amount": 45.50' in signed.body
        assert b'"at": 1750000000' in signed.body

    def test_base64url_is_read_with_padding_and_without(self) -> None:
        scheme = {"type": "hmac", "signature": {"header": "X-Sig", "encoding": "base64url"}}
        checked = verification(scheme, SECRETS["utf8"])
        written = base64.urlsafe_b64encode(hmac.digest(SECRETS["utf8"].encode(), b"x", "sha256")).decode()

        checked.verify(request(b"x", {"X-Sig": written}), NOW)
        checked.verify(request(b"x", {"X-Sig": written.rstrip("=")}), NOW)

    def test_braintree_hashes_the_key_before_its_use(self) -> None:
        scheme = {"type": "hmac", "digest": "sha1", "key": "sha1", "signature": {"header": "X-Sig"}}
        key = hashlib.sha1(SECRETS["sha1"].encode()).digest()  # noqa: S324 - the scheme's own

        verification(scheme, SECRETS["sha1"]).verify(
            request(b"x", {"X-Sig": hmac.new(key, b"x", "sha1").hexdigest()}), NOW
        )


class TestEach:
    """Every element of a list has its own signature, and every signature must pass."""

    SCHEME: ClassVar = {
        "type": "hmac",
        "signature": {"body": "sig"},
        "signed": "{body:id}",
        "each": "items",
    }

    def checked(self) -> Verification:
        return verification(self.SCHEME, SECRETS["utf8"], {"split": "{body:items}"})

    def body(self, *ids: str) -> dict[str, Any]:
        return {"items": [{"id": one, "sig": hexdigest(one.encode())} for one in ids]}

    def test_a_list_of_valid_items_passes(self) -> None:
        self.checked().verify(request(json.dumps(self.body("a", "b", "c")).encode()), NOW)

    @pytest.mark.parametrize("position", range(10))
    def test_one_forged_item_among_ten_refuses_the_request(self, position: int) -> None:
        body = self.body(*"abcdefghij")
        body["items"][position]["id"] = "forged"

        assert refused(self.checked(), request(json.dumps(body).encode())) == "wrong_signature"

    def test_an_empty_or_missing_list_is_refused(self) -> None:
        assert refused(self.checked(), request(b'{"items": []}')) == "missing_signature"
        assert refused(self.checked(), request(b"{}")) == "missing_signature"

    def test_a_repeated_list_is_refused(self) -> None:
        good = json.dumps(self.body("a"))[1:-1]

        assert refused(self.checked(), request(f'{{"items": [], {good}}}'.encode())) == "malformed_body"

    def test_a_signed_request_verifies(self) -> None:
        signed = self.checked().sign(request(b'{"items": [{"id": "a"}, {"id": "b", "n": 1.50}]}'), NOW)

        self.checked().verify(signed, NOW)
        assert b'"n": 1.50' in signed.body


class TestAny:
    """Two sets of headers that cannot be mixed."""

    @staticmethod
    def family(name: str) -> dict[str, Any]:
        return {
            "type": "hmac",
            "signature": {"header": f"{name}-signature", "format": "list", "key": "v1"},
            "timestamp": {"header": f"{name}-timestamp"},
            "id": f"{{header:{name}-id}}",
            "signed": "{id}.{timestamp}.{body}",
        }

    def checked(self) -> Verification:
        return verification(
            {"type": "any", "of": [self.family("svix"), self.family("webhook")]}, SECRETS["utf8"]
        )

    def headers(self, name: str, event_id: str = "m1") -> dict[str, str]:
        signature = hexdigest(f"{event_id}.1750000000.x".encode())
        return {
            f"{name}-id": event_id,
            f"{name}-timestamp": "1750000000",
            f"{name}-signature": f"v1,{signature}",
        }

    @pytest.mark.parametrize("name", ["svix", "webhook"])
    def test_either_set_of_headers_passes(self, name: str) -> None:
        assert self.checked().verify(request(b"x", self.headers(name)), NOW).facts["id"] == b"m1"

    @pytest.mark.parametrize("missing", ["id", "timestamp"])
    def test_a_header_missing_in_one_set_is_not_read_from_the_other(self, missing: str) -> None:
        headers = self.headers("svix")
        headers[f"webhook-{missing}"] = headers.pop(f"svix-{missing}")

        refused(self.checked(), request(b"x", headers))

    def test_the_id_is_read_from_the_verified_set(self) -> None:
        headers = self.headers("webhook") | {"svix-id": "made-up", "svix-timestamp": "1750000000"}

        assert self.checked().verify(request(b"x", headers), NOW).facts["id"] == b"m1"

    def test_after_a_wrong_first_signature_only_values_of_the_second_set_are_used(self) -> None:
        headers = self.headers("webhook") | self.headers("svix", "m2") | {"svix-id": "m3"}

        assert self.checked().verify(request(b"x", headers), NOW).facts["id"] == b"m1"


class TestAllowlist:
    SCHEME: ClassVar = {"type": "allowlist", "networks": ["192.0.2.0/24", "2001:db8::/32"]}

    @pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7"])
    def test_an_address_of_the_networks_passes(self, client: str) -> None:
        asked = msgspec.structs.replace(request(b"x"), client=client)

        verification(self.SCHEME, "").verify(asked, NOW)

    @pytest.mark.parametrize(
        "client", ["192.0.3.7", "", "not an address", "2001:db9::1", "192.0.2.7, 1.1.1.1"]
    )
    def test_any_other_address_is_refused(self, client: str) -> None:
        asked = msgspec.structs.replace(request(b"x"), client=client)

        assert refused(verification(self.SCHEME, ""), asked) == "wrong_credentials"


class TestTokens:
    @pytest.mark.parametrize(
        "scheme",
        [
            {"type": "token", "header": "Authorization", "prefix": "Bearer "},
            {"type": "token", "query": "code"},
            {"type": "token", "body": "clientState"},
            {"type": "token", "body": "clientState", "each": "value"},
        ],
    )
    def test_a_signed_request_verifies_and_another_token_does_not(self, scheme: dict[str, Any]) -> None:
        split = {"split": "{body:value}"} if "each" in scheme else {}
        checked = verification(scheme, SECRETS["utf8"], split)
        asked = request(b'{"value": [{"id": 1}, {"id": 2}]}')

        checked.verify(checked.sign(asked, NOW), NOW)
        other = verification(scheme, "another-secret-0123456789", split).sign(asked, NOW)
        assert refused(checked, other) == "wrong_credentials"

    def test_one_element_without_the_token_refuses_the_request(self) -> None:
        scheme = {"type": "token", "body": "clientState", "each": "value"}
        checked = verification(scheme, SECRETS["utf8"], {"split": "{body:value}"})
        body = {"value": [{"clientState": SECRETS["utf8"]}, {"id": 2}]}

        assert refused(checked, request(json.dumps(body).encode())) == "missing_signature"
