"""Changes to the config of a verifier and to its secrets, as an operator may have intended them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gatehouse.config.base import format_template
from gatehouse.config.model import HmacConfig, SigningConfig, TimestampConfig, TokenConfig
from gatehouse.diagnosis.observations import text_of
from gatehouse.language.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.model import VerifyEntry
    from gatehouse.diagnosis.known import KnownVerifier
    from gatehouse.language.request import Request

#: The possible values of each key. Not every verifier has all of these keys.
_CHOICES: dict[str, tuple[str, ...]] = {
    "digest": ("sha256", "sha1", "sha512"),
    "key": ("utf8", "base64", "hex", "whsec", "sha1"),
    "form": ("der", "raw"),
    "padding": ("pkcs1v15", "pss"),
}
_ENCODINGS = ("hex", "base64", "base64url")
#: The templates that providers sign, the most common ones first.
_SIGNED = (
    *("{body}", "{timestamp}.{body}", "{timestamp}{body}", "{timestamp}:{body}", "v0:{timestamp}:{body}"),
    *("{body}{timestamp}", "{timestamp}\n{body}", "{id}.{timestamp}.{body}", "{body_sorted}", "{url}{body}"),
    *("{url}", "{url}{form_sorted}", "{method}{url}{body}", "{method}{url}{body}{timestamp}"),
    *("{path}{body}", "{method}\n{path}\n{body}", "{timestamp}.{url}.{body}", "{timestamp}.{body_sorted}"),
)
#: The usual names of a timestamp next to a signature, as in `t=1700000000,v1=ab`.
_TIMESTAMP_NAMES = ("t", "ts", "timestamp")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,20}[=:, ] ?(?=[^=])", re.ASCII)
_ENTRY = re.compile(r"(?:^|[,;& ]) ?([A-Za-z0-9_]{1,16})[=:](?=[^=])", re.ASCII)
#: How many names of entries a diagnosis tries.
_MAX_NAMES = 6


class Change(NamedTuple):
    """A change of one key of a verifier, or of a few that belong together."""

    #: The key. Only changes of different kinds can be combined.
    kind: str
    #: The keys as the config should have them.
    new: str
    #: The keys as the config has them.
    old: str
    #: The new values, by key.
    values: dict[str, Any]

    def applied(self, entry: VerifyEntry) -> VerifyEntry:
        """Return the changed config. It is not validated, so no verifier may be possible with it."""
        update = dict(self.values)
        if isinstance(entry, SigningConfig) and "signature" in update:
            update["signature"] = entry.signature.model_copy(update=update["signature"])
        return entry.model_copy(update=update)


def config_changes(entry: VerifyEntry, request: Request) -> Iterator[Change]:
    """Iterate over the changes to try. Their number is small and fixed."""
    if isinstance(entry, TokenConfig):
        for prefix in _prefixes(entry.prefix, text_of(entry, request)):
            yield Change("prefix", f'`prefix: "{prefix}"`', f'`prefix: "{entry.prefix}"`', {"prefix": prefix})
    if not isinstance(entry, SigningConfig):
        return
    for key, choices in _CHOICES.items():
        if isinstance(entry, HmacConfig) or key != "key":
            for choice in choices:
                value = (choice,) if key == "key" else choice
                old = getattr(entry, key, value)
                if old != value:
                    yield Change(key, f"`{key}: {choice}`", f"`{key}: {_written(old)}`", {key: value})
    yield from _signature_changes(entry, request)
    yield from _template_changes(entry, request)


def _written(value: object) -> str:
    """Write a value as YAML."""
    if isinstance(value, tuple):
        return str(value[0]) if len(value) == 1 else f"[{', '.join(map(str, value))}]"
    return str(value)


def _signature_change(kind: str, entry: SigningConfig, values: dict[str, Any]) -> Change:
    """Make a change of keys below `signature`."""
    new = ", ".join(f"{key}: {_quoted(key, value)}" for key, value in values.items())
    old = ", ".join(f"{key}: {_quoted(key, getattr(entry.signature, key))}" for key in values)
    return Change(kind, f"`signature: {{{new}}}`", f"`signature: {{{old}}}`", {"signature": values})


def _quoted(key: str, value: object) -> str:
    return f'"{value}"' if key == "prefix" else _written(value) or "[]"


def _signature_changes(entry: SigningConfig, request: Request) -> Iterator[Change]:
    signature, text = entry.signature, text_of(entry.signature, request)
    for encoding in _ENCODINGS:
        if encoding != signature.encoding:
            yield _signature_change("encoding", entry, {"encoding": encoding})
    names = list(dict.fromkeys(_ENTRY.findall(text)))[:_MAX_NAMES]
    if signature.format != "plain":
        for name in names:
            if name not in signature.key:
                yield _signature_change("format", entry, {"key": (name,)})
        return
    version, comma, _ = text.partition(",")
    if comma and re.fullmatch("v[0-9]a?", version):
        yield _format_change(entry, "list", version)
    for prefix in _prefixes(signature.prefix, text):
        yield _signature_change("prefix", entry, {"prefix": prefix})
    for name in names:
        yield _format_change(entry, "pairs", name)
        for pair in (known for known in names if known in _TIMESTAMP_NAMES and entry.timestamp is None):
            yield _with_timestamp_pair(_format_change(entry, "pairs", name), entry, pair)


def _format_change(entry: SigningConfig, form: str, name: str) -> Change:
    """Read a plain signature as one entry of a list or of pairs."""
    values = {"format": form, "key": (name,), "prefix": ""}
    new = f"`signature: {{format: {form}, key: {name}}}`"
    return Change("format", new, f"`signature: {{format: {entry.signature.format}}}`", {"signature": values})


def _with_timestamp_pair(change: Change, entry: SigningConfig, pair: str) -> Change:
    """Read one of the pairs as the timestamp too, and expect it in front of the body."""
    timestamp = TimestampConfig.model_validate({"pair": pair, "tolerance": "none"})
    return Change(
        "format and signed",
        f'{change.new}, `timestamp: {{pair: {pair}}}` and `signed: "{{timestamp}}.{{body}}"`',
        f"{change.old} and {_signed(entry)}",
        change.values | {"timestamp": timestamp, "signed": Template("{timestamp}.{body}")},
    )


def _prefixes(configured: str, text: str) -> Iterator[str]:
    match = _PREFIX.match(text)
    for prefix in dict.fromkeys([match[0] if match else "", ""]):
        if prefix != configured:
            yield prefix


def _template_changes(entry: SigningConfig, request: Request) -> Iterator[Change]:
    timestamp, written = _timestamp(entry, request)
    for text in _SIGNED:
        needs_time = "{timestamp}" in text
        if text == format_template(entry.signed) or (needs_time and timestamp is None):
            continue
        if "{id}" in text and entry.id is None:
            continue
        new = '`signed: "' + text.replace("\n", "\\n") + '"`'
        values = {"signed": Template(text)} | ({"timestamp": timestamp} if needs_time else {})
        yield Change("signed", f"{new}{written if needs_time else ''}", _signed(entry), values)


def _signed(entry: SigningConfig) -> str:
    """Write `signed` as the config has it."""
    template = format_template(entry.signed)
    texts = [template] if isinstance(template, str) else template
    quoted = ", ".join('"' + text.replace("\n", "\\n") + '"' for text in texts)
    return f"`signed: {quoted}`" if len(texts) == 1 else f"`signed: [{quoted}]`"


def _timestamp(entry: SigningConfig, request: Request) -> tuple[TimestampConfig | None, str]:
    """Return the configured timestamp, or else a header that looks like one, and how to configure it."""
    if entry.timestamp is not None:
        return entry.timestamp, ""
    for name, value in request.headers.items():
        if "timestamp" in name.lower() and re.fullmatch("[0-9]{9,15}", value):
            unit = "ms" if len(value) > 11 else "s"  # noqa: PLR2004 - seconds have ten digits until 2286
            config = TimestampConfig.model_validate({"header": name, "unit": unit, "tolerance": "none"})
            unit_written = "" if unit == "s" else ", unit: ms"
            return config, f" and `timestamp: {{header: {name}{unit_written}}}`"
    return None, ""


class SecretChange(NamedTuple):
    """A change of one secret."""

    #: A condition: what the secret would contain.
    condition: str
    advice: str
    secret: bytes
    #: Where the secret is kept, such as `env:SHOP_SECRET`.
    reference: str


def secret_changes(verifier: KnownVerifier) -> Iterator[SecretChange]:
    """Iterate over the secrets as the provider may have issued them, without what was copied by mistake."""
    for reference, secret in zip(verifier.references, verifier.secrets, strict=True):
        for condition, advice, changed in _changes_of(secret, f"`{reference}`"):
            if changed and changed != secret:
                yield SecretChange(condition, advice, changed, reference)


def _changes_of(secret: bytes, name: str) -> Iterator[tuple[str, str, bytes]]:
    yield (f"the white space around the secret {name} is removed", f"Remove it from {name}.", secret.strip())
    yield (
        f"the quotes around the secret {name} are removed",
        f"Remove them from {name}.",
        secret.strip(b" \t\r\n\"'`"),
    )
    yield (
        f"the secret {name} ends with a newline",
        "Gatehouse ignores white space at the end of a secret: choose a secret without it at the provider.",
        secret + b"\n",
    )
    yield (
        f"the secret {name} does not start with whsec_",
        f"Remove whsec_ from {name}.",
        secret.removeprefix(b"whsec_"),
    )
    yield (f"the secret {name} starts with whsec_", f"Add whsec_ to the start of {name}.", b"whsec_" + secret)
