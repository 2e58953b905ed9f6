"""Checks the conditions of routes: what they may read, and whether they can hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gatehouse.config.base import parse_template
from gatehouse.config.hints import escaped
from gatehouse.config.rules import parse_or_none, source_path, value_at
from gatehouse.config.secrets import names_credential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatehouse.config.document import YamlDocument
    from gatehouse.config.model import SourceConfig
    from gatehouse.errors import Problem
    from gatehouse.language.conditions import Condition
    from gatehouse.language.template import Placeholder, Template

#: Placeholders that conditions may read: the content of events. Others are replaced per source, belong to
#: handshakes, or tell only how a request was signed.
_CONTENT = ("body", "body_name", "outer", "form", "header", "path", "query", "query_lower")
#: Text that a number as in JSON never contains.
_NOT_NUMERIC = re.compile(rb"[^-+.0-9eE]")

_CONSTANT = "the template is the same text for every event"


def condition_problems(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Return the templates of conditions that no route may read."""
    routes = data.get("routes")
    for index, route in enumerate(routes if isinstance(routes, tuple) else ()):
        when = value_at(route, "when")
        for text in when if isinstance(when, dict) else ():
            template = parse_or_none(parse_template, text)
            for part in sorted(template.placeholders, key=str) if template else ():
                problem = _unfit(part)
                if problem:
                    yield document.problem(("routes", index, "when", text), *problem)


def _unfit(part: Placeholder) -> tuple[str, str] | None:
    """Return why routes may not read a placeholder, and a hint; None if they may."""
    if part.name not in _CONTENT:
        return f"{part} cannot select events", 'use a value of the event, as in "{body:data.currency}"'
    named = part.name in ("header", "query", "query_lower")
    if named and names_credential(part.argument.lower()):
        message = f'"{escaped(part.argument)}" carries credentials, which the gateway never stores'
        return message, "use another value of the event"
    return None


def why_never(
    template: Template, condition: Condition, sources: Iterable[tuple[str, SourceConfig]]
) -> str | None:
    """Return why a condition can never hold for events of these sources, or None if it can."""
    if condition.is_contradiction:
        return "its entries refuse all that they accept"
    if condition.only_compares and all(map(_is_no_number, template.alternatives)):
        return "the value is never a number"
    if not template.placeholders:
        (literals, *_) = template.alternatives
        return None if condition.holds(_literal(literals)) else _CONSTANT
    if not condition.holds(None) and all(_is_missing(template, source) for _, source in sources):
        return "these sources have no such value"
    if str(next(iter(template.placeholders))) == "{path}" and len(template.alternatives[0]) == 1:
        paths = [source_path(name, source.path) for name, source in sources]
        return None if any(map(condition.holds, paths)) else "no source of this route has such a path"
    return None


def _is_no_number(parts: Iterable[bytes | Placeholder]) -> bool:
    """Return whether a template contains text that no number contains, or a value that is never one."""
    return any(
        _NOT_NUMERIC.search(part) if isinstance(part, bytes) else part.name == "path" for part in parts
    )


def _literal(parts: Iterable[bytes | Placeholder]) -> str:
    return b"".join(part for part in parts if isinstance(part, bytes)).decode()


def _is_missing(template: Template, source: SourceConfig) -> bool:
    """Return whether a template never resolves for a source, because its events have no such part."""
    return all(any(_is_absent(part, source) for part in parts) for parts in template.alternatives)


def _is_absent(part: bytes | Placeholder, source: SourceConfig) -> bool:
    if isinstance(part, bytes) or part.optional:
        return False
    return part.name == "outer" and source.event.split is None and source.event.document is None
