"""Status expressions of `retry_on`: `429`, `500-599`, and with a `!` in front those that are final."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, InstanceOf

from gatehouse.config.scalars import in_words, wrong

_EXPRESSION = r"!?[3-5][0-9]{2}(-[3-5][0-9]{2})?"


class StatusRange(NamedTuple):
    """HTTP statuses from `low` to `high`, both included."""

    low: int
    high: int
    #: Whether a delivery that got one is tried again; if not, it is dead at once.
    retried: bool

    def __str__(self) -> str:
        span = str(self.low) if self.low == self.high else f"{self.low}-{self.high}"
        return span if self.retried else f"!{span}"


def parse_status_range(value: Any) -> Any:
    """Turn `500-599`, `429` or `!501` into a `StatusRange`. 2xx is no question: it is delivered."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # 429 without quotes is a number to YAML, and can mean nothing else
    if isinstance(value, str) and re.fullmatch(_EXPRESSION, value):
        low, _, high = value.removeprefix("!").partition("-")
        found = StatusRange(int(low), int(high or low), retried=not value.startswith("!"))
        if found.low <= found.high:
            return found
    raise wrong("not a status expression", 'a status from 300 to 599 or a range: "500-599", "429", "!501"')


StatusExpression = Annotated[
    InstanceOf[StatusRange],
    BeforeValidator(parse_status_range),
    in_words("statuses", _EXPRESSION, "500-599", "429", "!501"),
]
