"""Masks a refused request for operators: hides every value that may be a credential.

A value is shown in full only if its header is known to hold something else. So a signature stays hidden even
under a name that the config does not mention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.config.model import SigningConfig
from gatehouse.diagnosis.signature_headers import ebay_key_id
from gatehouse.telemetry.log import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.model import SourceConfig
    from gatehouse.ingest.source import Source
    from gatehouse.language.request import Request

#: Headers that describe the transport and the body.
_PLAIN = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type"),
        *("date", "expect", "host", "transfer-encoding", "user-agent", "via"),
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"),
    }
)
#: The first characters would reveal too much of a shorter value.
_SHORTEST_SHOWN = 16
_SHOWN = 4
_LONGEST = 200


def masked_headers(request: Request, source: Source) -> list[tuple[str, str]]:
    """Return the headers in the order sent, with masked values."""
    plain = _PLAIN | set(_configured(source.settings)) - _credentials(source)
    return [
        (name, clean(value)[:_LONGEST] if name.lower() in plain else mask(value) + _key_id(name, value))
        for name, value in request.headers.items()
    ]


def _key_id(name: str, value: str) -> str:
    """Return the id of the public key in a signature of eBay, which an operator needs to fetch the key."""
    kid = ebay_key_id(value) if name.lower() == "x-ebay-signature" else None
    return f", kid {kid}" if kid else ""


def query_names(request: Request) -> list[str]:
    """Return the names of the query parameters. A part without a name is a value, so it is hidden."""
    pairs = (pair.partition("=") for pair in request.query.split("&") if pair)
    return [clean(name)[:_LONGEST] if equals else "…" for name, equals, _ in pairs]


def mask(value: str) -> str:
    """Show the first characters of a longer value, and its length."""
    start = clean(value[:_SHOWN]) if len(value) >= _SHORTEST_SHOWN else ""
    return f"{start}… ({len(value)} characters)"


def _configured(settings: SourceConfig) -> Iterator[str]:
    """Return the headers from which the config reads an event or a timestamp."""
    event = settings.event
    for template in (
        event.id,
        event.type,
        event.time,
        event.subject,
        event.account,
        *settings.dedupe.templates,
    ):
        for placeholder in template.placeholders if template else ():
            if placeholder.name == "header":
                yield placeholder.argument.lower()
    for entry in settings.verify:
        if isinstance(entry, SigningConfig) and entry.timestamp and entry.timestamp.header:
            yield entry.timestamp.header.lower()


def _credentials(source: Source) -> frozenset[str]:
    if source.not_ready is not None:
        return frozenset(_configured(source.settings))  # unknown, so all are masked
    return frozenset().union(*(v.credential_headers() for v in source.verification.verifiers))
