"""What a refused request shows by itself: its timestamp, its length, its form, and a digest of its body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.model import BasicConfig, HmacConfig, SigningConfig, TokenConfig
from gatehouse.diagnosis.wording import BODY_CHANGED, counted
from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError, is_json
from gatehouse.language.request import as_sent
from gatehouse.language.scope import Scope
from gatehouse.language.template import Template
from gatehouse.language.times import parse_iso8601
from gatehouse.verify.places import place
from gatehouse.verify.signature import SignaturePlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.model import SignatureConfig, VerifyEntry
    from gatehouse.diagnosis.known import KnownVerifier
    from gatehouse.language.request import Request
    from gatehouse.verify.freshness import Unit

_DIGEST = re.compile(r"(?:([A-Za-z0-9-]+)=)?:?([A-Za-z0-9+/]{16,88}={0,2}):?")
#: The length of each digest in bytes.
_SIZES = {"sha1": 20, "sha256": 32, "sha512": 64}
#: Seconds have ten digits from 2001 to 2286, milliseconds thirteen.
_SECONDS, _MILLISECONDS = re.compile(r"[0-9]{1,11}", re.ASCII), re.compile(r"[0-9]{12,15}", re.ASCII)


def about_request(request: Request) -> Iterator[str]:
    """Name what is unusual about the request for every scheme."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        yield (
            "The header Content-Encoding says that the body is compressed. Gatehouse accepts only "
            "uncompressed bodies: turn compression off at the provider or in the proxy."
        )
    announced = request.headers.get("Content-Length", "")
    is_number = announced.isascii() and announced.isdigit() and len(announced) < 12  # noqa: PLR2004 - no body is longer
    if is_number and int(announced) != len(request.body):
        length = counted(len(request.body), "byte")
        yield f"The body has {length}, but Content-Length says {int(announced)}. {BODY_CHANGED}"
    if not request.body:
        yield (
            "The body is empty. If the provider sends a body, find the proxy that drops it, or the tool "
            "that saved the request without it."
        )


def in_words(config: object) -> str:
    """Name the place outside the headers where a signature or a timestamp is; empty for other places."""
    for kind, words in (
        ("form", "the form field"),
        ("query", "the query parameter"),
        ("body", "the body at"),
    ):
        name = getattr(config, kind, None)
        if isinstance(name, str):
            return f"{words} `{name}`"
    return ""


def text_of(config: SignatureConfig | TokenConfig, request: Request) -> str:
    """Return the text where the signature or token should be. Empty if there is none, or more than one."""
    names = (config.header,) if isinstance(config.header, str) else config.header or ()
    names = tuple(name.replace("{n}", "1") for name in names)
    query = config.query if isinstance(config, TokenConfig) else None
    where = place(headers=names, query=query, form=config.form, body=config.body)
    try:
        return where.read(Scope(request)) or ""
    except VerificationError:
        return ""


def about_signature_form(verifier: KnownVerifier, request: Request) -> Iterator[str]:
    """Compare the prefix and the length of the signature with what the config expects."""
    entry = verifier.entry
    if not isinstance(entry, HmacConfig) or entry.signature.format != "plain":
        return
    text, prefix = text_of(entry.signature, request), entry.signature.prefix
    if not text.startswith(prefix):
        yield (
            f'The signature does not start with "{prefix}". Check `signature: {{prefix: "{prefix}"}}` in '
            f"`{verifier.path}`."
        )
        return
    length, expected = len(text) - len(prefix), _length(_SIZES[entry.digest], entry.signature.encoding)
    if length != expected:
        fitting = [
            f" (the length of {digest} in {encoding})"
            for digest, size in _SIZES.items()
            for encoding in ("hex", "base64")
            if _length(size, encoding) == length
        ]
        configured = f"{entry.digest} in {entry.signature.encoding}"
        yield (
            f"The signature has {counted(length, 'character')}{''.join(fitting[:1])}, but {configured} has "
            f"{expected}. Check `digest` and `signature: {{encoding: …}}` in `{verifier.path}`."
        )


def _length(size: int, encoding: str) -> int:
    if encoding.startswith("hex"):
        return 2 * size
    return len(base64.b64encode(bytes(size)).rstrip(b"=" if encoding == "base64url" else b""))


class BodyDigest(NamedTuple):
    """The comparison of the body with a digest in the headers."""

    finding: str
    is_changed: bool


def about_digest(request: Request) -> BodyDigest | None:
    """Compare the body with the digest that the sender gave, if any. The digest is usually not signed.

    Reads `Content-Digest` and `Repr-Digest` (RFC 9530), `Digest` (RFC 3230) and `Content-MD5` (RFC 1864).
    """
    for name in ("Content-Digest", "Repr-Digest", "Digest", "Content-MD5"):
        for algorithm, text in _DIGEST.findall(request.headers.get(name, "")):
            kind = "md5" if name == "Content-MD5" else algorithm.lower().replace("-", "")
            if kind in ("sha256", "sha512", "md5"):
                digest = hashlib.new(kind, request.body, usedforsecurity=False).digest()
                own = base64.b64encode(digest).decode()
                if own.rstrip("=") == text.rstrip("="):
                    return BodyDigest(f"The body matches the digest in {name}.", is_changed=False)
                return BodyDigest(
                    f"The body does not match the digest in {name}. {BODY_CHANGED}", is_changed=True
                )
    return None


def about_credentials(verifier: KnownVerifier, request: Request) -> Iterator[str]:
    """Name the part of Basic credentials that is wrong."""
    entry = verifier.entry
    if not isinstance(entry, BasicConfig):
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        yield (
            "The header Authorization contains no Basic credentials. Set a user name and a password at the "
            "provider."
        )
        return
    try:
        user, colon, _ = base64.b64decode(given, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        yield "The Basic credentials are not base64."
        return
    if not colon:
        yield "The Basic credentials have no colon between user name and password."
    elif entry.username is not None and user == as_sent(entry.username):
        yield "The user name is right, but the password is wrong."
    elif entry.username is not None:
        yield f"The user name is wrong. Compare `username` in `{verifier.path}` with the one at the provider."


def about_allowlist(verifier: KnownVerifier, request: Request) -> Iterator[str]:
    """Name the address that is not in the allowlist."""
    try:
        address = ipaddress.ip_address(request.client)
    except ValueError:
        yield "The client's address is not known. For a saved request, add `--client ADDRESS`."
        return
    yield (
        f"The client's address {address} is in none of the `networks` in `{verifier.path}`. Add it there if "
        "it belongs to the provider."
    )
    if address.is_private:
        yield (
            f"{address} is a private address, probably that of a proxy. Name the proxy in "
            "`server.trusted_proxies`, so that Gatehouse sees the address of the sender."
        )


def about_signed_parts(verifier: KnownVerifier, request: Request) -> Iterator[str]:
    """Name the signed parts that are missing from the request."""
    entry = verifier.entry
    if isinstance(entry, SigningConfig):
        for template in filter(None, (entry.id, entry.signed)):
            yield from _unresolved(template, request)


def about_body(verifier: KnownVerifier, request: Request) -> Iterator[str]:
    """Name the reason why the body, or what is signed, can't be read."""
    entry = verifier.entry
    if isinstance(entry, SigningConfig) and entry.each is None:
        yield from about_signed_parts(verifier, request)
    if is_json(request.body):
        try:
            Document(request.body).raw(("",))
        except MalformedDocumentError:
            yield "The JSON in the body contains a name twice. Gatehouse does not read ambiguous JSON."
        return
    content_type = request.headers.get("Content-Type", "").lower()
    kind = "a form" if "form" in content_type else "not JSON"
    yield f"The body is {kind}. Set the format at the provider to the one that the source expects."


def _unresolved(template: Template, request: Request) -> Iterator[str]:
    facts = {"timestamp": b"0", "id": b"0"}
    for placeholder in sorted(template.placeholders, key=str):
        try:
            found = Template(str(placeholder)).render(Scope(request, facts=facts))
        except MalformedDocumentError:
            yield f"The signature covers `{placeholder}`, which can't be read from this body."
            continue
        if found is None and placeholder.name == "url":
            yield (
                "The signature covers `{url}`, but `server.public_url` is not set. Set it to the address "
                "that the provider sends to, as in https://hooks.example.com."
            )
        elif found is None:
            yield f"The signature covers `{placeholder}`, which is missing. Check that no proxy removes it."


class SignedTime(NamedTuple):
    """The timestamp of a request, as its sender probably means it."""

    #: Unix seconds.
    seconds: float
    unit: Unit


def signed_time(entry: VerifyEntry, request: Request) -> SignedTime | None:
    """Read the timestamp from its place in any unit. None if no timestamp can be read."""
    if not isinstance(entry, SigningConfig) or entry.timestamp is None or entry.each is not None:
        return None
    text = _timestamp_text(entry, Scope(request)) or ""
    if _SECONDS.fullmatch(text):
        return SignedTime(int(text), "s")
    if _MILLISECONDS.fullmatch(text):
        return SignedTime(int(text) / 1000, "ms")
    seconds = parse_iso8601(text)
    return None if seconds is None else SignedTime(seconds, "iso8601")


def about_unreadable_timestamp(entry: SigningConfig, request: Request) -> str:
    """Name the place where no timestamp can be read."""
    config = entry.timestamp
    if config is None:
        return "The source has no timestamp."
    where = in_words(config)
    if config.header:
        where = f"the header {config.header}"
    elif config.pair:
        where = f"the entry `{config.pair}` of the signature"
    if _timestamp_text(entry, Scope(request)):
        return f"There is no valid timestamp in {where}: expected `unit: {config.unit}`."
    return f"The timestamp is missing: expected in {where}."


def _timestamp_text(entry: SigningConfig, scope: Scope) -> str | None:
    config = entry.timestamp
    try:
        if config is None or config.pair:
            pair = config.pair if config else None
            return SignaturePlace(entry.signature).read(scope).pairs.get(pair or "")
        headers = (config.header,) if config.header else ()
        return place(headers=headers, query=config.query, form=config.form, body=config.body).read(scope)
    except VerificationError:
        return None
