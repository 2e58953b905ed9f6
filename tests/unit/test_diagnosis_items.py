"""The refused elements of a batch are named."""

from __future__ import annotations

import json

from gatehouse.language.request import Request
from refusals import NOW, PLAIN, SECRET, changed, digest, explained, request


def test_the_elements_of_a_batch_are_tried_with_changes() -> None:
    item = {"type": "hmac", "each": "items", "signature": {"body": "sig"}, "signed": "{body:id}"}
    body = json.dumps({"items": [{"id": "1", "sig": digest(b"1", name="sha1").hex()}]}).encode()

    assert explained(item, request({}, body)).findings == (changed("`digest: sha1`", "`digest: sha256`"),)


ITEMWISE = PLAIN | {"signature": {"body": "proof"}, "signed": "{body:id}", "each": "items"}


def batch(*ids: str, secret: str = SECRET, forged: str = "") -> Request:
    items = [{"id": one, "proof": digest(one.encode(), secret).hex()} for one in ids]
    changed = [item | {"id": "other"} if item["id"] == forged else item for item in items]
    return request({}, json.dumps({"items": changed}).encode())


def test_a_forged_element_of_a_batch_is_named_and_the_secret_is_not_blamed() -> None:
    found = explained(ITEMWISE, batch(*"abcdefghij", forged="g"))
    assert found.findings == (
        (
            "Element 7 of 10 in `items` was refused: wrong_signature. The other elements verify, so the "
            "secret is right."
        ),
    )


def test_a_batch_with_no_valid_element_is_blamed_on_the_secret() -> None:
    found = explained(ITEMWISE, batch("a", "b", secret="another-secret-of-16"))
    assert found.findings[0] == "All 2 elements in `items` were refused: wrong_signature."
    assert found.findings[1].startswith("The signature does not match the secret `env:S0`.")


def test_a_batch_without_elements_is_reported() -> None:
    told = "The body has no elements in `items`. Check `each` in `sources.acme.verify`."
    assert told in explained(ITEMWISE, batch()).findings


def test_a_stale_element_is_reported_with_its_age_and_its_signed_time() -> None:
    timed = ITEMWISE | {"timestamp": {"body": "at"}, "signed": "{timestamp}{body:id}"}
    at = int(NOW) - 812
    item = {"id": "a", "at": at, "proof": digest(f"{at}a".encode()).hex()}
    found = explained(timed, request({}, json.dumps({"items": [item]}).encode()))
    assert found.findings[0] == "The timestamp is 812 s old; the limit is 5m."
    assert found.signed_at == at
