"""The config as it may have been meant: one verifier with one thing said otherwise.

Each change comes with words that complete the sentence "it would verify …".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gatehouse.config.base import format_template
from gatehouse.config.model import HmacConfig, SigningConfig, TimestampConfig, TokenConfig
from gatehouse.errors import VerificationError
from gatehouse.language.scope import Scope
from gatehouse.language.template import Template
from gatehouse.verify.places import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.model import SignatureConfig, VerifyEntry
    from gatehouse.language.request import Request

#: What each key of a signing verifier can be, for those that have it.
_CHOICES: dict[str, tuple[str, ...]] = {
    "digest": ("sha256", "sha1", "sha512"),
    "key": ("utf8", "base64", "hex", "whsec", "sha1"),
    "form": ("der", "raw"),
    "padding": ("pkcs1v15", "pss"),
}
_ENCODINGS = ("hex", "base64", "base64url")
#: What providers sign, the most usual first.
_SIGNED = (
    *("{body}", "{timestamp}.{body}", "{timestamp}{body}", "{timestamp}:{body}", "v0:{timestamp}:{body}"),
    *("{body}{timestamp}", "{timestamp}\n{body}", "{id}.{timestamp}.{body}", "{body_sorted}", "{url}{body}"),
    *("{url}", "{url}{form_sorted}", "{method}{url}{body}", "{method}{url}{body}{timestamp}"),
    *("{path}{body}", "{method}\n{path}\n{body}", "{timestamp}.{url}.{body}", "{timestamp}.{body_sorted}"),
)
#: The names under which a timestamp usually goes beside the signature, as in `t=1700000000,v1=ab`.
_TIMESTAMP_NAMES = ("t", "ts", "timestamp")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,20}[=:, ] ?(?=[^=])", re.ASCII)
_ENTRY = re.compile(r"(?:^|[,;& ]) ?([A-Za-z0-9_]{1,16})[=:](?=[^=])", re.ASCII)
#: As many names of entries as a diagnosis tries.
_MOST_NAMES = 6


class Change(NamedTuple):
    """One key of a verifier that says something else."""

    #: Which key: two changes of one kind exclude each other.
    kind: str
    #: As it would stand in the config.
    written: str
    entry: dict[str, Any]

    def applied(self, entry: VerifyEntry) -> VerifyEntry:
        """Return the changed config. Nothing checks it: it may not be possible to build it."""
        update = dict(self.entry)
        if isinstance(entry, SigningConfig) and "signature" in update:
            update["signature"] = entry.signature.model_copy(update=update["signature"])
        return entry.model_copy(update=update)


def changes(entry: VerifyEntry, request: Request) -> Iterator[Change]:
    """Give everything that the config could say otherwise: a fixed, small number of changes."""
    if isinstance(entry, TokenConfig):
        yield from _prefixes(entry.prefix, text_of(entry, request), lambda prefix: {"prefix": prefix})
    if not isinstance(entry, SigningConfig):
        return
    for key, choices in _CHOICES.items():
        if isinstance(entry, HmacConfig) or key != "key":
            for choice in choices:
                value = (choice,) if key == "key" else choice
                if getattr(entry, key, value) != value:
                    yield Change(key, f"`{key}: {choice}`", {key: value})
    yield from _signatures(entry, request)
    yield from _templates(entry, request)


def _signatures(entry: SigningConfig, request: Request) -> Iterator[Change]:
    for encoding in _ENCODINGS:
        if encoding != entry.signature.encoding:
            yield Change("encoding", f"`encoding: {encoding}`", {"signature": {"encoding": encoding}})
    text = text_of(entry.signature, request)
    name, comma, _ = text.partition(",")
    if entry.signature.format == "plain" and comma and re.fullmatch("v[0-9]a?", name):
        shape = {"format": "list", "key": (name,), "prefix": ""}
        yield Change("format", f"`format: list` and `key: {name}`", {"signature": shape})
    if entry.signature.format == "plain":
        yield from _prefixes(entry.signature.prefix, text, lambda prefix: {"signature": {"prefix": prefix}})
    names = list(dict.fromkeys(_ENTRY.findall(text)))[:_MOST_NAMES]
    for name in names:
        if entry.signature.format == "plain":
            yield from _as_pairs(entry, name, names)
        elif name not in entry.signature.key:
            yield Change("format", f"`key: {name}`", {"signature": {"key": (name,)}})


def _as_pairs(entry: SigningConfig, name: str, names: list[str]) -> Iterator[Change]:
    """Take a plain signature for one of pairs, with the timestamp among them when one seems to be."""
    shape = {"format": "pairs", "key": (name,), "prefix": ""}
    written = f"`format: pairs` and `key: {name}`"
    yield Change("format", written, {"signature": shape})
    for pair in (known for known in names if known in _TIMESTAMP_NAMES and entry.timestamp is None):
        timestamp = TimestampConfig.model_validate({"pair": pair, "tolerance": "none"})
        yield Change(
            "format and signed",
            f'{written}, `timestamp: {{pair: {pair}}}` and `signed: "{{timestamp}}.{{body}}"`',
            {"signature": shape, "timestamp": timestamp, "signed": Template("{timestamp}.{body}")},
        )


def _prefixes(configured: str, text: str, update: Any) -> Iterator[Change]:  # noqa: ANN401 - from a prefix to an update
    match = _PREFIX.match(text)
    for prefix in dict.fromkeys([match[0] if match else "", ""]):
        if prefix != configured:
            written = f'`prefix: "{prefix}"`' if prefix else "no `prefix`"
            yield Change("prefix", written, update(prefix))


def _templates(entry: SigningConfig, request: Request) -> Iterator[Change]:
    timestamp, written = _timestamp(entry, request)
    for text in _SIGNED:
        needs_time = "{timestamp}" in text
        if text == format_template(entry.signed) or (needs_time and timestamp is None):
            continue
        if "{id}" in text and entry.id is None:
            continue
        shown = '`signed: "' + text.replace("\n", "\\n") + '"`'
        update = {"signed": Template(text)} | ({"timestamp": timestamp} if needs_time else {})
        yield Change("signed", f"{shown}{written if needs_time else ''}", update)


def _timestamp(entry: SigningConfig, request: Request) -> tuple[TimestampConfig | None, str]:
    """Return the timestamp of the scheme, or else a header that looks like one, with words that say so."""
    if entry.timestamp is not None:
        return entry.timestamp, ""
    for name, value in request.headers.items():
        if "timestamp" in name.lower() and re.fullmatch("[0-9]{9,15}", value):
            unit = "ms" if len(value) > 11 else "s"  # noqa: PLR2004 - seconds have ten digits until 2286
            config = {"header": name, "unit": unit, "tolerance": "none"}
            unit_written = "" if unit == "s" else ", unit: ms"
            return TimestampConfig.model_validate(
                config
            ), f" and `timestamp: {{header: {name}{unit_written}}}`"
    return None, ""


def text_of(config: SignatureConfig | TokenConfig, request: Request) -> str:
    """Read what stands where the signature or token should; empty when nothing does, or more than one."""
    names = (config.header,) if isinstance(config.header, str) else config.header or ()
    names = tuple(name.replace("{n}", "1") for name in names)
    query = config.query if isinstance(config, TokenConfig) else None
    where = place(headers=names, query=query, form=config.form, body=config.body)
    try:
        return where.read(Scope(request)) or ""
    except VerificationError:
        return ""


def other_secrets(secrets: tuple[bytes, ...]) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Give the secrets as they may have been meant: what was copied with them, or got lost."""
    variants = (
        ("without the white space around the secret", lambda secret: secret.strip()),
        ("without the quotes around the secret", lambda secret: secret.strip(b" \t\r\n\"'`")),
        ("with a newline at the end of the secret", lambda secret: secret + b"\n"),
        ("without the whsec_ at the start of the secret", lambda secret: secret.removeprefix(b"whsec_")),
        ("with whsec_ in front of the secret", lambda secret: b"whsec_" + secret),
    )
    for phrase, change in variants:
        changed = tuple(map(change, secrets))
        if changed != secrets and all(changed):
            yield phrase, changed
