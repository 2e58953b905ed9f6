"""What a refused request shows by itself: its timestamp, its length, its form, and a digest of its body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.model import AllowlistConfig, BasicConfig, HmacConfig, SigningConfig, TokenConfig
from gatehouse.diagnosis.finding import Finding, plain, secrets_key
from gatehouse.diagnosis.wording import BODY_CHANGED, counted
from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError, is_json
from gatehouse.language.request import as_sent
from gatehouse.language.scope import Scope
from gatehouse.language.template import Template
from gatehouse.language.times import parse_iso8601
from gatehouse.telemetry.log import clean
from gatehouse.verify.places import place
from gatehouse.verify.signature import SignaturePlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.model import SignatureConfig, VerifyEntry
    from gatehouse.diagnosis.known import KnownVerifier
    from gatehouse.language.request import Request
    from gatehouse.verify.freshness import Unit

_DIGEST = re.compile(r"(?:([A-Za-z0-9-]+)=)?:?([A-Za-z0-9+/]{16,88}={0,2}):?")
#: How many characters of a header's value, and how many networks, a finding shows.
_MAX_SHOWN, _MAX_NETWORKS = 60, 5
#: The length of each digest in bytes.
_SIZES = {"sha1": 20, "sha256": 32, "sha512": 64}
#: Seconds have ten digits from 2001 to 2286, milliseconds thirteen.
_SECONDS, _MILLISECONDS = re.compile(r"[0-9]{1,11}", re.ASCII), re.compile(r"[0-9]{12,15}", re.ASCII)


def about_request(request: Request, *, decodes: bool) -> Iterator[Finding]:
    """Name what is unusual about the request for every scheme.

    `decodes` says whether the source accepts compressed bodies.
    """
    if not decodes and request.headers.get("Content-Encoding", "identity").lower() != "identity":
        yield Finding(
            "The header Content-Encoding says that the body is compressed. This source accepts only "
            "uncompressed bodies: turn compression off at the provider or in the proxy, or set `decode`.",
            expected="no header Content-Encoding",
            received=f"Content-Encoding: {brief(request.headers['Content-Encoding'])}",
        )
    announced = request.headers.get("Content-Length", "")
    is_number = announced.isascii() and announced.isdigit() and len(announced) < 12  # noqa: PLR2004 - no body is longer
    if is_number and int(announced) != len(request.body):
        length = counted(len(request.body), "byte")
        yield Finding(
            f"The body has {length}, but Content-Length says {int(announced)}. {BODY_CHANGED}",
            expected=f"{counted(int(announced), 'byte')} (Content-Length)",
            received=length,
        )
    if not request.body:
        yield Finding(
            "The body is empty. If the provider sends a body, find the proxy that drops it, or the tool "
            "that saved the request without it.",
            expected="a body",
            received="0 bytes",
            certain=False,
        )


def brief(value: str) -> str:
    """Return the start of the value of a header that holds no credential."""
    return clean(value[:_MAX_SHOWN])


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


def about_signature_form(verifier: KnownVerifier, request: Request) -> Iterator[Finding]:
    """Compare the prefix and the length of the signature with what the config expects."""
    entry = verifier.entry
    if not isinstance(entry, HmacConfig) or entry.signature.format != "plain":
        return
    text, prefix = text_of(entry.signature, request), entry.signature.prefix
    if not text.startswith(prefix):
        yield Finding(
            f'The signature does not start with "{prefix}". Check `signature: {{prefix: "{prefix}"}}` in '
            f"`{verifier.path}`.",
            expected=f'text that starts with "{prefix}"',
            received=f"{counted(len(text), 'character')} that start with something else",
            change=f"{verifier.path}.signature.prefix",
        )
        return
    length, expected = len(text) - len(prefix), _length(_SIZES[entry.digest], entry.signature.encoding)
    if length != expected:
        fitting = [
            (digest, encoding)
            for digest, size in _SIZES.items()
            for encoding in ("hex", "base64")
            if _length(size, encoding) == length
        ][:1]
        likely = "".join(f" (the length of {digest} in {encoding})" for digest, encoding in fitting)
        configured = f"{entry.digest} in {entry.signature.encoding}"
        yield Finding(
            f"The signature has {counted(length, 'character')}{likely}, but {configured} has "
            f"{expected}. Check `digest` and `signature: {{encoding: …}}` in `{verifier.path}`.",
            expected=f"{counted(expected, 'character')} ({configured})",
            received=f"{counted(length, 'character')}{likely}",
            change=_form_change(verifier.path, entry, *fitting[0]) if fitting else None,
        )


def _form_change(path: str, entry: HmacConfig, digest: str, encoding: str) -> str:
    digest_key = f"{path}.digest: {digest}" if digest != entry.digest else ""
    encoding_key = f"{path}.signature.encoding: {encoding}" if encoding != entry.signature.encoding else ""
    return "\n".join(filter(None, (digest_key, encoding_key)))


def _length(size: int, encoding: str) -> int:
    if encoding.startswith("hex"):
        return 2 * size
    return len(base64.b64encode(bytes(size)).rstrip(b"=" if encoding == "base64url" else b""))


class BodyDigest(NamedTuple):
    """The comparison of the body with a digest in the headers."""

    finding: Finding
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
                    return BodyDigest(Finding(f"The body matches the digest in {name}."), is_changed=False)
                finding = Finding(
                    f"The body does not match the digest in {name}. {BODY_CHANGED}",
                    expected=f"a body with the digest in {name}",
                    received="another body",
                )
                return BodyDigest(finding, is_changed=True)
    return None


def about_credentials(verifier: KnownVerifier, request: Request) -> Iterator[Finding]:
    """Name the part of Basic credentials that is wrong."""
    entry = verifier.entry
    if not isinstance(entry, BasicConfig):
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        yield Finding(
            "The header Authorization contains no Basic credentials. Set a user name and a password at the "
            "provider.",
            expected="Authorization: Basic …",
            received="Authorization: Bearer …" if scheme.lower() == "bearer" else "something else",
        )
        return
    try:
        user, colon, _ = base64.b64decode(given, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        yield Finding("The Basic credentials are not base64.")
        return
    if not colon:
        yield Finding("The Basic credentials have no colon between user name and password.")
    elif entry.username is not None and user == as_sent(entry.username):
        yield Finding(
            "The user name is right, but the password is wrong.",
            expected="the password of " + " or ".join(verifier.references),
            received="another password",
            change=secrets_key(verifier),
        )
    elif entry.username is not None:
        yield Finding(
            f"The user name is wrong. Compare `username` in `{verifier.path}` with the one at the provider.",
            expected=f"the user name in {verifier.path}",
            received="another user name",
            change=f"{verifier.path}.username",
        )


def about_allowlist(verifier: KnownVerifier, request: Request) -> Iterator[Finding]:
    """Name the address that is not in the allowlist."""
    try:
        address = ipaddress.ip_address(request.client)
    except ValueError:
        yield Finding("The client's address is not known. For a saved request, add `--client ADDRESS`.")
        return
    networks = verifier.entry.networks if isinstance(verifier.entry, AllowlistConfig) else ()
    more = ", …" if len(networks) > _MAX_NETWORKS else ""
    yield Finding(
        f"The client's address {address} is in none of the `networks` in `{verifier.path}`. Add it there if "
        "it belongs to the provider.",
        expected=f"an address in {', '.join(networks[:_MAX_NETWORKS])}{more}",
        received=str(address),
        change=f"{verifier.path}.networks",
    )
    if address.is_private:
        yield Finding(
            f"{address} is a private address, probably that of a proxy. Name the proxy in "
            "`server.trusted_proxies`, so that Gatehouse sees the address of the sender.",
            expected="the address of the sender",
            received=f"{address}, a private address",
            change=f"server.trusted_proxies: [{address}]",
            certain=False,
        )


def about_signed_parts(verifier: KnownVerifier, request: Request) -> Iterator[Finding]:
    """Name the signed parts that are missing from the request."""
    entry = verifier.entry
    if isinstance(entry, SigningConfig):
        for template in filter(None, (entry.id, entry.signed)):
            yield from _unresolved(template, request)


def about_body(verifier: KnownVerifier, request: Request) -> Iterator[Finding]:
    """Name the reason why the body, or what is signed, can't be read."""
    entry = verifier.entry
    if isinstance(entry, SigningConfig) and entry.each is None:
        yield from about_signed_parts(verifier, request)
    if is_json(request.body):
        try:
            Document(request.body).raw(("",))
        except MalformedDocumentError:
            yield Finding(
                "The JSON in the body contains a name twice. Gatehouse does not read ambiguous JSON.",
                expected="each name once in an object",
                received="a name twice",
            )
        return
    content_type = request.headers.get("Content-Type", "")
    kind = "a form" if "form" in content_type.lower() else "not JSON"
    yield Finding(
        f"The body is {kind}. Set the format at the provider to the one that the source expects.",
        received=f"Content-Type: {brief(content_type)}" if content_type else "no header Content-Type",
    )


def _unresolved(template: Template, request: Request) -> Iterator[Finding]:
    facts = {"timestamp": b"0", "id": b"0"}
    for placeholder in sorted(template.placeholders, key=str):
        try:
            found = Template(str(placeholder)).render(Scope(request, facts=facts))
        except MalformedDocumentError:
            yield Finding(
                f"The signature covers `{placeholder}`, which can't be read from this body.",
                expected=f"a body with {placeholder}",
                received="a body that can't be read",
            )
            continue
        if found is None and placeholder.name == "url":
            yield Finding(
                "The signature covers `{url}`, but `server.public_url` is not set. Set it to the address "
                "that the provider sends to, as in https://hooks.example.com.",
                change="server.public_url",
            )
        elif found is None:
            yield Finding(
                f"The signature covers `{placeholder}`, which is missing. Check that no proxy removes it.",
                expected=str(placeholder),
                received="missing",
            )


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


def about_unreadable_timestamp(path: str, entry: SigningConfig, request: Request) -> Finding:
    """Name the place where no timestamp can be read. `path` is that of the verifier in the config."""
    config = entry.timestamp
    if config is None:
        return Finding("The source has no timestamp.")
    where = in_words(config)
    if config.header:
        where = f"the header {config.header}"
    elif config.pair:
        where = f"the entry `{config.pair}` of the signature"
    if _timestamp_text(entry, Scope(request)):
        return Finding(
            f"There is no valid timestamp in {where}: expected `unit: {config.unit}`.",
            expected=f"a timestamp with unit: {config.unit} in {plain(where)}",
            received="text that is no timestamp",
            change=f"{path}.timestamp.unit",
        )
    return Finding(
        f"The timestamp is missing: expected in {where}.",
        expected=f"a timestamp in {plain(where)}",
        received="missing",
        change=f"{path}.timestamp",
    )


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
