"""Determines which values of a request the verifiers of a source prove to come from the provider.

Anyone who has captured a request can send it again with other unsigned parts. A dedupe key therefore stops a
replay only if all of its values are signed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gatehouse.config.model import (
    AnyConfig,
    AwsSnsConfig,
    EbayConfig,
    JwtConfig,
    PaypalConfig,
    SigningConfig,
    TruelayerConfig,
    TwilioConfig,
)
from gatehouse.language.template import Placeholder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.model import ProviderConfig, VerifyEntry
    from gatehouse.language.template import Template

_WHOLE_BODY = ("body", "body_sorted", "body_name", "item_sha256", "outer")
_FORM = ("form", "form_sorted")
_URL = ("url", "url_decoded", "query", "query_lower", "path")
#: The headers that PayPal signs. It signs the body only by a checksum, which another body may share.
_PAYPAL = ("paypal-transmission-id", "paypal-transmission-time")
#: PayPal retries for three days.
#: https://developer.paypal.com/api/rest/webhooks/
PAYPAL_MAX_AGE = 4 * 86400.0
#: The fields that Amazon SNS signs:
#: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
_SNS = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
#: Placeholders with signed values from the verifier, or with values from the config.
_FROM_VERIFIER_OR_CONFIG = ("signed", "timestamp", "id", "claims", "value", "method")


def signs(config: ProviderConfig) -> bool:
    """Return whether the requests are signed.

    If not, a captured request contains the credentials themselves.
    """
    return any(map(_signs, config.verify))


def resists_replay(config: ProviderConfig) -> bool:
    """Return whether a captured request with another unsigned id is still a duplicate.

    A key may contain an unsigned event type, because with another type it is another event for every
    receiver.
    """
    return any(_is_covered(template, config) for template in config.dedupe.templates)


def covers_body(entry: VerifyEntry) -> bool:
    """Return whether the signature of a verifier covers the body.

    Also True for verifiers without signatures.
    """
    return not _signs(entry) or _covers(entry, Placeholder("body")) or bool(getattr(entry, "each", None))


def covers_time(config: ProviderConfig) -> bool:
    """Return whether `event.time` is signed in every alternative of its template."""
    time = config.event.time
    return time is not None and all(
        any(_covers(entry, part) for entry in config.verify) for part in time.placeholders
    )


def proves_timestamp(config: ProviderConfig) -> bool:
    """Return whether `{timestamp}` is always a signed value."""
    every = list(all_verifiers(config))
    return any(map(_gives_timestamp, every)) and not any(map(has_unsigned_timestamp, every))


def signs_time(config: ProviderConfig) -> bool:
    """Return whether a signed value tells when the provider made a request."""
    return proves_timestamp(config) or covers_time(config)


def effective_max_age(config: ProviderConfig) -> float | None:
    """Return the maximum age of a request (seconds), limited by the dedupe windows. None means no limit.

    PayPal always has a limit. It signs only a checksum of the body, so a captured request may fit other
    bodies.
    """
    max_age = config.max_age
    if max_age is None and any(isinstance(entry, PaypalConfig) for entry in all_verifiers(config)):
        max_age = PAYPAL_MAX_AGE
    return None if max_age is None else min(max_age, max(config.dedupe.windows, default=config.dedupe.window))


def replay_window(config: ProviderConfig) -> float | None:
    """Return how long a captured request with other unsigned ids is a duplicate (seconds).

    None means never.
    """
    keys = zip(config.dedupe.templates, config.dedupe.windows, strict=True)
    return max((window for template, window in keys if _is_covered(template, config)), default=None)


def limits_age(config: ProviderConfig) -> bool:
    """Return whether a captured request becomes too old to pass at some time."""
    return effective_max_age(config) is not None or any(map(_limits_age, config.verify))


def all_verifiers(config: ProviderConfig) -> Iterator[VerifyEntry]:
    """Return all verifiers, including those inside `any`."""
    for entry in config.verify:
        yield from entry.of if isinstance(entry, AnyConfig) else (entry,)


def has_unsigned_timestamp(entry: VerifyEntry) -> bool:
    """Return whether a verifier checks a timestamp that is not signed."""
    if isinstance(entry, AnyConfig):
        return any(map(has_unsigned_timestamp, entry.of))
    if not isinstance(entry, SigningConfig) or entry.timestamp is None:
        return False
    names = {placeholder.name for placeholder in entry.signed.placeholders}
    covered = {"timestamp"} | ({"body", "body_sorted"} if entry.timestamp.body else set())
    covered |= {"url", "url_decoded"} if entry.timestamp.query else set()
    return not names & covered


def _gives_timestamp(entry: VerifyEntry) -> bool:
    if isinstance(entry, SigningConfig):
        return entry.timestamp is not None and entry.each is None
    return isinstance(entry, PaypalConfig | AwsSnsConfig | TruelayerConfig | JwtConfig)


def _limits_age(entry: VerifyEntry) -> bool:
    """With `any`, every alternative must have a limit, because a sender can choose the one without."""
    match entry:
        case AnyConfig():
            return all(map(_limits_age, entry.of))
        case SigningConfig():
            has_limit = entry.timestamp is not None and entry.timestamp.tolerance != math.inf
            return has_limit and not has_unsigned_timestamp(entry)
        case JwtConfig():
            return entry.max_age is not None
        case _:
            return isinstance(entry, AwsSnsConfig | TruelayerConfig)


def _is_covered(template: Template, config: ProviderConfig) -> bool:
    """Return whether every alternative is covered, because a sender may influence which one resolves."""
    parts = [part for parts in template.alternatives for part in parts if isinstance(part, Placeholder)]
    types = config.event.type.placeholders
    return any(part not in types for part in parts) and all(
        part in types or any(_covers(entry, part) for entry in config.verify) for part in parts
    )


def _signs(entry: VerifyEntry) -> bool:
    signing = SigningConfig | TwilioConfig | PaypalConfig | AwsSnsConfig | EbayConfig | TruelayerConfig
    if isinstance(entry, AnyConfig):
        return any(map(_signs, entry.of))
    return isinstance(entry, signing) or (
        isinstance(entry, JwtConfig) and bool(entry.body or entry.body_hash)
    )


def _covers(entry: VerifyEntry, part: Placeholder) -> bool:
    if isinstance(entry, AnyConfig):
        return all(_covers(one, part) for one in entry.of)
    if not _signs(entry) or part.name in _FROM_VERIFIER_OR_CONFIG:
        return _signs(entry)
    match entry:
        case SigningConfig():
            return _is_signed(entry, part)
        case PaypalConfig():
            return part.name == "header" and part.argument.lower() in _PAYPAL
        case AwsSnsConfig():
            return part.name in ("body", "outer") and part.argument.partition(".")[0] in _SNS
        case _:
            url = _URL if isinstance(entry, TwilioConfig) else ()
            # The body around a token is not signed. Events are read from the token.
            is_signed = part.name != "outer" or not isinstance(getattr(entry, "body", None), str)
            return part.name in (*_WHOLE_BODY, *_FORM, *url) and is_signed


def _is_signed(entry: SigningConfig, part: Placeholder) -> bool:
    """Return whether every alternative of `signed` contains the value, alone or inside a larger value."""
    return all(
        any(not isinstance(inner, bytes) and _contains(inner, part) for inner in parts)
        for parts in entry.signed.alternatives
    ) or (entry.id is not None and part in entry.id.placeholders)


def _contains(signed: Placeholder, part: Placeholder) -> bool:
    if (signed.name, signed.argument) == (part.name, part.argument):
        return True
    if signed.name in ("body", "body_sorted", "body_sha256") and not signed.argument:
        return part.name in (*_WHOLE_BODY, *_FORM)
    if signed.name == "form_sorted":
        # Events are read from the fields of the form, or from a document in one of the fields.
        return part.name in (*_FORM, *_WHOLE_BODY)
    if signed.name == "form":
        return part.name in _WHOLE_BODY  # the document inside the field
    if signed.name == "query" and not signed.argument:
        return part.name == "query"
    return signed.name in ("url", "url_decoded") and part.name in _URL
