"""A body that was changed in two ways is recognized, and no secret is blamed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import Secrets
from gatehouse.diagnosis.combined_bodies import combined_bodies
from gatehouse.diagnosis.diagnose import diagnose
from gatehouse.diagnosis.json_forms import Json
from gatehouse.diagnosis.known import known_source
from gatehouse.language.request import Request
from growth import growing

NOW = 1_750_000_000.0
SECRET = "s3cr3t-of-at-least-16-bytes"
#: What the provider signs: compact JSON with characters that serializers escape, and keys in no known order.
ORIGINAL = '{"type":"sale.créée","id":"evt_1","amount":45.50,"note":"a/b <c>","data":{"z":1,"a":[0.10,2]}}'


def asked(body: bytes, signed: bytes, secret: str = SECRET, **headers: str) -> Request:
    signature = hmac.new(secret.encode(), signed, "sha256").hexdigest()
    given = {"X-Sig": signature, "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return Request("POST", "/webhooks/acme", "", CIMultiDict(given), body, "https://h.example", "10.0.0.9")


def findings(request: Request) -> tuple[str, ...]:
    verify = {"type": "hmac", "signature": {"header": "X-Sig"}}
    config = SourceConfig.model_validate({"verify": verify, "event": {"type": "x"}, "secrets": "env:S"})
    source = known_source("acme", config, Secrets(Path(), {"S": SECRET}), 1024 * 1024)
    return diagnose(request, source, [source], NOW, "wrong_signature").findings


def relaid(text: str) -> str:
    """Change the layout of JSON, and keep its strings and numbers as they are written."""
    document = Json(text)
    return next(
        made() for layout, order, made in document.skeletons() if layout == "with 4 spaces of indentation"
    )(tuple(document.leaves))


def shorter(text: str) -> str:
    return text.replace("45.50", "45.5").replace("0.10", "0.1")


def escaped(text: str) -> str:
    return text.replace("é", "\\u00e9")


def slashed(text: str) -> str:
    return text.replace("a/b", "a\\/b")


def as_go(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def with_newline(text: str) -> str:
    return text + "\n"


#: What a proxy does to the text, and a word with which the finding names how to undo it.
REWRITES: dict[str, tuple[Callable[[str], str], str]] = {
    "layout": (relaid, "compact"),
    "numbers": (shorter, "decimals"),
    "ASCII": (escaped, "without escapes"),
    "newline": (with_newline, "without white space around it"),
}


@pytest.mark.case("F-52")
@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(REWRITES, 2)))
def test_each_pair_of_changes_is_named(first: str, second: str) -> None:
    (one, first_word), (two, second_word) = REWRITES[first], REWRITES[second]
    arrived = two(one(ORIGINAL)) if second == "newline" else one(two(ORIGINAL))
    assert arrived != ORIGINAL

    (found,) = findings(asked(arrived.encode(), ORIGINAL.encode()))

    assert found.startswith("The signature matches if the ")
    assert first_word in found
    assert second_word in found


@pytest.mark.case("F-52")
@pytest.mark.parametrize("name", [name for name in REWRITES if name != "ASCII"])
def test_each_change_is_named_together_with_latin_1(name: str) -> None:
    change, word = REWRITES[name]
    (found,) = findings(asked(change(ORIGINAL).encode("latin-1"), ORIGINAL.encode()))
    assert word in found
    assert "in UTF-8 instead of Latin-1" in found

    (found,) = findings(asked(change(ORIGINAL).encode(), ORIGINAL.encode("latin-1")))
    assert word in found
    assert "in Latin-1" in found


@pytest.mark.case("F-52")
@pytest.mark.parametrize("name", ["layout", "newline"])
def test_an_unknown_order_of_keys_is_found_together_with_another_change(name: str) -> None:
    order = ("note", "amount", "data", "type", "id")
    document = json.loads(ORIGINAL)
    signed = json.dumps({key: document[key] for key in order}, separators=(",", ":"), ensure_ascii=False)
    arrived = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    arrived = json.dumps(document, ensure_ascii=False, indent=4) if name == "layout" else f"{arrived}\n"

    (found,) = findings(asked(arrived.encode(), signed.encode()))

    assert "with its keys in another order" in found


@pytest.mark.case("F-52")
@pytest.mark.parametrize(
    ("signed", "arrived", "words"),
    [
        (slashed(escaped(ORIGINAL)), relaid(ORIGINAL), ("compact", "PHP")),
        (slashed(escaped(ORIGINAL)), shorter(ORIGINAL), ("PHP", "two decimals")),
        (as_go(ORIGINAL), relaid(ORIGINAL), ("compact", "Go")),
        (as_go(ORIGINAL), shorter(ORIGINAL), ("Go", "two decimals")),
        (relaid(escaped(ORIGINAL)), ORIGINAL, ("4 spaces of indentation", "escaped to ASCII")),
        ('{"b":"é","a":1.0}', '{"a": 1, "b": "é"}', ("keys in another order",)),
        ('{"a":"\\u00E9\\u003C","b":1}', '{"a": "é<", "b": 1}', (".NET", "compact")),
    ],
)
def test_pairs_of_changes_by_other_serializers_are_named(
    signed: str, arrived: str, words: tuple[str, ...]
) -> None:
    found = findings(asked(arrived.encode(), signed.encode()))

    if "keys in another order" in words:  # and 1 for 1.0: two changes and an order are not tried
        assert "Either the secret is wrong, or the body was changed on the way." in found[0]
        return
    assert len(found) == 1
    for word in words:
        assert word in found[0]


@pytest.mark.case("F-52")
def test_neither_the_secret_nor_the_body_is_blamed_without_proof() -> None:
    (found,) = findings(asked(ORIGINAL.encode(), ORIGINAL.encode(), "another-secret-of-16-bytes"))
    assert found.startswith("The signature does not match the secret `env:S`.")
    assert "Either the secret is wrong, or the body was changed on the way." in found


@pytest.mark.case("F-52")
def test_a_digest_of_the_body_shows_which_of_the_two_is_wrong() -> None:
    body = ORIGINAL.encode()
    own = base64.b64encode(hashlib.sha256(body).digest()).decode()
    wrong = asked(body, body, "another-secret-of-16-bytes", Content_Digest=f"sha-256=:{own}:")
    assert findings(wrong) == (
        "The body matches the digest in Content-Digest.",
        (
            "The signature does not match the secret `env:S`. Compare the secret with the one that the "
            "provider shows for this account and mode (test or live)."
        ),
    )
    changed = asked(body + b"  x", body, Content_Digest=f"sha-256=:{own}:")
    (found,) = findings(changed)
    assert found.startswith(
        "The body does not match the digest in Content-Digest. A proxy in front of Gatehouse"
    )


@pytest.mark.case("F-52")
@pytest.mark.parametrize(
    ("signed", "arrived", "words"),
    [
        (b"b=x+y&a=%2F", b"a=%2f&b=x%20y", ()),
        (b"a=%2F&b=x+y", b"b=x%20y&a=%2f", ("sorted fields", "+ for a space")),
        (b"a=%2f&b=x+y", b"a=%2F&b=x%20y", ("+ for a space", "lowercase letters")),
    ],
)
def test_a_form_that_was_encoded_again_in_two_ways_is_named(
    signed: bytes, arrived: bytes, words: tuple[str, ...]
) -> None:
    request = asked(arrived, signed, Content_Type="application/x-www-form-urlencoded")

    found = findings(request)[0]

    assert all(word in found for word in words)
    assert found.startswith("The signature matches if") == bool(words)


@pytest.mark.parametrize("size", [1_000, 30_000, 64_000, 900_000])
def test_the_work_is_limited_for_every_body(size: int) -> None:
    members = {f"key{index}": [index / 7, "é/<>", None] for index in range(size // 40)}
    body = json.dumps(members).encode()

    tried = list(combined_bodies(asked(body, b"another")))

    assert sum(len(one.request.body) for one in tried) <= 4_200_000
    assert len(tried) <= 2_500


def test_no_body_takes_longer_than_its_length_explains() -> None:
    for size in growing(30_000):
        members = {f"key{index}": [index / 7, "é/<>", None] for index in range(size // 40)}

        list(combined_bodies(asked(json.dumps(members).encode(), b"another")))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_every_form_of_a_json_text_has_the_same_value(value: object) -> None:
    document = Json(json.dumps(value))

    for _, _, made in document.skeletons():
        assert _same(json.loads(made()(tuple(document.leaves))), value)


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other) or one == other
    return one == other
