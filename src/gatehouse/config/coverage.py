"""What the verifiers of a source cover: which values nobody but the provider can have written.

Whoever holds a captured request can send it again with other unsigned parts. So a dedupe key stops a replay
only when everything in it is covered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.config.model import (
    AnyConfig,
    AwsSnsConfig,
    EbayConfig,
    JwtConfig,
    PaypalConfig,
    SigningConfig,
    TwilioConfig,
)
from gatehouse.template import Placeholder

if TYPE_CHECKING:
    from gatehouse.config.model import ProviderConfig, VerifyEntry
    from gatehouse.template import Template

_WHOLE_BODY = ("body", "body_sorted", "body_name", "item_sha256", "outer")
_FORM = ("form", "form_sorted")
_URL = ("url", "url_decoded", "query", "query_lower", "path")
#: What Amazon SNS signs: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
_SNS = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
#: Given by the verifier itself, out of what is signed, or written in the config.
_GIVEN = ("signed", "timestamp", "id", "claims", "value", "method")


def signs(config: ProviderConfig) -> bool:
    """Tell whether anything is signed. Where nothing is, a capture holds the credential itself."""
    return any(map(_signs, config.verify))


def resists_replay(config: ProviderConfig) -> bool:
    """Tell whether a captured request under another unsigned id is still a duplicate.

    An event type that is not signed may be part of a key: under another type it is another event to anyone.
    """
    return any(_is_covered(template, config) for template in config.dedupe.templates)


def covers_body(entry: VerifyEntry) -> bool:
    """Tell whether a verifier ties its proof to the body, or says that there is nothing to tie."""
    return not _signs(entry) or _covers(entry, Placeholder("body")) or bool(getattr(entry, "each", None))


def _is_covered(template: Template, config: ProviderConfig) -> bool:
    """Every alternative counts: which of them resolves may be up to who sends."""
    parts = [part for parts in template.alternatives for part in parts if isinstance(part, Placeholder)]
    types = config.event.type.placeholders
    return any(part not in types for part in parts) and all(
        part in types or any(_covers(entry, part) for entry in config.verify) for part in parts
    )


def _signs(entry: VerifyEntry) -> bool:
    signing = SigningConfig | TwilioConfig | PaypalConfig | AwsSnsConfig | EbayConfig
    if isinstance(entry, AnyConfig):
        return any(map(_signs, entry.of))
    return isinstance(entry, signing) or (
        isinstance(entry, JwtConfig) and bool(entry.body or entry.body_hash)
    )


def _covers(entry: VerifyEntry, part: Placeholder) -> bool:
    if isinstance(entry, AnyConfig):
        return all(_covers(one, part) for one in entry.of)
    if not _signs(entry) or part.name in _GIVEN:
        return _signs(entry)
    match entry:
        case SigningConfig():
            return _is_signed(entry, part)
        case AwsSnsConfig():
            return part.name in ("body", "outer") and part.argument.partition(".")[0] in _SNS
        case _:
            url = _URL if isinstance(entry, TwilioConfig) else ()
            return part.name in (*_WHOLE_BODY, *_FORM, *url)


def _is_signed(entry: SigningConfig, part: Placeholder) -> bool:
    """Look for the value in every alternative of what is signed, by itself or inside something larger."""
    return all(
        any(not isinstance(inner, bytes) and _holds(inner, part) for inner in parts)
        for parts in entry.signed.alternatives
    ) or (entry.id is not None and part in entry.id.placeholders)


def _holds(signed: Placeholder, part: Placeholder) -> bool:
    if (signed.name, signed.argument) == (part.name, part.argument):
        return True
    if signed.name in ("body", "body_sorted", "body_sha256") and not signed.argument:
        return part.name in (*_WHOLE_BODY, *_FORM)
    if signed.name == "form_sorted":
        # The events are read out of the form, be it field by field or out of a document in one.
        return part.name in (*_FORM, *_WHOLE_BODY)
    if signed.name == "form":
        return part.name in _WHOLE_BODY  # the document inside the field
    if signed.name == "query" and not signed.argument:
        return part.name == "query"
    return signed.name in ("url", "url_decoded") and part.name in _URL
