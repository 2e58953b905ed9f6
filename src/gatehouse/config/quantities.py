"""Defines durations, sizes, rates, numbers and status ranges as values of the config file.

A type says in its error what would be right. It never repeats the value, which may be a secret in the wrong
place.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, InstanceOf, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from gatehouse.config.base import invalid_value, text_schema
from gatehouse.config.hints import duration_hint, rate_hint, size_hint

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = r"([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d))+"
_SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}
_SIZE = r"[0-9]{1,9}(B|KB|MB|KiB|MiB)"
_DISK_UNITS = _SIZE_UNITS | {"GB": 10**9, "GiB": 2**30}
_DISK_SPACE = r"[0-9]{1,9}(B|KB|MB|GB|KiB|MiB|GiB)"
_RATE = r"[0-9]{1,9}(\.[0-9]{1,9})?/(s|m|h)"
_DURATION_HINT = "write a number and a unit: 300ms, 30s, 5m, 12h, 7d; more than 0, at most 3650d"
#: Ten years. A longer duration is a typing error.
_MAX_DURATION = 3650 * 86_400.0
#: The total size of requests that may wait for the store. A larger body could never be accepted.
_MAX_SIZE = 64 * 2**20
#: Gatehouse reads no more of a reply.
_MAX_REPLY_SIZE = 64 * 2**10
#: A terabyte. A larger reserve is a typing error.
_MAX_DISK_SPACE = 2**40
#: One process cannot start more attempts per second.
_MAX_RATE = 100_000.0
_MAX_CONCURRENCY = 10_000


def parse_duration(value: Any) -> Any:
    """Convert `1h30m` to seconds."""
    if isinstance(value, str) and re.fullmatch(_DURATION, value):
        pieces = re.findall(r"([0-9.]+)(ms|s|m|h|d)", value)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces) / 1000
        if 0 < seconds <= _MAX_DURATION:
            return seconds
    raise invalid_value("not a duration", duration_hint(value) or _DURATION_HINT)


def format_duration(seconds: float) -> str:
    """Format seconds as in the config file: `14h36m`."""
    pieces = []
    milliseconds = round(seconds * 1000)
    for unit, size in _UNITS.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces) or "0s"


def parse_size(value: Any) -> Any:
    """Convert `1MiB` to bytes. A number without a unit is bytes."""
    size = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if isinstance(value, str) and re.fullmatch(_SIZE, value):
        unit = value.lstrip("0123456789")
        size = int(value.removesuffix(unit)) * _SIZE_UNITS[unit]
    if 0 < size <= _MAX_SIZE:
        return size
    raise invalid_value(
        "not a size",
        size_hint(value) or "write bytes, or a number and a unit, as in 512KiB or 1MiB; at most 64MiB",
    )


def parse_disk_space(value: Any) -> Any:
    """Convert `2GiB` of disk space to bytes. A number without a unit is bytes, and may be 0."""
    size = _size_or_bytes(value, _DISK_SPACE, _DISK_UNITS)
    if 0 <= size <= _MAX_DISK_SPACE:
        return size
    raise invalid_value(
        "not an amount of disk space",
        size_hint(value) or "write 0, bytes, or a number and a unit, as in 512MiB or 2GiB; at most 1024GiB",
    )


def parse_reply_size(value: Any) -> Any:
    """Convert `1KiB` to bytes. A number without a unit is bytes, and may be 0."""
    size = _size_or_bytes(value, _SIZE, _SIZE_UNITS)
    if 0 <= size <= _MAX_REPLY_SIZE:
        return size
    raise invalid_value(
        "not a size of a reply",
        size_hint(value) or "write 0, bytes, or a number and a unit, as in 512B or 4KiB; at most 64KiB",
    )


def _size_or_bytes(value: Any, pattern: str, units: dict[str, int]) -> int:
    """Return the bytes of a number, or of a text that matches a pattern; -1 for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(pattern, value):
        unit = value.lstrip("0123456789")
        return int(value.removesuffix(unit)) * units[unit]
    return -1


def format_size(size: int) -> str:
    """Format bytes as in the config file: `1MiB`."""
    unit = next(unit for unit in ("MiB", "KiB", "B") if size % _SIZE_UNITS[unit] == 0)
    return f"{size // _SIZE_UNITS[unit]}{unit}"


def parse_rate(value: Any) -> Any:
    """Convert `100/s` to a number per second."""
    if isinstance(value, str) and re.fullmatch(_RATE, value):
        number, _, unit = value.partition("/")
        rate = float(number) * 1000 / _UNITS[unit]
        if 0 < rate <= _MAX_RATE:
            return rate
    raise invalid_value(
        "not a rate", rate_hint(value) or "write a number per s, m or h, as in 100/s; at most 100000/s"
    )


@dataclass(frozen=True)
class Between:
    """A number within bounds. `"10"`, `true` and NaN are refused."""

    low: int
    high: int

    def _check(self, value: Any, *, whole: bool) -> Any:
        is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and self.low <= value <= self.high:
            return value
        kind = "whole number" if whole else "number"
        raise invalid_value(
            f"not a {kind} from {self.low} to {self.high}", f"write a number without quotes, as in {self.low}"
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any) -> Any:
            return self._check(value, whole=source is int)

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(core) | {"minimum": self.low, "maximum": self.high}


def parse_concurrency(value: Any) -> Any:
    """Accept a number of concurrent attempts, or `auto`."""
    if value == "auto" or (type(value) is int and 1 <= value <= _MAX_CONCURRENCY):
        return value
    raise invalid_value(
        f"neither a whole number from 1 to {_MAX_CONCURRENCY} nor auto",
        "write a number without quotes, as in 16, or auto",
    )


Concurrency = Annotated[
    int | Literal["auto"],
    BeforeValidator(parse_concurrency),
    WithJsonSchema(
        {
            "title": f"whole number, 1 to {_MAX_CONCURRENCY}, or auto",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": _MAX_CONCURRENCY},
                {"type": "string", "enum": ["auto"]},
            ],
        }
    ),
]
Duration = Annotated[
    float, BeforeValidator(parse_duration), text_schema("duration", _DURATION, "30s", "5m", "7d")
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "title": "size",
            "anyOf": [
                {"type": "string", "pattern": f"^{_SIZE}$", "examples": ["512KiB", "1MiB"]},
                {"type": "integer", "minimum": 1, "maximum": _MAX_SIZE},
            ],
        }
    ),
]
ReplySize = Annotated[
    int,
    BeforeValidator(parse_reply_size),
    WithJsonSchema(
        {
            "title": "size or 0",
            "anyOf": [
                {"type": "string", "pattern": f"^{_SIZE}$", "examples": ["512B", "4KiB"]},
                {"type": "integer", "minimum": 0, "maximum": _MAX_REPLY_SIZE},
            ],
        }
    ),
]
DiskSpace = Annotated[
    int,
    BeforeValidator(parse_disk_space),
    WithJsonSchema(
        {
            "title": "disk space",
            "anyOf": [
                {"type": "string", "pattern": f"^{_DISK_SPACE}$", "examples": ["512MiB", "2GiB"]},
                {"type": "integer", "minimum": 0, "maximum": _MAX_DISK_SPACE},
            ],
        }
    ),
]
Rate = Annotated[float, BeforeValidator(parse_rate), text_schema("rate", _RATE, "100/s")]


_STATUS_EXPRESSION = r"!?[3-5][0-9]{2}(-[3-5][0-9]{2})?"


class StatusRange(NamedTuple):
    """HTTP statuses from `low` to `high`, both included."""

    low: int
    high: int
    #: Whether a delivery with such a status is retried. If not, it is dead immediately.
    retried: bool

    def __str__(self) -> str:
        span = str(self.low) if self.low == self.high else f"{self.low}-{self.high}"
        return span if self.retried else f"!{span}"


def parse_status_range(value: Any) -> Any:
    """Convert `500-599`, `429` or `!501` to a `StatusRange`. 2xx is always a success."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # 429 without quotes is a number in YAML
    if isinstance(value, str) and re.fullmatch(_STATUS_EXPRESSION, value):
        low, _, high = value.removeprefix("!").partition("-")
        found = StatusRange(int(low), int(high or low), retried=not value.startswith("!"))
        if found.low <= found.high:
            return found
    raise invalid_value(
        "not a status expression", 'write a status from 300 to 599 or a range: "500-599", "429", "!501"'
    )


StatusExpression = Annotated[
    InstanceOf[StatusRange],
    BeforeValidator(parse_status_range),
    text_schema("statuses", _STATUS_EXPRESSION, "500-599", "429", "!501"),
]
