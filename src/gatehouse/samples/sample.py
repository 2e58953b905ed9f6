"""Makes requests as a provider makes them, for `sign`, `send`, `demo` and tests. Pure, except for random ids.

Changes replace bytes in the text of the provider's documented example, without parsing and writing it again:
`45.50` stays `45.50`, and the layout stays as the provider sends it.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import msgspec
from multidict import CIMultiDict

from gatehouse.errors import GatewayError, VerificationError
from gatehouse.events.reader import EventReader
from gatehouse.language.document import MalformedDocumentError
from gatehouse.language.request import Request
from gatehouse.language.template import Placeholder
from gatehouse.language.times import parse_time, rfc3339
from gatehouse.verify.base import VerifiedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatehouse.config.model import ProviderConfig
    from gatehouse.ingest.source import Source
    from gatehouse.language.scope import Scope
    from gatehouse.language.template import Template

#: Makes a new id in the form of another one.
NewId = Callable[[str], str]

#: The number of digits of a time in Unix milliseconds since 2001.
_MILLISECOND_DIGITS = 13
_PREFIX = re.compile(r"[A-Za-z]{1,16}[_-]")


@dataclass(frozen=True, slots=True)
class Sample:
    """A request of a provider before it is signed."""

    #: All headers except the signature's.
    headers: Mapping[str, str]
    body: bytes


def documented_sample(settings: ProviderConfig, event_type: str | None = None) -> Sample | None:
    """Return a documented example, of this type if the preset has one. Returns None without examples."""
    samples = [Sample(sample.headers, sample.body.encode()) for sample in settings.samples]
    if event_type is not None:
        samples.sort(key=lambda sample: type_of(sample, settings) != event_type)
    return samples[0] if samples else None


def type_of(sample: Sample, settings: ProviderConfig) -> str | None:
    """Read the event type as the gateway does. In a batch it is the type of the first event."""
    try:
        return next((settings.event.type.text(scope) for scope in scopes_of(sample, settings)), None)
    except MalformedDocumentError:
        return None


def fresh_id(like: str) -> str:
    """Make a new id in the form of another one: `evt_…`, a UUID or a number."""
    if like in ("true", "false"):
        return like
    try:
        if str(uuid.UUID(like)) == like:
            return str(uuid.uuid4())
    except ValueError:
        pass
    if like.isdigit():
        return str(10**14 + secrets.randbelow(9 * 10**14))
    if "://" in like:
        return f"{like.rpartition('/')[0]}/{secrets.token_hex(8)}"
    prefix = _PREFIX.match(like)
    return (prefix[0] if prefix else "") + secrets.token_hex(8)


def with_new_ids(sample: Sample, settings: ProviderConfig, new_id: NewId = fresh_id) -> Sample:
    """Replace the values that identify an event, so that the gateway accepts the sample as a new event."""
    for placeholder in sorted(_identifying(settings), key=repr):
        sample = replaced(sample, settings, placeholder, new_id)
    return sample


def with_time(sample: Sample, settings: ProviderConfig, now: float) -> Sample:
    """Set the time of the events to `now` (Unix seconds), where the source reads it."""
    if settings.event.time is None:
        return sample
    for placeholder in sorted(_single_values(settings.event.time), key=repr):
        sample = replaced(sample, settings, placeholder, lambda old: _time_like(old, now))
    return sample


def _time_like(old: str, now: float) -> str:
    """Write a time in the form of another one: in seconds, in milliseconds, or as ISO 8601.

    A time that the gateway can't read stays.
    """
    if parse_time(old) is None:
        return old
    seconds, point, fraction = old.partition(".")
    if not seconds.isdigit():
        return rfc3339(int(now))
    return str(int(now * 1000) if len(seconds) >= _MILLISECOND_DIGITS else int(now)) + point + fraction


def with_delivery_id(sample: Sample, settings: ProviderConfig, new_id: NewId = fresh_id) -> Sample | None:
    """Replace the id of the request, which the provider does not sign. Returns None if it sends no id."""
    headers = [placeholder for placeholder in _identifying(settings) if placeholder.name == "header"]
    present = [placeholder for placeholder in headers if placeholder.argument in CIMultiDict(sample.headers)]
    for placeholder in present:
        sample = replaced(sample, settings, placeholder, new_id)
    return sample if present else None


def tampered(body: bytes) -> bytes:
    """Change one byte: the last digit, which is part of a value in every layout."""
    digit = max((body.rfind(b"%d" % number) for number in range(10)), default=-1)
    if digit < 0:
        raise ValueError("no digit to change")
    changed = b"0" if body[digit : digit + 1] == b"9" else b"%d" % (int(body[digit : digit + 1]) + 1)
    return body[:digit] + changed + body[digit + 1 :]


def _identifying(settings: ProviderConfig) -> frozenset[Placeholder]:
    """Find the values in the event's id and the dedupe keys, except those that other events share."""
    event = settings.event
    kept = _single_values(event.type) | _single_values(event.time) | _single_values(event.account)
    identity = (_single_values(event.id) | _signed_ids(settings)) - kept
    for template in settings.dedupe.templates:
        for alternative in map(_values_among, template.alternatives):
            # One new part makes a key new: the others, such as an amount, stay as documented.
            identity |= frozenset() if alternative & identity else alternative - kept
    by_content = any(Placeholder("body") in template.placeholders for template in settings.dedupe.templates)
    if by_content or all(placeholder.name == "header" for placeholder in identity):
        # Equal bodies signed in the same second have equal signatures: a new subject makes them differ.
        identity |= _single_values(event.subject)
    return identity - kept


def _signed_ids(settings: ProviderConfig) -> frozenset[Placeholder]:
    """Find the values of `{id}` in signed templates."""
    every = [getattr(entry, "of", (entry,))[0] for entry in settings.verify]
    return frozenset[Placeholder]().union(*(_single_values(getattr(one, "id", None)) for one in every))


def _single_values(template: Template | None) -> frozenset[Placeholder]:
    return _values_among(template.placeholders) if template else frozenset()


def _values_among(parts: Iterable[bytes | Placeholder]) -> frozenset[Placeholder]:
    placeholders = (part for part in parts if isinstance(part, Placeholder))
    named = (part for part in placeholders if part.name in ("body", "form", "header") and part.argument)
    return frozenset(replace(placeholder, optional=False) for placeholder in named)


def replaced(sample: Sample, settings: ProviderConfig, placeholder: Placeholder, change: NewId) -> Sample:
    """Change the values of a placeholder, in every event. Without such a value, nothing changes."""
    if placeholder.name == "header":
        wanted = placeholder.argument.lower()
        headers = {n: change(v) if n.lower() == wanted else v for n, v in sample.headers.items()}
        return replace(sample, headers=headers)
    body = sample.body
    for name, old, new in _changes(sample, settings, placeholder, change):
        body = (
            _with_form_value(body, name, old, new) if is_form(sample) else _with_member(body, name, old, new)
        )
    return replace(sample, body=body)


def _changes(
    sample: Sample, settings: ProviderConfig, placeholder: Placeholder, change: NewId
) -> list[tuple[str, bytes, bytes]]:
    """Find the values of a placeholder in every event: member name, old and new JSON."""
    found: dict[tuple[str, bytes], bytes] = {}
    try:
        for scope in scopes_of(sample, settings):
            if placeholder.name == "form":
                text: str | None = scope.form.get(placeholder.argument)
                name, raw = placeholder.argument, msgspec.json.encode(text)
            else:
                name, text = placeholder.path[-1], scope.document.text(placeholder.path)
                raw = scope.document.raw(placeholder.path) or b""
            if text is not None and (name, raw) not in found:
                new = change(text)
                found[name, raw] = msgspec.json.encode(new) if raw.startswith(b'"') else new.encode()
    except MalformedDocumentError:
        return []
    return [(name, old, new) for (name, old), new in found.items()]


def _with_member(body: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """Replace a value that follows its name. A body without it stays unchanged."""
    member = re.compile(rb'("%b"\s*:\s*)%b(?![\w.+-])' % (re.escape(name.encode()), re.escape(old)))
    return member.sub(lambda match: match[1] + new, body)


def _with_form_value(body: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """Replace the value of a field, or a value in the JSON that a field contains."""
    was, now = (msgspec.json.decode(raw) if raw.startswith(b'"') else raw.decode() for raw in (old, new))
    fields = [
        (
            field,
            now if (field, value) == (name, was) else _with_member(value.encode(), name, old, new).decode(),
        )
        for field, value in parse_qsl(body.decode(), keep_blank_values=True)
    ]
    return urlencode(fields).encode()


def scopes_of(sample: Sample, settings: ProviderConfig) -> tuple[Scope, ...]:
    """Return the scope of each event. Raises `MalformedDocumentError`."""
    reader = EventReader("sample", "/", settings, provider="sample")
    return reader.scopes(VerifiedRequest(_unsigned(sample)))


def is_form(sample: Sample) -> bool:
    """Tell whether the body is a form."""
    return CIMultiDict(sample.headers).get("Content-Type", "").startswith("application/x-www-form-urlencoded")


def sign_sample(
    source: Source, sample: Sample, now: float, *, path: str | None = None, query: str = ""
) -> Request:
    """Sign a sample as the provider would at `now` (Unix seconds).

    Raises `GatewayError` if the source is not ready, or if its scheme can't sign such a body.
    """
    if source.not_ready:
        hint = "set the secret where this command runs; gatehouse check lists what is missing"
        raise GatewayError(f"source {source.name} can't sign: {source.not_ready}", hint=hint)
    headers = CIMultiDict(sample.headers)
    for placeholder in _signed_ids(source.settings):
        if placeholder.name == "header":
            headers.setdefault(placeholder.argument, fresh_id("msg_"))
    request = Request(source.methods[0], path or source.path, query, headers, sample.body, source.public_url)
    try:
        return source.verification.sign(request, now)
    except VerificationError as error:
        hint = "add what the scheme signs: to the body, with --header NAME:VALUE, or to the query of --url"
        raise GatewayError(
            f"source {source.name} can't sign this request: {error.reason}", hint=hint
        ) from error


def _unsigned(sample: Sample) -> Request:
    return Request("POST", "/", "", CIMultiDict(sample.headers), sample.body)
