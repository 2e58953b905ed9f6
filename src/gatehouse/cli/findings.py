"""Writes why a request is refused, and what was kept of it."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Any

from gatehouse.cli.output import is_terminal, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: The width of a paragraph on a wide terminal, in cells.
_MAX_WIDTH = 100


def refused_request(record: dict[str, Any]) -> Iterator[str]:
    """Describe a refused request of the API: the reason, the findings, and the request."""
    yield from refusal(record["reason"] or record["outcome"], record["findings"], record.get("explained", ()))
    yield from _request(record)


def refusal(
    reason: str | None, findings: Iterable[str], explained: Iterable[Mapping[str, Any]] = ()
) -> Iterator[str]:
    """Describe why a request is refused."""
    yield f"Refused: {reason}"
    yield from each_finding(findings, explained)


def each_finding(findings: Iterable[str], explained: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Write each finding, and below it the keys of the config whose new values are known.

    A finding about a secret names it already.
    """
    changes = {each["text"]: (each["change"] or "").splitlines() for each in explained}
    for text in findings:
        yield finding(text)
        for change in changes.get(text, ()):
            if ": " in change and ".secrets: " not in change:
                yield f"   change  {visible(change)}"


def finding(text: str) -> str:
    """Write a finding as an item of a list. On a terminal, break its lines between words."""
    text = visible(text)
    if not is_terminal():
        return f" - {text}"
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
    return textwrap.fill(
        text,
        width,
        initial_indent=" - ",
        subsequent_indent="   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _request(record: dict[str, Any]) -> Iterator[str]:
    query = "&".join(f"{name}=…" for name in record["query"])
    line = f"{record['method']} {record['path']}{'?' if query else ''}{query}"
    yield f"Request {record['id']} to the source {record['source']}"
    yield f"  time     {record['time']}"
    yield f"  client   {client(record)}"
    yield f"  answer   {record['status']}"
    yield f"  line     {visible(line)}"
    for name, value in record["headers"]:
        yield f"  header   {visible(name)}: {visible(value)}"
    body = record["body"]
    length = "not read" if body["length"] is None else f"{body['length']} bytes"
    yield f"  body     {length}" + (f", SHA-256 {body['sha256']}…" if body["sha256"] else "")


def client(record: dict[str, Any]) -> str:
    """Return the address that a refused request came from."""
    return "unknown" if record["client"] is None else visible(record["client"])
