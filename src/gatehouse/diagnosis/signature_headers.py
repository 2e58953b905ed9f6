"""The headers that carry signatures: those that are missing or occur twice, and those of other providers."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from gatehouse import providers
from gatehouse.config.model import BasicConfig, JwtConfig, SigningConfig, TokenConfig
from gatehouse.config.presets import raw_preset
from gatehouse.diagnosis.finding import Finding, plain
from gatehouse.diagnosis.observations import about_signed_parts, in_words, text_of
from gatehouse.diagnosis.wording import counted
from gatehouse.language.document import Document, MalformedDocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.model import VerifyEntry
    from gatehouse.diagnosis.known import KnownVerifier
    from gatehouse.language.request import Request

#: The header of each scheme that has no key for it.
_FIXED = {
    "twilio": ("X-Twilio-Signature",),
    "ebay": ("X-EBAY-SIGNATURE",),
    "truelayer": ("Tl-Signature",),
    "paypal": ("PAYPAL-TRANSMISSION-SIG",),
}
_SIGNATURE_WORDS = re.compile(
    r"(^|[-_])(sig|signature|hmac|hash|digest|token|secret)($|[-_0-9])", re.IGNORECASE
)
#: Names that any provider may use, so they do not identify one.
_GENERIC = frozenset({"authorization", "signature", "x-signature", "x-webhook-signature"})
#: A header after the key `header` in the text of a preset.
_PLACE = re.compile(r"\bheader:\s*[\"']?((?:{n}|[^\s\"',}])+)")
#: How many providers a finding names. Many sign through Svix.
_MAX_NAMED = 3
#: How similar a header must be to an expected one, from 0 to 1.
_SIMILAR = 0.75
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def about_missing_signature(
    verifiers: Sequence[KnownVerifier], request: Request, *, with_suggestions: bool = True
) -> Iterator[Finding]:
    """Name the place where a signature or token is missing, and suggest the headers that may contain it."""
    present = [one for one in verifiers if _has_signature(one.entry, request)]
    for one in present:  # the signature is there, so another signed part is missing
        yield from about_signed_parts(one, request)
    if present:
        return
    expected = [name for one in verifiers for name in header_names(one.entry)]
    for name in expected:
        if not any(request.headers.getall(name, ())):
            state = "empty" if name in request.headers else "missing"
            yield Finding(f"The header {name} is {state}.", expected=f"the header {name}", received=state)
    for one in verifiers:
        if not header_names(one.entry):
            yield _missing_outside_headers(one.entry)
    if not with_suggestions:
        return
    others = list(other_headers(verifiers, request))
    yield from others
    if expected and not others and not any(request.headers.getall(name, ()) for name in expected):
        yield Finding(
            "No header looks like a signature. Check at the provider that a secret is set and that requests "
            "are signed, and check that no proxy removes headers.",
            certain=False,
        )


def header_names(entry: VerifyEntry) -> tuple[str, ...]:
    """Return the headers from which a verifier reads its signature or credentials."""
    match entry:
        case SigningConfig():
            return tuple(name.replace("{n}", "1") for name in entry.signature.header)
        case TokenConfig() | JwtConfig():
            return (entry.header,) if entry.header else ()
        case BasicConfig():
            return ("Authorization",)
        case _:
            return _FIXED.get(entry.type, ())


def _missing_outside_headers(entry: VerifyEntry) -> Finding:
    what = "token" if isinstance(entry, TokenConfig | JwtConfig) else "signature"
    place = in_words(entry.signature if isinstance(entry, SigningConfig) else entry)
    where = f": expected in {place}" if place else ""
    each = getattr(entry, "each", None)
    text = (
        f"The elements of `{each}` have no {what}{where}." if each else f"The request has no {what}{where}."
    )
    return Finding(text, expected=f"a {what} in {plain(place)}" if place else f"a {what}", received="missing")


def about_duplicates(entry: VerifyEntry, request: Request) -> Iterator[Finding]:
    """Name the headers that occur more than once."""
    names = list(header_names(entry))
    if isinstance(entry, SigningConfig) and entry.timestamp and entry.timestamp.header:
        names.append(entry.timestamp.header)
    for name in dict.fromkeys(names):
        count = len(request.headers.getall(name, ()))
        if count > 1:
            times = "twice" if count == 2 else counted(count, "time")  # noqa: PLR2004
            yield Finding(
                f"The header {name} occurs {times}, but Gatehouse expects it once. Find the proxy that adds "
                "it, and configure it to forward the provider's header only.",
                expected=f"the header {name} once",
                received=times,
            )


def _has_signature(entry: VerifyEntry, request: Request) -> bool:
    return isinstance(entry, SigningConfig) and entry.each is None and bool(text_of(entry.signature, request))


def other_headers(verifiers: Sequence[KnownVerifier], request: Request) -> Iterator[Finding]:
    """Name the headers, other than the expected ones, that may be a signature."""
    expected = {name.lower() for one in verifiers for name in header_names(one.entry)}
    present = {name.lower(): name for name in request.headers if name.lower() not in expected}
    for lower, name in present.items():
        titles = _owners(lower)
        if titles:
            yield Finding(
                f"The header {name} is present: {_listed(titles)} signs in it. If that is the provider, use "
                "its preset (`provider: NAME`); `gatehouse providers` lists the names.",
                expected=_expected_headers(verifiers),
                received=f"the header {name}, as {_listed(titles)} sends it",
                change=_provider_key(verifiers),
                certain=False,
            )
        elif _SIGNATURE_WORDS.search(name) or difflib.get_close_matches(lower, expected, 1, cutoff=_SIMILAR):
            key, path = _header_key(verifiers, name)
            advice = f"set `{key}` in `{path}`" if key else "the source needs another `verify`"
            yield Finding(
                f"The header {name} is present. If it is the signature, {advice}.",
                expected=_expected_headers(verifiers),
                received=f"the header {name}",
                change=f"{path}.{key}" if key else None,
                certain=False,
            )


def _expected_headers(verifiers: Sequence[KnownVerifier]) -> str | None:
    names = dict.fromkeys(name for one in verifiers for name in header_names(one.entry))
    return f"the header {' or '.join(names)}" if names else None


def _provider_key(verifiers: Sequence[KnownVerifier]) -> str | None:
    return next((f"{'.'.join(one.path.split('.')[:2])}.provider" for one in verifiers), None)


def _header_key(verifiers: Sequence[KnownVerifier], name: str) -> tuple[str, str]:
    """Return the key that sets the header of a verifier, and the verifier's path; empty if none has one."""
    for one in verifiers:
        if isinstance(one.entry, SigningConfig):
            return f"signature: {{header: {name}}}", one.path
        if isinstance(one.entry, TokenConfig | JwtConfig):
            return f"header: {name}", one.path
    return "", ""


def _owners(name: str) -> tuple[str, ...]:
    """Return the providers that sign in this header, or in a newer one whose name only adds to this one."""
    found = [
        raw_preset(provider).get("title") or provider
        for provider, mentioned in _mentioned_headers().items()
        if any(_is_or_adds_to(header, name) for header in mentioned)
        and any(_is_or_adds_to(header, name) for header in _signature_headers(provider))
    ]
    return tuple(dict.fromkeys(found))


def _is_or_adds_to(header: str, name: str) -> bool:
    return header == name or header.startswith(f"{name}-")


def _listed(titles: tuple[str, ...]) -> str:
    names = [*titles[:_MAX_NAMED], *(["another provider"] if len(titles) > _MAX_NAMED else [])]
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


@cache
def _mentioned_headers() -> dict[str, frozenset[str]]:
    """Map each preset to the headers (lower case) that its text mentions as a place.

    To read the text as YAML takes a hundred times as long, so that is only done for the few that matter.
    """
    return {
        name: frozenset(_numbered(header) for header in _PLACE.findall(providers.text(name)))
        for name in providers.names()
    }


def _signature_headers(provider: str) -> frozenset[str]:
    """Return the headers (lower case) in which a provider signs, except those that any provider may use."""
    return frozenset(map(_numbered, _headers(raw_preset(provider).get("verify")))) - _GENERIC


def _numbered(header: str) -> str:
    return header.replace("{n}", "1").lower()


def _headers(verify: Any) -> Iterator[str]:  # noqa: ANN401 - a preset's data
    """Find the headers from which verifiers read a signature or token, also inside `any`."""
    if isinstance(verify, (list, tuple)):
        for entry in verify:
            yield from _headers(entry)
    elif isinstance(verify, dict):
        yield from _headers(verify.get("of"))
        place = verify.get("signature", verify)
        header = place.get("header", ()) if isinstance(place, dict) else ()
        names = (header,) if isinstance(header, str) else header
        yield from names


def ebay_key_id(header: str) -> str | None:
    """Return the key id (`kid`) in an X-EBAY-SIGNATURE header, or None if there is no usual one.

    The key id is not secret: eBay's API returns the public key for it.
    """
    try:
        document = Document(base64.b64decode(header, validate=True))
        kid = document.text(("kid",))
    except (binascii.Error, ValueError, MalformedDocumentError):
        return None
    return kid if kid and _KEY_ID.fullmatch(kid) else None
