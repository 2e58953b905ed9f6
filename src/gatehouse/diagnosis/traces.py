"""Traces of a provider in the headers of a request: whose signature this may be, if not the expected one."""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from gatehouse import providers
from gatehouse.config.presets import raw_preset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.language.request import Request

_SIGNATURE_WORDS = re.compile(
    r"(^|[-_])(sig|signature|hmac|hash|digest|token|secret)($|[-_0-9])", re.IGNORECASE
)
#: Names that anyone gives a signature: they say nothing about whose it is.
_GENERIC = frozenset({"authorization", "signature", "x-signature", "x-webhook-signature"})
#: As many providers as are named; Svix alone signs for many more.
_MOST_NAMED = 3
_ALIKE = 0.75


def other_headers(request: Request, expected: Sequence[str]) -> Iterator[str]:
    """Say which headers are there that may be a signature, other than the expected ones."""
    known = {name.lower() for name in expected}
    present = {name.lower(): name for name in request.headers if name.lower() not in known}
    for lower, name in present.items():
        titles = _owners(lower)
        if titles:
            yield f"{name} is there: that is how {_listed(titles)} signs"
        elif _SIGNATURE_WORDS.search(name) or difflib.get_close_matches(lower, known, n=1, cutoff=_ALIKE):
            yield f"{name} is there: is that the signature?"


def _owners(name: str) -> tuple[str, ...]:
    """Name the providers that sign in this header, or in a newer one that only adds to its name."""
    found = [
        title
        for header, titles in signature_headers().items()
        if header == name or header.startswith(f"{name}-")
        for title in titles
    ]
    return tuple(dict.fromkeys(found))


def _listed(titles: tuple[str, ...]) -> str:
    more = ["another"] if len(titles) > _MOST_NAMED else []
    return " or ".join([*titles[:_MOST_NAMED], *more])


@cache
def signature_headers() -> dict[str, tuple[str, ...]]:
    """Return the header (lower case) of each preset's signature, and the titles of those that use it."""
    found: dict[str, list[str]] = {}
    for name in providers.names():
        preset = raw_preset(name)
        for header in _headers(preset.get("verify")):
            found.setdefault(header.lower(), []).append(preset.get("title") or name)
    return {header: tuple(titles) for header, titles in found.items() if header not in _GENERIC}


def _headers(verify: Any) -> Iterator[str]:  # noqa: ANN401 - a preset's data
    """Find the headers that verifiers read a signature or token from, also inside `any`."""
    if isinstance(verify, (list, tuple)):
        for entry in verify:
            yield from _headers(entry)
    elif isinstance(verify, dict):
        yield from _headers(verify.get("of"))
        place = verify.get("signature", verify)
        header = place.get("header", ()) if isinstance(place, dict) else ()
        names = (header,) if isinstance(header, str) else header
        yield from (name.replace("{n}", "1") for name in names)
