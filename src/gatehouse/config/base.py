"""Defines what all models of the config file share, and the types for text, templates and lists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    InstanceOf,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gatehouse.config.hints import (
    foreign_placeholder_hint,
    is_unquoted_placeholder,
    placeholder_hint,
    template_hint,
)
from gatehouse.language.conditions import Condition, ConditionError
from gatehouse.language.template import Placeholder, Template, TemplateError


class Model(BaseModel):
    """A frozen model that refuses unknown keys and wrong types.

    Its attribute docstrings become descriptions in the JSON Schema and in docs/configuration.md.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        # A wrong value may be a secret in the wrong place.
        hide_input_in_errors=True,
        # One validator for the whole config takes less time and memory than one more for each of its parts.
        defer_build=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty(cls, value: Any) -> Any:
        """Treat a known key without a value as absent, because all its options may be commented out."""
        if not isinstance(value, dict):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: given for key, given in value.items() if given is not None or key not in known}


def invalid_value(message: str, hint: str) -> PydanticCustomError:
    """Return the error that the loader turns into a problem with a hint."""
    return PydanticCustomError("gatehouse", "{problem}", {"problem": message, "hint": hint})


def text_schema(title: str, pattern: str, *examples: str) -> WithJsonSchema:
    """Return the JSON Schema of a type that is written as text."""
    return WithJsonSchema(
        {"type": "string", "title": title, "pattern": f"^{pattern}$", "examples": list(examples)}
    )


def exactly_one(*values: Any) -> bool:
    """Return whether exactly one of the values is given."""
    return sum(value not in (None, ()) for value in values) == 1


_NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
_NAME_OF_TOKEN = r"[A-Za-z0-9_.-]{1,64}"  # noqa: S105 - a pattern
_HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}"


def parse_text(value: Any) -> Any:
    """Check one line of text."""
    if not isinstance(value, str):
        raise invalid_value("must be text", "put the value in quotes")
    if not value or not value.isprintable():
        raise invalid_value("must be one line of text", "use at least one character, and only printable ones")
    return value


def matching(pattern: str, message: str, hint: str) -> BeforeValidator:
    """Return the check of a text that must match a pattern as a whole."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise invalid_value(message, hint)

    return BeforeValidator(check)


def parse_regular_expression(value: Any) -> Any:
    """Check a regular expression. It always matches whole texts, so it needs no anchors."""
    try:
        if isinstance(value, str) and value:
            re.compile(value)
            return value
    except (re.error, OverflowError, RecursionError):
        pass
    raise invalid_value("not a regular expression", 'write it as in "[A-Za-z0-9_-]{1,128}"')


def parse_template(value: Any) -> Any:
    """Compile a template or a list of templates. Of a list, the first that resolves is used."""
    if isinstance(value, str) or (isinstance(value, tuple) and all(isinstance(v, str) for v in value)):
        if hint := foreign_placeholder_hint(value):
            raise invalid_value("a placeholder in the syntax of another program", hint)
        try:
            return Template(value)
        except TemplateError as error:
            example = 'write text with placeholders, as in "{timestamp}.{body}"'
            raise invalid_value(
                error.brief, placeholder_hint(error.inside) if error.inside else example
            ) from error
    raise invalid_value("not a template", template_hint(value))


def parse_condition(value: Any) -> Any:
    """Compile a condition, or a list of conditions of which one must hold."""
    entries = value if isinstance(value, tuple) else (value,)
    if not entries:
        raise invalid_value("must have at least one entry", 'add one, as in ["eur", "chf"]')
    try:
        return Condition(tuple(map(parse_text, entries)))
    except ConditionError as error:
        raise invalid_value(error.message, error.hint) from error


def format_template(template: Template) -> str | list[str]:
    """Format a template as in the config file."""
    texts = ["".join(map(_format_part, parts)) for parts in template.alternatives]
    return texts[0] if len(texts) == 1 else texts


def _format_part(part: bytes | Placeholder) -> str:
    if isinstance(part, bytes):
        return part.decode().replace("{", "{{").replace("}", "}}")
    return str(part)


@dataclass(frozen=True)
class _OneOrMany:
    """A list. A single entry may be written without brackets."""

    at_least: int = 0

    def _as_tuple(self, value: Any) -> Any:
        many = value if isinstance(value, tuple) else (value,)
        if len(many) < self.at_least:
            raise invalid_value("must have at least one entry", "add one, as in [one, two]")
        return many

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._as_tuple, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        many = handler(core)
        if self.at_least:
            many["minItems"] = self.at_least
        return {"anyOf": [many["items"], many]}


@dataclass(frozen=True)
class OrTemplate:
    """A model that may also be written as the template of one of its keys."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def in_full(value: Any) -> Any:
            if isinstance(value, dict) and is_unquoted_placeholder(value):
                raise invalid_value("not a template", template_hint(value))
            if isinstance(value, dict | source):
                return value
            return source.model_construct(**{self.key: parse_template(value)})

        return core_schema.no_info_before_validator_function(in_full, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [_TEMPLATE_SCHEMA, handler(core)]}


@dataclass(frozen=True)
class OrSwitch:
    """A model whose keys all have defaults, that may also be written as `true`, or as `false` for None."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def in_full(value: Any) -> Any:
            if isinstance(value, bool):
                return {} if value else None
            if value is None or isinstance(value, dict | source):
                return value
            raise invalid_value("neither true nor false nor keys", "write true, or keys with values")

        return core_schema.no_info_before_validator_function(
            in_full, core_schema.nullable_schema(handler(source))
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, *handler(core)["anyOf"][:1]]}


_TEMPLATE_SCHEMA = {
    "title": "template",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ],
}

T = TypeVar("T")
OneOrMany = Annotated[tuple[T, ...], _OneOrMany()]
#: Like `OneOrMany`, but an empty list is refused.
AtLeastOne = Annotated[tuple[T, ...], _OneOrMany(1)]

Text = Annotated[
    str, BeforeValidator(parse_text), WithJsonSchema({"type": "string", "title": "text", "minLength": 1})
]
Pattern = Annotated[
    str,
    BeforeValidator(parse_text),
    WithJsonSchema({"type": "string", "title": "pattern", "minLength": 1}),
]
#: Names of sources and destinations. Paths, metric labels and log lines contain them.
Name = Annotated[
    str,
    matching(
        _NAME, "not a name", "use 1 to 64 lower-case letters, digits, - and _; begin with a letter or digit"
    ),
    text_schema("name", _NAME),
]
#: Names of operator tokens. Log lines and audit entries contain them.
TokenName = Annotated[
    str,
    matching(_NAME_OF_TOKEN, "not a name", "use 1 to 64 letters, digits, _, . and -"),
    text_schema("name", _NAME_OF_TOKEN),
]
HeaderName = Annotated[
    str,
    matching(_HEADER, "not a header name", "write it without a colon, as in X-Signature"),
    text_schema("header name", _HEADER, "X-Signature"),
]
#: `X-Signature-{n}` stands for X-Signature-1, X-Signature-2 and so on.
NumberedHeader = Annotated[
    str,
    matching(
        _HEADER + r"(\{n\})?",
        "not a header name",
        "write it without a colon, as in X-Signature or X-Signature-{n}",
    ),
    text_schema("header name", _HEADER + r"(\{n\})?", "X-Signature"),
]
RegularExpression = Annotated[
    str,
    BeforeValidator(parse_regular_expression),
    WithJsonSchema({"type": "string", "title": "regular expression"}),
]
UserName = Annotated[
    str,
    matching(r"[^:\x00-\x1f\x7f]+", "not a user name", "use text without a colon"),
    text_schema("text", "[^:]+"),
]
TemplateText = Annotated[
    InstanceOf[Template],
    BeforeValidator(parse_template),
    WithJsonSchema(_TEMPLATE_SCHEMA),
]
#: A condition of a route, or a list of them.
ConditionText = Annotated[
    InstanceOf[Condition],
    BeforeValidator(parse_condition),
    WithJsonSchema(
        {
            "title": "condition",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ],
        }
    ),
]
