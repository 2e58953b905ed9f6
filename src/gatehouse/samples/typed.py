"""Sample requests for each event type of the most used providers, from `providers/samples/`.

The samples are made up, in the shapes that the providers document. Each request that is made from one has new
ids in the same form, and times that are as far from now as those of the file are from `WRITTEN_AT`.
"""

from __future__ import annotations

import re
import secrets
import string
import uuid
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from gatehouse import providers
from gatehouse.config.presets import shipped_preset
from gatehouse.samples.sample import Sample, documented_sample, type_of, with_new_ids, with_time

if TYPE_CHECKING:
    from gatehouse.config.model import SourceConfig

#: 15 January 2026, 10:00:00 UTC: the time of the events in the files, in Unix seconds. All times there are in
#: January and February 2026, and everything in the forms below is a time.
WRITTEN_AT = 1_768_471_200
_ISO_TIME = re.compile(r"2026-0[12]-\d\d(?:[T ]\d\d:\d\d:\d\d)?")
_MAIL_TIME = re.compile(r"\w{3}, \d\d (?:Jan|Feb) 2026 \d\d:\d\d:\d\d \+0000")
#: Unix seconds, or milliseconds.
_UNIX_TIME = re.compile(r"(?<![\w.-])17(?:6[7-9]|7[01])\d{6}(?:\d{3})?(?!\w)")
_MILLISECOND_DIGITS = 13
_FORM = "application/x-www-form-urlencoded"


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One request: a JSON body, or the fields of a form."""

    headers: dict[str, str] = {}
    #: Empty for a form.
    body: msgspec.Raw = msgspec.Raw(b"")
    form: dict[str, str] | None = None


class SampleFile(msgspec.Struct, forbid_unknown_fields=True):
    """A file in `providers/samples/`."""

    #: The headers that every request has.
    headers: dict[str, str]
    #: The parts of ids that differ in each request. They are replaced wherever they occur.
    new: list[str]
    #: The event types. Of a batch, the type of the first event.
    samples: dict[str, _Entry]

    @classmethod
    def read(cls, raw: bytes) -> SampleFile:
        """Read a file."""
        return _decode_file(raw)

    def make(self, event_type: str) -> Sample:
        """Return a sample as written."""
        entry = self.samples[event_type]
        headers = self.headers | entry.headers
        if entry.form is not None:
            return Sample(headers | {"Content-Type": _FORM}, urlencode(entry.form).encode())
        return Sample(headers, msgspec.json.format(bytes(entry.body), indent=2))

    def make_fresh(self, event_type: str, now: float) -> Sample:
        """Return a sample as an event that happens `now` (Unix seconds), with new ids."""
        entry = self.samples[event_type]
        new = {old: id_like(old) for old in self.new}
        shift = int(now) - WRITTEN_AT

        def fresh(text: str) -> str:
            text = _shifted(text, shift)
            for old, value in new.items():
                text = text.replace(old, value)
            return text

        made = _Entry(
            headers={name: fresh(value) for name, value in entry.headers.items()},
            body=msgspec.Raw(fresh(bytes(entry.body).decode()).encode()),
            form=None if entry.form is None else {name: fresh(value) for name, value in entry.form.items()},
        )
        headers = {name: fresh(value) for name, value in self.headers.items()}
        return SampleFile(headers, [], {event_type: made}).make(event_type)


_decode_file = msgspec.json.Decoder(SampleFile).decode


@cache
def sample_file(provider: str) -> SampleFile | None:
    """Read the file of a provider, or return None if it has none."""
    raw = providers.samples(provider)
    return None if raw is None else SampleFile.read(raw)


class Samples:
    """The samples of a source. If the source has `samples` of its own, only these."""

    def __init__(self, settings: SourceConfig) -> None:
        self._settings = settings
        is_shipped = bool(settings.provider) and settings.samples == shipped_preset(settings.provider).samples
        self._file = sample_file(settings.provider) if is_shipped else None

    def types(self) -> tuple[str, ...]:
        """List the event types that have a sample, in alphabetical order."""
        examples = (Sample(sample.headers, sample.body.encode()) for sample in self._settings.samples)
        found = {type_of(example, self._settings) for example in examples} - {None}
        return tuple(sorted({str(one) for one in found} | set(self._file.samples if self._file else ())))

    def nearest(self, event_type: str | None) -> str | None:
        """Return the type of the sample to use for a type: itself, or one that begins with the same words.

        Returns None if the documented example is to be used.
        """
        if event_type is None:
            return None
        ranked = [(*_likeness(event_type, one), one == event_type, one) for one in self.types()]
        parts, words, *_, best = max(ranked, default=(0, 0, None))
        return best if parts or words else None

    def make(self, event_type: str | None, now: float | None) -> Sample | None:
        """Make the sample of a type from `nearest`, or of the documented example without one.

        At a time `now` (Unix seconds), it is a new event; without a time, it is as written. Returns None if
        the source has no sample.
        """
        if self._file is not None and event_type in self._file.samples:
            return self._file.make(event_type) if now is None else self._file.make_fresh(event_type, now)
        sample = documented_sample(self._settings, event_type)
        if sample is None or now is None:
            return sample
        return with_time(with_new_ids(sample, self._settings), self._settings, now)


def id_like(old: str) -> str:
    """Make a random id in the form of another one: a UUID, hex digits, digits, or letters and digits."""
    try:
        if str(uuid.UUID(old)) == old:
            return str(uuid.uuid4())
    except ValueError:
        pass
    if old.isdigit():
        return secrets.choice("123456789") + "".join(secrets.choice(string.digits) for _ in old[1:])
    is_hex = re.fullmatch(r"[0-9a-f]+", old) is not None
    return "".join(_character_like(one, is_hex=is_hex) for one in old)


def _character_like(old: str, *, is_hex: bool) -> str:
    if is_hex:
        return secrets.choice("0123456789abcdef")
    kinds = (string.digits, string.ascii_lowercase, string.ascii_uppercase)
    return next((secrets.choice(kind) for kind in kinds if old in kind), old)


def _shifted(text: str, shift: int) -> str:
    """Move all times in a text by `shift` seconds. Each keeps its form, its fraction and its offset."""
    delta = timedelta(seconds=shift)

    def iso(found: re.Match[str]) -> str:
        moment = datetime.fromisoformat(found[0]) + delta
        return moment.isoformat(sep="T" if "T" in found[0] else " ")[: len(found[0])]

    def unix(found: re.Match[str]) -> str:
        factor = 1000 if len(found[0]) == _MILLISECOND_DIGITS else 1
        return str(int(found[0]) + shift * factor)

    text = _ISO_TIME.sub(iso, text)
    text = _MAIL_TIME.sub(lambda found: format_datetime(parsedate_to_datetime(found[0]) + delta), text)
    return _UNIX_TIME.sub(unix, text)


def _likeness(one: str, other: str) -> tuple[int, int, int]:
    """Rank how alike two types are: common parts at the start, common words, and the same number of parts."""
    first, second = (re.split("[./:]", text) for text in (one, other))
    words = _common(*(re.findall("[a-z0-9]+", text.lower()) for text in (one, other)))
    return _common(first, second), words, -abs(len(first) - len(second))


def _common(one: list[str], other: list[str]) -> int:
    """Count the elements with which both lists begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))
