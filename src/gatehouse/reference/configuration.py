"""Generates the tables of docs/configuration.md.

`python -m gatehouse.reference.configuration FILE` updates the tables in FILE.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gatehouse.config.model import SourceConfig
from gatehouse.reference.schema import Schema, model_schema

if TYPE_CHECKING:
    from collections.abc import Callable

#: Name after `generated:` in the page → the model whose keys the table lists.
TABLES = {
    "server": "ServerConfig",
    "operator": "OperatorConfig",
    "operator-token": "OperatorTokenConfig",
    "store": "StoreConfig",
    "source": "SourceConfig",
    "hmac": "HmacConfig",
    "signature": "SignatureConfig",
    "timestamp": "TimestampConfig",
    "ed25519": "Ed25519Config",
    "ecdsa": "EcdsaConfig",
    "rsa": "RsaConfig",
    "jwt": "JwtConfig",
    "body_hash": "BodyHashConfig",
    "claims": "ClaimConfig",
    "issued": "IssuedConfig",
    "certificates": "CertificatesConfig",
    "token": "TokenConfig",
    "basic": "BasicConfig",
    "allowlist": "AllowlistConfig",
    "any": "AnyConfig",
    "twilio": "TwilioConfig",
    "paypal": "PaypalConfig",
    "aws-sns": "AwsSnsConfig",
    "ebay": "EbayConfig",
    "truelayer": "TruelayerConfig",
    "none": "NoneConfig",
    "decode": "DecodeConfig",
    "event": "EventConfig",
    "dedupe": "DedupeConfig",
    "dedupe-key": "DedupeKeyConfig",
    "answers": "AnswersConfig",
    "handshake": "HandshakeConfig",
    "handshake-answer": "HandshakeAnswer",
    "proof-hmac": "HmacProof",
    "proof-hash": "HashProof",
    "sample": "SampleConfig",
    "destination": "DestinationConfig",
    "auth-bearer": "BearerAuthConfig",
    "auth-basic": "BasicAuthConfig",
    "auth-header": "HeaderAuthConfig",
    "auth-oauth2": "OAuth2AuthConfig",
    "tls": "DestinationTlsConfig",
    "batch": "BatchConfig",
    "retry": "RetryConfig",
    "breaker": "BreakerConfig",
    "route": "RouteConfig",
}
_MARKED = re.compile(r"(<!-- generated:([a-z0-9_-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def updated(page: str) -> str:
    """Return the page with tables that are generated from the models."""
    definitions = model_schema()["$defs"]
    definitions["SourceConfig"]["properties"] = _own_first(definitions["SourceConfig"]["properties"])
    return _MARKED.sub(lambda found: found[1] + table(definitions[TABLES[found[2]]]) + found[3], page)


def _own_first(keys: Schema) -> Schema:
    """Put the keys that only a source has before those that a preset may define."""
    return {key: keys[key] for key in SourceConfig.__annotations__} | keys


def table(described: Schema) -> str:
    """Return a Markdown table of the keys of a model."""
    required = described.get("required", [])
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, value in described["properties"].items():
        cells = (f"`{key}`", type_of(value), _default(value, required=key in required), value["description"])
        rows.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    """Return a text for a table cell: on one line, with escaped cell separators."""
    return " ".join(text.split()).replace("|", "\\|")


def _default(value: Schema, *, required: bool) -> str:
    if required:
        return "*required*"
    if "default" not in value:
        return ""
    default = value["default"]
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def type_of(value: Schema) -> str:
    """Describe the type of a value."""
    return next(describe(value) for key, describe in _DESCRIPTIONS if key in value)


def _one_of(alternatives: list[Schema]) -> str:
    """Describe alternatives.

    Skips null, which is how YAML writes an absent value. `T, or a list` is a `OneOrMany`.
    """
    one, *more = [schema for schema in alternatives if schema.get("type") != "null"]
    if more and more[0].get("items") == one:
        return f"{type_of(one)}, or a list"
    return " or ".join(dict.fromkeys(type_of(schema) for schema in (one, *more)))


def _words(value: Schema) -> str:
    words = value.get("enum", [value.get("const")])
    return ", ".join(f"`{word if isinstance(word, str) else json.dumps(word)}`" for word in words)


def _bounded(value: Schema) -> str:
    kind = "whole number" if value["type"] == "integer" else "number"
    return f"{kind}, {value['minimum']} to {value['maximum']}"


#: JSON type → description, for values without anything more specific.
_TYPES = {"string": "text", "boolean": "`true` or `false`"}
#: Keyword of a schema → description. The first keyword that is present is used.
_DESCRIPTIONS: tuple[tuple[str, Callable[[Schema], str]], ...] = (
    ("title", lambda value: str(value["title"])),
    ("enum", _words),
    ("const", _words),
    ("anyOf", lambda value: _one_of(value["anyOf"])),
    ("items", lambda value: f"list of: {type_of(value['items'])}"),
    ("maximum", _bounded),
    ("$ref", lambda _: "keys and values"),
    ("patternProperties", lambda _: "keys and values"),
    ("additionalProperties", lambda _: "keys and values"),
    ("type", lambda value: _TYPES[value["type"]]),
)


def main() -> None:
    """Update the tables of a page."""
    page = Path(sys.argv[1])
    page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
