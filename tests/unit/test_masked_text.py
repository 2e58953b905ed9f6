"""The text of the config that operators see has no credential, and otherwise the same values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from gatehouse.config.load import parse
from gatehouse.config.masked_text import masked_text, member_models, treatment
from gatehouse.config.model import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
#: In every place that may hold one. The first and the last line are comments.
CREDENTIAL = "hunter2-hunter2-hunter2"
TEXT = f"""# {CREDENTIAL}
store: {{url: "sqlite:///{{}}.db"}} # {CREDENTIAL}
sources:
  pubsub:  # {CREDENTIAL}
    provider: google-pubsub
    values: {{audience: {CREDENTIAL}, service_account: {CREDENTIAL}}}
    secrets: []
    docs: "https://user:{CREDENTIAL}@docs.example/?{CREDENTIAL}"
    retries: |  # {CREDENTIAL}
      see https://docs.example/#{CREDENTIAL} # for more
    disables: >-
      Set the address,

      and the secret.
    unconfirmed: ["the # of events"]
  # {CREDENTIAL}
  acme:
    secrets: [env:A, "file:b#c"]
    verify:
      - {{type: basic, username: {CREDENTIAL}, secrets: env:B}}
      - type: hmac
        signature: {{header: X-Signature, prefix: 'Bearer {CREDENTIAL}'}}
        signed: "{{timestamp}}.{{body}}{CREDENTIAL}"
        timestamp: {{header: X-Time, tolerance: 10m}}
      - {{type: jwt, algorithm: HS256, header: X-Token, audience: {CREDENTIAL}, prefix: "Bearer ",
         issuer: "https://issuer.example?{CREDENTIAL}"}}
      - {{type: paypal, webhook_id: {CREDENTIAL}}}
      - {{type: aws-sns, topic_arn: {CREDENTIAL}}}
    event: {{id: "{{body:id}}", type: "{{body:type}}"}}
    answers: {{body: {CREDENTIAL}}}
    handshakes:
      - name: check
        method: GET
        when: {{"{{query:a}}": {CREDENTIAL}, "{{query:b}}": "*"}}
        challenge: "{{query:c}}"
        proof: {{type: hash, of: "{{challenge}}{{token}}{CREDENTIAL}"}}
        answer: {{json: {{a: "{CREDENTIAL}{{proof}}", b: 1}}, headers: {{X-B: {CREDENTIAL}}}}}
    samples:
      - headers: {{Authorization: {CREDENTIAL}}}
        body: |
          {{"token": "{CREDENTIAL}",  # {CREDENTIAL}
           "id": 1}}
destinations:
  one: &one {{url: "http://one.example:8000/?key={CREDENTIAL}", timeout: 5s}}
  two: {{url: 'http://two.example/in?{CREDENTIAL}', rate: 50/s, retry_on: ["429", "!501"]}}
  three: *one
routes:
  - {{from: "*", types: ["sale.*#1", 'a'], to: [one, two]}}

# {CREDENTIAL}"""
MASKED = {
    "store": {"url": "sqlite:///{}.db"},
    "sources": {
        "pubsub": {
            "provider": "google-pubsub",
            "values": {"audience": "…", "service_account": "…"},
            "secrets": [],
            "docs": "https://…@docs.example/?…",
            "retries": "see https://docs.example/#… # for more\n",
            "disables": "Set the address,\nand the secret.",
            "unconfirmed": ["the # of events"],
        },
        "acme": {
            "secrets": ["env:A", "file:b#c"],
            "verify": [
                {"type": "basic", "username": "…", "secrets": "env:B"},
                {
                    "type": "hmac",
                    "signature": {"header": "X-Signature", "prefix": "…"},
                    "signed": "{timestamp}.{body}…",
                    "timestamp": {"header": "X-Time", "tolerance": "10m"},
                },
                {
                    "type": "jwt",
                    "algorithm": "HS256",
                    "header": "X-Token",
                    "audience": "…",
                    "prefix": "Bearer ",
                    "issuer": "https://issuer.example?…",
                },
                {"type": "paypal", "webhook_id": "…"},
                {"type": "aws-sns", "topic_arn": "…"},
            ],
            "event": {"id": "{body:id}", "type": "{body:type}"},
            "answers": {"body": "…"},
            "handshakes": [
                {
                    "name": "check",
                    "method": "GET",
                    "when": {"{query:a}": "…", "{query:b}": "*"},
                    "challenge": "{query:c}",
                    "proof": {"type": "hash", "of": "{challenge}{token}…"},
                    "answer": {"json": {"a": "…{proof}", "b": 1}, "headers": {"X-B": "…"}},
                }
            ],
            "samples": [{"headers": {"Authorization": "…"}, "body": "…"}],
        },
    },
    "destinations": {
        "one": {"url": "http://one.example:8000/?…", "timeout": "5s"},
        "two": {"url": "http://two.example/in?…", "rate": "50/s", "retry_on": ["429", "!501"]},
        "three": {"url": "http://one.example:8000/?…", "timeout": "5s"},
    },
    "routes": [{"from": "*", "types": ["sale.*#1", "a"], "to": ["one", "two"]}],
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_can_be_a_credential_is_hidden_and_the_rest_is_shown(ends: str) -> None:
    assert set(parse(TEXT).config.destinations) == {"one", "two", "three"}

    masked = masked_text(TEXT.replace("\n", ends).encode("utf-8-sig"))

    assert CREDENTIAL not in masked
    assert yaml.safe_load(masked) == MASKED


def test_a_config_without_credentials_is_shown_as_it_is() -> None:
    text = 'sources:\n  shop: {provider: mando, secrets: env:SECRET}   \n\nroutes: [{from: "*", to: []}]\n'
    assert masked_text(text.encode()) == text


def test_the_documented_example_keeps_its_keys_and_names() -> None:
    text = (ROOT / "gateway.yaml").read_bytes()
    masked = masked_text(text)
    assert shape(yaml.safe_load(masked)) == shape(yaml.safe_load(text))
    assert "#" not in masked
    assert "secrets: [env:MANDO_WEBHOOK_SECRET, env:MANDO_WEBHOOK_SECRET_OLD]" in masked


def shape(data: Any) -> Any:
    """Return keys and lists without their values, except those that are shown."""
    if isinstance(data, dict):
        return {key: shape(value) for key, value in data.items()}
    return [shape(value) for value in data] if isinstance(data, list) else None


#: Keys with free text, of which none or only a part is shown. Other free text is shown, but for credentials
#: in URLs. Decide for each new key: `_SHOWN` of the module lists those that never hold a credential.
HIDDEN_KEYS = {
    *("SourceConfig.values", "SampleConfig.headers", "SampleConfig.body", "AnswersConfig.body"),
    *("BasicConfig.username", "JwtConfig.audience", "PaypalConfig.webhook_id", "AwsSnsConfig.topic_arn"),
    *("HandshakeConfig.when", "BasicAuthConfig.username", "OAuth2AuthConfig.client_id"),
    "ClaimConfig.value",
}
TEMPLATES = {
    *("HmacConfig.signed", "Ed25519Config.signed", "EcdsaConfig.signed", "RsaConfig.signed"),
    *("SignatureConfig.prefix", "TokenConfig.prefix", "JwtConfig.prefix", "HmacProof.prefix"),
    *("HandshakeConfig.token", "HandshakeConfig.challenge", "HandshakeConfig.show"),
    *("HandshakeConfig.confirm", "HandshakeAnswer.text", "HandshakeAnswer.json_"),
    *("HandshakeAnswer.headers", "HashProof.of", "DestinationConfig.add_headers"),
}


def test_it_was_decided_for_each_key_whether_its_text_is_shown() -> None:
    found = {(f"{model.__name__}.{field}", how) for model, field, how in treatments(Config)}

    assert {key for key, how in found if how == "hidden"} == HIDDEN_KEYS
    assert {key for key, how in found if how == "template"} == TEMPLATES
    assert {key for key, how in found if how == "exact"} == {"StoreConfig.url"}


def treatments(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, str]]:
    for field, info in model.model_fields.items():
        yield model, field, treatment(model.__name__, field, info.annotation)
        for inner in member_models(info.annotation):
            yield from treatments(inner)
