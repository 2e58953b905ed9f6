"""Generates the JSON Schema of the config file, for editors.

The schema accepts every config that the loader accepts. The loader also checks what a schema cannot express,
such as rules between keys. `python -m gatehouse.reference.schema` prints the schema.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from gatehouse import providers
from gatehouse.config.base import format_template
from gatehouse.config.model import Config
from gatehouse.config.presets import PRESET
from gatehouse.config.quantities import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import core_schema

Schema = dict[str, Any]

#: The id of this schema. It does not depend on where the file is.
_ID = "urn:gatehouse:config:0.1"
#: The version that editors support best.
_DIALECT = "http://json-schema.org/draft-07/schema#"
_REF = "#/$defs/"
#: Title of a type → function that formats its default.
_WRITERS: dict[str, Callable[[Any], Any]] = {
    "duration": format_duration,
    "duration or `none`": format_duration,
    "size": format_size,
    "disk space": format_size,
    "template": format_template,
    "address": str,
    "address or list of addresses": str,
}
#: Models that a source with a provider may define in part.
_OVERRIDABLE = (
    *("EventConfig", "HmacConfig", "Ed25519Config", "EcdsaConfig", "RsaConfig", "JwtConfig", "TokenConfig"),
    *("BasicConfig", "AllowlistConfig", "AnyConfig", "TwilioConfig", "PaypalConfig", "AwsSnsConfig"),
    *("EbayConfig", "TruelayerConfig"),
)


def schema() -> Schema:
    """Return the schema of a config file."""
    generated = model_schema()
    definitions = generated.pop("$defs")
    definitions |= {_override(name): _without_required(definitions[name]) for name in _OVERRIDABLE}
    definitions["SourceConfig"] = _source(definitions["SourceConfig"])
    head = {"$schema": _DIALECT, "$id": _ID, "title": "Gatehouse config"}
    return head | generated | {"$defs": dict(sorted(definitions.items()))}


def model_schema() -> Schema:
    """Return the schema of the models, without the exceptions for sources with a preset."""
    return Config.model_json_schema(schema_generator=_Generator)


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, with defaults as in the config file and without titles made from names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the signature of the base class
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = _or_nothing(self.generate_inner(schema["schema"]))
        default = schema.get("default")
        if default is None or isinstance(default, BaseModel) or default in ((), "", {}):
            return described
        write = _WRITERS.get(described["anyOf"][0].get("title", ""), self.encode_default)
        return described | {"default": write(default)}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        described.pop("title", None)
        return described

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        described = super().dict_schema(schema)
        # Keys that do not match are refused.
        return described | ({"additionalProperties": False} if "patternProperties" in described else {})

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        return {"anyOf": super().tagged_union_schema(schema)["oneOf"]}


def _or_nothing(described: Schema) -> Schema:
    """Allow a key without a value, as the loader does for every key with a default."""
    nothing = {"type": "null"}
    alternatives = described["anyOf"] if described.keys() == {"anyOf"} else [described]
    return {"anyOf": [*alternatives, nothing]} if nothing not in alternatives else described


def _override(name: str) -> str:
    return name.replace("Config", "Override")


def _without_required(described: Schema) -> Schema:
    return {key: value for key, value in described.items() if key != "required"}


def _source(described: Schema) -> Schema:
    """Require `verify` and `event` only without a preset."""
    keys = described["properties"]
    in_full = {key: keys[key] for key in ("verify", "event")}
    keys["provider"] |= {"anyOf": [{"enum": [*providers.names(), ""]}, {"type": "null"}]}
    overrides = {"verify": _verify_override(in_full["verify"]), "event": {"$ref": _REF + "EventOverride"}}
    return described | {
        "properties": keys | {key: {"description": in_full[key]["description"]} for key in in_full},
        "required": [],
        "if": {"required": ["provider"], "properties": {"provider": {"type": "string", "minLength": 1}}},
        "then": {"properties": overrides},
        "else": {"properties": in_full, "required": ["verify", "event"]},
    }


def _verify_override(in_full: Schema) -> Schema:
    many = next(way for way in in_full["anyOf"] if way.get("type") == "array")
    whole = many["items"]["anyOf"]
    parts = [{"$ref": _REF + _override(name)} for name in _OVERRIDABLE if name != "EventConfig"]
    none = [way for way in whole if way["$ref"].endswith("NoneConfig")]
    word = {"const": PRESET, "description": "The verifiers of the preset."}
    listed = {"type": "array", "minItems": 1, "items": {"anyOf": [*whole, word]}}
    return {"anyOf": [*parts, *none, word, listed]}


def text() -> str:
    """Return the schema as `gatehouse schema` prints it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Print the schema."""
    sys.stdout.write(text())


if __name__ == "__main__":
    main()
