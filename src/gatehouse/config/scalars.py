"""The small types of the config file: `30s`, `1MiB`, `100/s`, `host:port`, `env:NAME`, templates.

Each is written as text in YAML and becomes what the program works with; each says in its error what would be right.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    GetJsonSchemaHandler,
    InstanceOf,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

from gatehouse.template import Template, TemplateError

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+"
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = r"[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)"
_RATE = r"[0-9]+(\.[0-9]+)?/(s|m|h)"
_ADDRESS = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):(?P<port>[0-9]{1,5})"
_REFERENCE = r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)"


def wrong(message: str, hint: str) -> PydanticCustomError:
    """Make the error that the loader turns into a problem with a hint."""
    return PydanticCustomError("gatehouse", "{problem}", {"problem": message, "hint": hint})


def parse_duration(value: Any) -> Any:
    """Turn `1h30m` into seconds."""
    if isinstance(value, str) and re.fullmatch(_DURATION, value, re.ASCII):
        pieces = re.findall(r"([0-9.]+)(ms|s|m|h|d)", value)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces)
        if 0 < seconds <= 10 * 365 * 86400:
            return float(seconds)
    raise wrong("not a duration", "a number and a unit, as in 300ms, 30s, 5m, 12h, 7d")


def format_duration(seconds: float) -> str:
    """Write seconds as the config does: `14h36m`."""
    pieces = []
    milliseconds = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces) or "0s"


def parse_size(value: Any) -> Any:
    """Turn `1MiB` into bytes; a bare number is bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 2**40:
        return value
    if isinstance(value, str) and re.fullmatch(_SIZE, value, re.ASCII):
        number = int(re.sub(r"[A-Za-z]", "", value))
        size = number * _SIZES[value.lstrip("0123456789")]
        if 0 < size <= 2**40:
            return size
    raise wrong("not a size", "bytes, or a number and a unit, as in 512KiB, 1MiB")


def parse_rate(value: Any) -> Any:
    """Turn `100/s` into a number per second."""
    if isinstance(value, str) and re.fullmatch(_RATE, value, re.ASCII):
        number, _, unit = value.partition("/")
        if float(number) > 0:
            return float(number) / _UNITS[unit]
    raise wrong("not a rate", "a number per s, m or h, as in 100/s")


class Address(NamedTuple):
    """Where a listener binds."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: Any) -> Any:
    """Turn `host:port` into an `Address`; an empty host means every address of the machine."""
    if isinstance(value, str) and (match := re.fullmatch(_ADDRESS, value, re.ASCII)):
        port = int(match["port"])
        if port <= 65535:  # noqa: PLR2004
            return Address(match["host"].strip("[]") or "0.0.0.0", port)  # noqa: S104
    raise wrong("not an address", "host:port, as in 127.0.0.1:9090")


class SecretRef(NamedTuple):
    """Where a secret is kept. The secret itself is never in the config."""

    #: `env` or `file`.
    kind: str
    #: The variable's name, or the file's path.
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_secret_ref(value: Any) -> Any:
    """Turn `env:NAME` or `file:/path` into a `SecretRef`."""
    if isinstance(value, str) and re.fullmatch(_REFERENCE, value):
        kind, _, name = value.partition(":")
        return SecretRef(kind, name)
    # The value itself may be the secret: it must not be repeated in the message.
    raise wrong("not a reference to a secret", "env:NAME or file:/path; never the secret itself")


def parse_template(value: Any) -> Any:
    """Compile a template, or a list of which the first that resolves counts."""
    if isinstance(value, str) or (isinstance(value, tuple) and all(isinstance(v, str) for v in value)):
        try:
            return Template(value)
        except TemplateError as error:
            raise wrong(str(error), 'text with placeholders, as in "{timestamp}.{body}"') from error
    raise wrong("not a template", 'text with placeholders, as in "{body:id}", or a list of such texts')


def parse_http_url(value: Any) -> Any:
    """Check an http or https URL with a host and without credentials."""
    hint = "http://host:port/path or https://…; credentials do not belong in it"
    if not isinstance(value, str):
        raise wrong("not a URL", hint)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise wrong("not a URL", hint) from error
    if not usable or "@" in parts.netloc or parts.fragment or not value.isprintable() or " " in value:
        raise wrong("not a URL that can be posted to", hint)
    return value


def _text(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": list(examples)})


Duration = Annotated[float, BeforeValidator(parse_duration), _text(_DURATION, "30s", "5m", "7d")]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": f"^{_SIZE}$"}, {"type": "integer", "minimum": 1}]}
    ),
]
Rate = Annotated[float, BeforeValidator(parse_rate), _text(_RATE, "100/s")]
ListenAddress = Annotated[
    InstanceOf[Address], BeforeValidator(parse_address), _text(r".*:[0-9]{1,5}", "127.0.0.1:9090")
]
SecretReference = Annotated[
    InstanceOf[SecretRef],
    BeforeValidator(parse_secret_ref),
    _text(_REFERENCE, "env:STRIPE_SECRET", "file:/run/secrets/stripe"),
]
TemplateText = Annotated[
    InstanceOf[Template],
    BeforeValidator(parse_template),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]
HttpUrl = Annotated[
    str,
    BeforeValidator(parse_http_url),
    _text(r"https?://.+", "http://billing.internal:8000/events"),
]


class _OneOrManySchema:
    """Tells editors that a list of one may be written without its brackets."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(core_schema)
        return {"anyOf": [many["items"], many]}


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, tuple) else (value,)


T = TypeVar("T")
OneOrMany = Annotated[tuple[T, ...], _OneOrManySchema(), BeforeValidator(_as_tuple)]
