"""Describes verifiers, templates, dedupe keys and routes in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gatehouse.config.model import (
    AllowlistConfig,
    AnyConfig,
    AwsSnsConfig,
    BasicConfig,
    EbayConfig,
    EcdsaConfig,
    Ed25519Config,
    HmacConfig,
    JwtConfig,
    NoneConfig,
    PaypalConfig,
    RsaConfig,
    SigningConfig,
    TokenConfig,
    TruelayerConfig,
    TwilioConfig,
)
from gatehouse.config.quantities import format_duration

if TYPE_CHECKING:
    from gatehouse.config.model import (
        DedupeKeyConfig,
        ProviderConfig,
        RouteConfig,
        SignatureConfig,
        VerifyEntry,
    )
    from gatehouse.config.outgoing import DestinationTlsConfig
    from gatehouse.language.template import Template

#: Verifiers whose description never changes.
_FIXED = {
    BasicConfig: "HTTP Basic credentials",
    TwilioConfig: "HMAC-SHA1 of URL and form, or of URL and hash of the body, in X-Twilio-Signature",
    PaypalConfig: "RSA-SHA256 with PayPal's certificate, in paypal-transmission-sig",
    AwsSnsConfig: "RSA with the certificate of Amazon SNS, inside the body",
    EbayConfig: "ECDSA-SHA1 of {body}, in X-EBAY-SIGNATURE",
    TruelayerConfig: "ECDSA-SHA512 of path, headers and {body}, in Tl-Signature",
    NoneConfig: "nothing (insecure)",
}


_SHORT = {
    "token": "token",
    "basic": "Basic",
    "allowlist": "address",
    "twilio": "HMAC-SHA1",
    "paypal": "RSA-SHA256",
    "aws-sns": "RSA",
    "ebay": "ECDSA-SHA1",
    "truelayer": "ECDSA-SHA512",
    "none": "nothing",
}


def route(config: RouteConfig) -> str:
    """Describe a route: `from shop, types invoice.*, when {body:livemode} is true, to billing, ledger`."""
    sources, types, to = map(", ".join, (config.sources, config.types, config.to))
    when = " and ".join(f"{template(text)} is {condition}" for text, condition in config.when.items())
    return f"from {sources}, types {types}, {f'when {when}, ' if when else ''}to {to}"


def verification(config: ProviderConfig) -> str:
    """Describe how requests are verified: `HMAC-SHA256 of {body} in X-Mando-Signature`."""
    return " and ".join(map(_verifier, config.verify))


def scheme(config: ProviderConfig) -> str:
    """Return a short name of the scheme: `HMAC-SHA256`."""
    entries = [one for entry in config.verify for one in getattr(entry, "of", (entry,))]
    return " + ".join(dict.fromkeys(map(scheme_of, entries)))


def scheme_of(entry: VerifyEntry) -> str:
    """Return a short name of the scheme of one verifier, which is not `any`."""
    match entry:
        case SigningConfig():
            return _algorithm(entry)
        case JwtConfig():
            return f"JWT {entry.algorithm}"
        case _:
            return _SHORT[entry.type]


def template(text: Template) -> str:
    """Format a template as in the config. Alternatives are joined with `or`."""
    return " or ".join(alternatives(text))


def alternatives(text: Template) -> list[str]:
    """Format each alternative of a template."""
    return [
        "".join(part.decode() if isinstance(part, bytes) else str(part) for part in parts)
        for parts in text.alternatives
    ]


def dedupe_key(one: DedupeKeyConfig) -> str:
    """Format a dedupe key, with its own window if it has one: `{signed} (6h)`."""
    return template(one.key) + ("" if one.window is None else f" ({format_duration(one.window)})")


def duration(seconds: float | None) -> str:
    """Format a duration as in the config, or a dash for None."""
    return "—" if seconds is None else format_duration(seconds)


def tls(config: DestinationTlsConfig) -> str:
    """Describe TLS towards a destination."""
    authority = "the authorities of this machine" if config.ca is None else "a private authority"
    return authority if config.cert is None else f"{authority}, with a client certificate"


def _verifier(entry: VerifyEntry) -> str:
    match entry:
        case SigningConfig():
            return _signing(entry)
        case TokenConfig():
            return _token(entry)
        case JwtConfig():
            return f"{entry.algorithm} token (JWT) {_place_of_token(entry)}"
        case AllowlistConfig():
            return f"address in {', '.join(entry.networks)}"
        case AnyConfig():
            return " or ".join(map(_verifier, entry.of))
        case _:
            return _FIXED[type(entry)]


def _place_of_token(entry: JwtConfig) -> str:
    if entry.header:
        return f"in {entry.header}"
    inside = f"in body at {entry.body}" if isinstance(entry.body, str) else "as the body"
    return f"{inside}, with pinned certificates" if entry.certificates else inside


def _signing(entry: SigningConfig) -> str:
    within = ""
    if entry.timestamp and entry.timestamp.tolerance != math.inf:
        within = f", within {format_duration(entry.timestamp.tolerance)}"
    each = f" of each of {entry.each}" if entry.each else ""
    signed = template(entry.signed).replace("\n", "⏎")
    return f"{_algorithm(entry)} of {signed}{each} in {_place(entry.signature)}{within}"


def _algorithm(entry: SigningConfig) -> str:
    match entry:
        case HmacConfig():
            return f"HMAC-{entry.digest.upper()}"
        case EcdsaConfig():
            return f"ECDSA-{entry.digest.upper()}"
        case RsaConfig():
            return f"RSA-{entry.digest.upper()}"
        case Ed25519Config():
            return "Ed25519"
        case _:
            raise TypeError(type(entry))


def _token(entry: TokenConfig) -> str:
    if entry.header:
        return f"token in {entry.header}"
    if entry.query:
        return f"token in query parameter {entry.query}"
    each = f", in each of {entry.each}" if entry.each else ""
    return f"token in form field {entry.form}" if entry.form else f"token in body at {entry.body}{each}"


def _place(signature: SignatureConfig) -> str:
    if signature.header:
        return " or ".join(signature.header)
    return f"body at {signature.body}" if signature.body else f"form field {signature.form}"
