"""Every preset against its vectors: what verifies, what comes out, and that no signed part can be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from gatehouse import providers
from gatehouse.config.load import parse
from gatehouse.config.model import HmacConfig, SourceConfig
from gatehouse.errors import VerificationError
from gatehouse.event import EventReader
from gatehouse.secrets import Secrets
from gatehouse.verify.base import Request, Verification
from gatehouse.verify.build import build_verification

VECTORS = {
    file.stem: json.loads(file.read_text()) for file in Path(__file__).parent.parent.glob("vectors/*.json")
}


def source(preset: str, extra: str = "") -> SourceConfig:
    """Configure a source as a user would: the preset's name and a secret."""
    return parse(f"sources: {{s: {{provider: {preset}, secrets: [env:S0], {extra}}}}}").config.sources["s"]


def built(vector: dict[str, Any], **changes: Any) -> tuple[Verification, Request]:
    secrets = {f"S{index}": secret for index, secret in enumerate(vector["secrets"])}
    request = Request(
        method="POST",
        path="/webhooks/s",
        query="",
        headers=CIMultiDict(changes.get("headers", vector["headers"])),
        body=changes.get("body", vector["body"].encode()),
    )
    return build_verification(source(vector["preset"]), Secrets(Path(), secrets)), request


@pytest.fixture(params=sorted(VECTORS))
def vector(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give each vector in turn."""
    found: dict[str, Any] = VECTORS[request.param]
    return found


def test_every_preset_has_a_vector() -> None:
    assert {vector["preset"] for vector in VECTORS.values()} == set(providers.names())


def test_the_vector_verifies(vector: dict[str, Any]) -> None:
    verification, request = built(vector)

    verification.verify(request, vector["now"])


def test_the_event_is_what_the_provider_said(vector: dict[str, Any]) -> None:
    verification, request = built(vector)
    reader = EventReader("s", "/webhooks/s", source(vector["preset"]), provider=vector["preset"])
    ((event, keys),) = reader.read(verification.verify(request, vector["now"]), vector["now"], ())
    expected = vector["expect"]

    assert (event.external_id, event.type, event.time) == (expected["id"], expected["type"], expected["time"])
    assert (event.subject, event.account) == (expected["subject"], expected["account"])
    assert event.data is not None
    assert event.data in vector["body"].encode()
    shown = [key and ("sha256:" if key.startswith(b"sha256:") else key.decode()) for key in keys]
    assert shown == expected["keys"]


def test_the_type_is_one_of_the_documented(vector: dict[str, Any]) -> None:
    assert vector["expect"]["type"] in providers.preset(vector["preset"]).types


@pytest.mark.parametrize("position", [0, 0.3, 0.6, 0.999])
def test_one_changed_byte_of_the_body_is_refused(vector: dict[str, Any], position: float) -> None:
    body = bytearray(vector["body"].encode())
    body[int(position * len(body))] ^= 1
    verification, request = built(vector, body=bytes(body))

    with pytest.raises(VerificationError):
        verification.verify(request, vector["now"])


def test_another_secret_is_refused(vector: dict[str, Any]) -> None:
    verification, request = built(vector | {"secrets": ["another-secret-0123456789"]})

    with pytest.raises(VerificationError) as caught:
        verification.verify(request, vector["now"])
    assert caught.value.reason == "wrong_signature"


def test_without_its_signature_it_is_refused(vector: dict[str, Any]) -> None:
    (verifier,) = source(vector["preset"]).verify
    assert isinstance(verifier, HmacConfig)
    kept = {name: value for name, value in vector["headers"].items() if name not in verifier.signature.header}
    verification, request = built(vector, headers=kept)

    with pytest.raises(VerificationError) as caught:
        verification.verify(request, vector["now"])
    assert caught.value.reason == "missing_signature"


def test_a_signed_timestamp_keeps_old_and_future_requests_out(vector: dict[str, Any]) -> None:
    verification, request = built(vector)
    (verifier,) = source(vector["preset"]).verify
    assert isinstance(verifier, HmacConfig)
    if verifier.timestamp is None:
        verification.verify(request, vector["now"] + 10_000_000)
        return
    for offset in (verifier.timestamp.tolerance + 1, -verifier.timestamp.tolerance - 1):
        with pytest.raises(VerificationError):
            verification.verify(request, vector["now"] + offset)


def test_what_the_source_signs_the_source_verifies(vector: dict[str, Any]) -> None:
    verification, request = built(vector)
    headers = vector["headers"] | verification.sign(request, 1_800_000_000)
    resigned = Request("POST", "/webhooks/s", "", CIMultiDict(headers), request.body)

    verification.verify(resigned, 1_800_000_000)


def test_the_documented_example_is_shipped_as_a_sample(vector: dict[str, Any]) -> None:
    (sample, *_) = providers.preset(vector["preset"]).samples

    assert json.loads(sample.body) == json.loads(vector["body"])


@pytest.mark.parametrize("name", providers.names())
def test_a_preset_says_what_an_operator_needs(name: str) -> None:
    preset = providers.preset(name)

    assert preset.title
    assert preset.docs.startswith("https://")
    assert preset.dedupe.by
    assert preset.types
    assert preset.retries
    assert preset.disables
    assert preset.samples
    for fact in ("answer_deadline", "retry_horizon"):
        word = fact.replace("_", " ").split()[-1]
        assert getattr(preset, fact) or any(word in note for note in preset.unconfirmed)
    if preset.retry_horizon:
        assert preset.dedupe.window >= preset.retry_horizon


def test_e_invoice_verifies_with_its_keys_in_another_order() -> None:
    vector = VECTORS["e-invoice-be"]
    backwards = dict(reversed(json.loads(vector["body"]).items()))
    for body in (json.dumps(backwards), json.dumps(backwards, ensure_ascii=False, separators=(",", ":"))):
        verification, request = built(vector, body=body.encode())
        verification.verify(request, vector["now"])


@pytest.mark.parametrize("repeated", ['"id": "evt-forged", ', '"data": {}, '])
def test_e_invoice_refuses_a_key_that_is_there_twice(repeated: str) -> None:
    vector = VECTORS["e-invoice-be"]
    verification, request = built(vector, body=vector["body"].replace("{", "{" + repeated, 1).encode())

    with pytest.raises(VerificationError) as caught:
        verification.verify(request, vector["now"])
    assert caught.value.reason == "malformed_body"


def test_e_invoice_may_check_basic_credentials_as_well() -> None:
    vector = VECTORS["e-invoice-be"]
    both = source("e-invoice-be", "verify: [preset, {type: basic, secrets: env:BASIC}]")
    secrets = Secrets(Path(), {"S0": "secret", "BASIC": "gatehouse:a-long-enough-password"})
    verification = build_verification(both, secrets)
    _, request = built(vector)

    with pytest.raises(VerificationError):
        verification.verify(request, vector["now"])
    headers = vector["headers"] | verification.sign(request, vector["now"])
    complete = Request("POST", "/", "", CIMultiDict(headers), request.body)
    verification.verify(complete, vector["now"])


def test_mandato_accepts_the_old_secret_during_a_rotation() -> None:
    vector = VECTORS["mandato"]
    rotating = parse("sources: {s: {provider: mandato, secrets: [env:NEW, env:OLD]}}").config.sources["s"]
    secrets = Secrets(Path(), {"NEW": "wh_the-secret-made-by-the-new-one", "OLD": vector["secrets"][0]})
    _, request = built(vector)

    build_verification(rotating, secrets).verify(request, vector["now"])
