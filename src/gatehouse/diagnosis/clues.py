"""What a refused request shows without trying anything: missing, doubled or malformed parts, its time, its
provider.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import ipaddress
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from gatehouse import providers
from gatehouse.config.model import BasicConfig, HmacConfig, JwtConfig, SigningConfig, TokenConfig
from gatehouse.config.presets import raw_preset
from gatehouse.diagnosis.variants import text_of
from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError, is_json
from gatehouse.language.request import as_sent
from gatehouse.language.scope import Scope
from gatehouse.language.template import Template
from gatehouse.language.times import parse_iso8601
from gatehouse.verify.places import place
from gatehouse.verify.signature import SignaturePlace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.model import VerifyEntry
    from gatehouse.language.request import Request
    from gatehouse.verify.freshness import Unit

#: Where the schemes without a choice carry their signature.
_FIXED = {
    "twilio": ("X-Twilio-Signature",),
    "ebay": ("X-EBAY-SIGNATURE",),
    "paypal": ("PAYPAL-TRANSMISSION-SIG",),
}
_DIGEST = re.compile(r"(?:([A-Za-z0-9-]+)=)?:?([A-Za-z0-9+/]{16,88}={0,2}):?")
_SIZES = {"sha1": 20, "sha256": 32, "sha512": 64}


def about_request(request: Request) -> Iterator[str]:
    """Say what is odd about the request, whatever the scheme."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        yield "Content-Encoding is there: the body is compressed, which the gateway does not undo"
    announced = request.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and len(announced) < 12:  # noqa: PLR2004 - no body is longer
        difference = len(request.body) - int(announced)
        if difference:
            what = "more" if difference > 0 else "fewer"
            count = f"{abs(difference)} byte{'' if abs(difference) == 1 else 's'}"
            yield f"the body has {count} {what} than Content-Length says"
    if not request.body:
        yield "the body is empty"


def about_absence(entries: Sequence[VerifyEntry], request: Request) -> Iterator[str]:
    """Say where a signature or token should be, and what is there instead."""
    expected = [name for entry in entries for name in header_names(entry)]
    carrying = [entry for entry in entries if isinstance(entry, SigningConfig) and _carries(entry, request)]
    for signing in carrying:  # what is missing is something else that is signed
        yield from _about_signed(signing, request)
    if carrying:
        return
    for name in expected:
        if not any(request.headers.getall(name, ())):
            yield f"{name} is {'empty' if name in request.headers else 'not there'}"
    for entry in entries:
        if not header_names(entry):
            yield f"there is no signature {_place_in_words(entry)}"
    others = list(other_headers(request, expected))
    yield from others
    if expected and not others and not any(request.headers.getall(name, ()) for name in expected):
        yield "no header looks like a signature: does the provider sign, and does a proxy drop headers?"


def header_names(entry: VerifyEntry) -> tuple[str, ...]:
    """Name the headers that a verifier reads its signature or credentials from."""
    match entry:
        case SigningConfig():
            return tuple(name.replace("{n}", "1") for name in entry.signature.header)
        case TokenConfig() | JwtConfig():
            return (entry.header,) if entry.header else ()
        case BasicConfig():
            return ("Authorization",)
        case _:
            return _FIXED.get(entry.type, ())


def _place_in_words(entry: VerifyEntry) -> str:
    place = entry.signature if isinstance(entry, SigningConfig) else entry
    for kind, words in (("form", "in the form field"), ("query", "in the query parameter"), ("body", "at")):
        name = getattr(place, kind, None)
        if isinstance(name, str):
            each = getattr(entry, "each", None)
            whole = f"each element of {each}" if each else "the body"
            return f"{words} {name}" + (f" of {whole}" if kind == "body" else "")
    return "in the request"


def about_twins(entry: VerifyEntry, request: Request) -> Iterator[str]:
    """Name the headers that are there more than once."""
    names = list(header_names(entry))
    if isinstance(entry, SigningConfig) and entry.timestamp and entry.timestamp.header:
        names.append(entry.timestamp.header)
    for name in dict.fromkeys(names):
        count = len(request.headers.getall(name, ()))
        if count > 1:
            times = "twice" if count == 2 else f"{count} times"  # noqa: PLR2004
            yield f"{name} is there {times}: something in front added one"


def about_form(entry: VerifyEntry, request: Request) -> Iterator[str]:
    """Compare how the signature is written with how it should be: prefix and length."""
    if not isinstance(entry, HmacConfig) or entry.signature.format != "plain":
        return
    text, prefix = text_of(entry.signature, request), entry.signature.prefix
    if not text.startswith(prefix):
        yield f'the signature does not start with `prefix: "{prefix}"`'
        return
    length, expected = len(text) - len(prefix), _length(_SIZES[entry.digest], entry.signature.encoding)
    if length != expected:
        fitting = [
            f"{digest} in {encoding}"
            for digest, size in _SIZES.items()
            for encoding in ("hex", "base64")
            if _length(size, encoding) == length
        ]
        seems = f", as {fitting[0]} has" if fitting else ""
        configured = f"{entry.digest} in {entry.signature.encoding}"
        yield f"the signature has {length} characters{seems}; {configured} has {expected}"


def _length(size: int, encoding: str) -> int:
    if encoding == "hex":
        return 2 * size
    return len(base64.b64encode(bytes(size)).rstrip(b"=" if encoding == "base64url" else b""))


class BodyDigest(NamedTuple):
    """What a header says of the body, compared with the body that came."""

    said: str
    is_changed: bool


def about_digest(request: Request) -> BodyDigest | None:
    """Compare the body with a digest of it, when the sender gave one: it is not signed, and still tells.

    `Content-Digest` and `Repr-Digest` (RFC 9530), `Digest` (RFC 3230) and `Content-MD5`.
    """
    for name in ("Content-Digest", "Repr-Digest", "Digest", "Content-MD5"):
        for algorithm, text in _DIGEST.findall(request.headers.get(name, "")):
            kind = "md5" if name == "Content-MD5" else algorithm.lower().replace("-", "")
            if kind in ("sha256", "sha512", "md5"):
                own = base64.b64encode(
                    hashlib.new(kind, request.body, usedforsecurity=False).digest()
                ).decode()
                if own.rstrip("=") == text.rstrip("="):
                    return BodyDigest(f"the body is as {name} says", is_changed=False)
                return BodyDigest(
                    f"the body is not what {name} says: it was changed on the way", is_changed=True
                )
    return None


def about_credentials(entry: VerifyEntry, request: Request) -> Iterator[str]:
    """Say which half of Basic credentials is wrong."""
    if not isinstance(entry, BasicConfig):
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        yield "Authorization holds no Basic credentials, but another kind"
        return
    try:
        user, colon, _ = base64.b64decode(given, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        yield "the Basic credentials are not base64"
        return
    if not colon:
        yield "the Basic credentials have no colon between user name and password"
    elif entry.username is not None:
        half = (
            "user name is right, the password is not"
            if user == as_sent(entry.username)
            else "user name is wrong"
        )
        yield f"the {half}"


def about_allowlist(request: Request) -> Iterator[str]:
    """Say which address was looked up."""
    try:
        address = ipaddress.ip_address(request.client)
    except ValueError:
        yield "the client's address is not known"
        return
    yield f"the client's address {address} is in none of the networks"
    if address.is_private:
        yield "that is an inner address: does server.trusted_proxies name the proxy in front?"


def _carries(entry: SigningConfig, request: Request) -> bool:
    return entry.each is None and bool(text_of(entry.signature, request))


def _about_signed(entry: SigningConfig, request: Request) -> Iterator[str]:
    for template in filter(None, (entry.id, entry.signed)):
        yield from _unresolved(template, request)


def about_body(entry: VerifyEntry, request: Request) -> Iterator[str]:
    """Say why what is signed, or the body itself, can't be read."""
    if isinstance(entry, SigningConfig) and entry.each is None:
        yield from _about_signed(entry, request)
    if is_json(request.body):
        try:
            Document(request.body).raw(("",))
        except MalformedDocumentError:
            yield "a name occurs twice in the JSON of the body"
        return
    content_type = request.headers.get("Content-Type", "").lower()
    kind = "a form" if "form" in content_type else "no JSON"
    yield f"the body is {kind}"


def _unresolved(template: Template, request: Request) -> Iterator[str]:
    facts = {"timestamp": b"0", "id": b"0"}
    for placeholder in sorted(template.placeholders, key=str):
        try:
            found = Template(str(placeholder)).render(Scope(request, facts=facts))
        except MalformedDocumentError:
            yield f"what is signed needs {placeholder}, which can't be read from this body"
            continue
        if found is None:
            missing = "server.public_url is not set" if placeholder.name == "url" else "which is not there"
            yield f"what is signed needs {placeholder}, {missing}"


#: Seconds have ten digits from 2001 to 2286, milliseconds thirteen.
_SECONDS, _MILLISECONDS = re.compile(r"[0-9]{1,11}", re.ASCII), re.compile(r"[0-9]{12,15}", re.ASCII)


class Claimed(NamedTuple):
    """A timestamp as it seems to be meant."""

    seconds: float
    unit: Unit


def claimed_time(entry: VerifyEntry, request: Request) -> Claimed | None:
    """Read the timestamp where the config says it is, in whatever unit; None when there is none to read."""
    if not isinstance(entry, SigningConfig) or entry.timestamp is None or entry.each is not None:
        return None
    text = _text(entry, Scope(request)) or ""
    if _SECONDS.fullmatch(text):
        return Claimed(int(text), "s")
    if _MILLISECONDS.fullmatch(text):
        return Claimed(int(text) / 1000, "ms")
    seconds = parse_iso8601(text)
    return None if seconds is None else Claimed(seconds, "iso8601")


def _text(entry: SigningConfig, scope: Scope) -> str | None:
    config = entry.timestamp
    try:
        if config is None or config.pair:
            pair = config.pair if config else None
            return SignaturePlace(entry.signature).read(scope).pairs.get(pair or "")
        headers = (config.header,) if config.header else ()
        return place(headers=headers, query=config.query, form=config.form, body=config.body).read(scope)
    except VerificationError:
        return None


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
