"""What can be seen in a refused request without trying anything: what is missing, doubled or misshapen."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.model import BasicConfig, HmacConfig, JwtConfig, SigningConfig, TokenConfig
from gatehouse.diagnosis.traces import other_headers
from gatehouse.diagnosis.variants import text_of
from gatehouse.language.document import Document, MalformedDocumentError, is_json
from gatehouse.language.scope import Scope
from gatehouse.language.sent import as_sent
from gatehouse.language.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.model import VerifyEntry
    from gatehouse.language.request import Request

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
