"""The samples of event types: each passes the real verification, and is read as a new event of its type."""

from __future__ import annotations

import json
import re
import zlib
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from doubles.keys import Known
from gatehouse import providers
from gatehouse.config.presets import shipped_preset
from gatehouse.errors import GatewayError
from gatehouse.events.event import ReadEvent
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.language.times import rfc3339
from gatehouse.samples.event_type import with_type
from gatehouse.samples.sample import Sample, documented_sample, sign_sample, type_of, with_new_ids, with_time
from gatehouse.samples.typed import WRITTEN_AT, SampleFile, Samples, sample_file
from presets import is_symmetric, source
from published_keys import issued_certificate, signed, with_fetched_keys

NOW = 1_800_000_000
FILES = {name: found for name in providers.names() if (found := sample_file(name))}
each_file = pytest.mark.parametrize("name", FILES)
each_sample = pytest.mark.parametrize(
    ("name", "event_type"), [(name, one) for name, file in FILES.items() for one in file.samples]
)
PAYPAL_KEY = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
#: Types whose events name no object: they are about the whole account, or about a person.
WITHOUT_SUBJECT = {
    ("github", "installation.created"),
    *(("slack", one) for one in ("team_join", "file_shared", "app_uninstalled", "view_submission")),
    ("twilio", "com.twilio.messaging.message.delivered"),
}
#: The presets whose types are a closed set: a constant, or the names of members.
CLOSED = {
    "airtable": ["notification"],
    "braintree": ["notification"],
    "dropbox": ["list_folder", "delta"],
    "sinch": ["message", "contact_create_notification", "callback"],
    "telegram": ["message", "callback_query", "chat_member", "update"],
}


def made(name: str, event_type: str) -> tuple[Source, Sample]:
    of = ready(name)
    sample = Samples(of.settings).make(event_type, NOW)
    assert sample is not None
    return of, sample


def ready(name: str) -> Source:
    of = source(name, values={"webhook_id": "1JE4291016473214C"} if name == "paypal" else None)
    if name == "paypal":
        certificate = issued_certificate(
            "messageverificationcerts.paypal.com", since=NOW - 60, until=NOW + 60
        )
        with_fetched_keys(of.verification, Known({PAYPAL_KEY: certificate}))
    return of


def sent(of: Source, sample: Sample) -> Request:
    """Sign as the provider does. Only PayPal has the key of its scheme, so PayPal's has a double."""
    if of.settings.provider != "paypal":
        return sign_sample(of, sample, NOW)
    transmission = "69cd13f0-d67a-11e5-baa3-778b53f4ae55", rfc3339(NOW)
    text = f"{'|'.join(transmission)}|1JE4291016473214C|{zlib.crc32(sample.body)}"
    values = dict(zip(("TRANSMISSION-ID", "TRANSMISSION-TIME"), transmission, strict=True)) | {
        "TRANSMISSION-SIG": signed(text.encode()),
        "CERT-URL": PAYPAL_KEY,
        "AUTH-ALGO": "SHA256withRSA",
    }
    headers = dict(sample.headers) | {f"PAYPAL-{key}": value for key, value in values.items()}
    return Request("POST", of.path, "", CIMultiDict(headers), sample.body, of.public_url)


def read(of: Source, sample: Sample) -> ReadEvent:
    """Verify and read the one event of a sample."""
    (event,) = of.reader.read(of.verification.verify(sent(of, sample), NOW), NOW, ())
    return event


@each_sample
def test_a_sample_is_verified_and_read_as_an_event_of_its_type(name: str, event_type: str) -> None:
    event = read(*made(name, event_type)).event

    assert event.type == event_type
    assert event.external_id != event.id
    assert event.time.removesuffix("Z").split(".")[0] == rfc3339(NOW).removesuffix("Z")
    assert bool(event.subject) == ((name, event_type) not in WITHOUT_SUBJECT)
    assert event.account or name in ("stripe", "paypal")


@each_sample
def test_two_samples_of_a_type_share_no_id_and_no_dedupe_key(name: str, event_type: str) -> None:
    first, second = (read(*made(name, event_type)) for _ in range(2))

    assert first.event.external_id != second.event.external_id
    keys = [{key.scoped for key in one.keys if key} for one in (first, second)]
    assert all(keys)
    assert not keys[0] & keys[1]


@each_sample
def test_a_sample_has_the_shape_of_the_one_that_is_written(name: str, event_type: str) -> None:
    """New ids and times have the forms of the old ones."""
    written = FILES[name].make(event_type)
    fresh = FILES[name].make_fresh(event_type, WRITTEN_AT)

    assert shape(fresh.body) == shape(written.body)
    assert {key: shape(value.encode()) for key, value in fresh.headers.items()} == {
        key: shape(value.encode()) for key, value in written.headers.items()
    }


def shape(raw: bytes) -> str:
    """Replace letters and digits, in which new ids differ."""
    return re.sub(r"[0-9a-zA-Z]", "x", raw.decode())


@each_file
def test_no_time_of_the_file_is_left_in_a_fresh_sample(name: str) -> None:
    for event_type in FILES[name].samples:
        _, sample = made(name, event_type)
        text = sample.body.decode() + str(sample.headers)
        assert not re.search(r"2026-0[12]-\d\d|1768\d{6}\b|(Jan|Feb)[ +]2026", text)


@each_file
def test_each_value_to_replace_is_long_and_part_of_a_sample(name: str) -> None:
    """A short one could be part of another value by chance."""
    file = FILES[name]
    text = "".join(str(file.make(one).headers) + file.make(one).body.decode() for one in file.samples)

    assert [one for one in file.new if len(one) < 7 or one not in text] == []
    assert [(a, b) for a in file.new for b in file.new if a != b and a in b] == []


@each_file
def test_the_types_of_the_presets_examples_have_a_sample_if_there_is_a_file(name: str) -> None:
    settings = shipped_preset(name)
    for given in settings.samples:
        assert type_of(Sample(given.headers, given.body.encode()), settings) in FILES[name].samples


@each_file
def test_a_file_has_samples_of_many_types_and_no_secret(name: str) -> None:
    assert len(FILES[name].samples) >= 10
    text = (providers.samples(name) or b"").decode()
    assert not re.search(r"whsec_|sk_live|sk_test|shpss_|xox[bp]-", text)


def test_all_files_together_are_small() -> None:
    assert sum(len(providers.samples(name) or b"") for name in FILES) <= 150 * 1024


def test_every_file_belongs_to_a_preset() -> None:
    folder = Path(providers.__file__).parent / "samples"
    assert {file.stem for file in folder.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", providers.names())
def test_every_preset_makes_an_event_of_any_type(name: str) -> None:
    """Also of types without a sample: the type is set where the preset reads it."""
    settings = shipped_preset(name)
    example = with_new_ids(documented_sample(settings) or pytest.fail("no sample"), settings)
    example = with_time(example, settings, NOW)
    parts = 3 if name == "stytch" else 2
    for wanted in CLOSED.get(
        name, [".".join(["thing", "happened", "today"][:parts]), "new_thing.changed.now"]
    ):
        changed = with_type(example, settings, wanted)
        assert type_of(changed, settings) == wanted
        if is_symmetric(settings):
            of = source(name)
            read_events = of.reader.read(of.verification.verify(sign_sample(of, changed, NOW), NOW), NOW, ())
            assert read_events[0].event.type == wanted


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("airtable", "every event of this source has the type notification"),
        ("braintree", "every event of this source has the type notification"),
        ("dropbox", "list_folder, delta"),
        ("sinch", "message_delivery_report, event"),
        ("telegram", "callback_query"),
        ("stytch", "{body:source}.{body:object_type}.{body:action}"),
    ],
)
def test_a_preset_that_has_no_place_for_a_type_says_which_types_it_has(name: str, said: str) -> None:
    settings = shipped_preset(name)
    with pytest.raises(GatewayError) as caught:
        with_type(documented_sample(settings) or pytest.fail("no sample"), settings, "of_another_form")
    assert said in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("github", "push", {"X-GitHub-Event": "push"}),
        ("github", "label.created", {"X-GitHub-Event": "label"}),
        ("sentry", "installation.created", {"Sentry-Hook-Resource": "installation"}),
    ],
)
def test_a_type_in_a_header_is_set_there(name: str, wanted: str, expected: dict[str, str]) -> None:
    settings = shipped_preset(name)
    changed = with_type(documented_sample(settings) or pytest.fail("no sample"), settings, wanted)
    assert expected.items() <= dict(changed.headers).items()
    assert ("action" in json.loads(changed.body)) == ("." in wanted)


@pytest.mark.parametrize(
    ("name", "wanted", "nearest"),
    [
        ("stripe", "invoice.voided", "invoice.payment_failed"),
        ("stripe", "invoice.paid", "invoice.paid"),
        ("stripe", "customer.subscription.paused", "customer.subscription.updated"),
        ("stripe", "customer.deleted", "customer.created"),
        ("github", "pull_request.reopened", "pull_request.synchronize"),
        ("slack", "/deploy", "/weather"),
        ("shopify", "orders/edited", "orders/updated"),
        ("stripe", "radar.early_fraud_warning.created", None),
        ("stripe", None, None),
    ],
)
def test_a_type_without_a_sample_uses_one_that_begins_alike(
    name: str, wanted: str | None, nearest: str | None
) -> None:
    assert Samples(ready(name).settings).nearest(wanted) == nearest


def test_a_source_with_samples_of_its_own_uses_only_these() -> None:
    of = source("stripe", samples=[{"body": '{"id": "evt_1", "type": "mine"}'}])
    assert Samples(of.settings).types() == ("mine",)


def test_times_keep_their_form_when_they_are_moved() -> None:
    body: dict[str, Any] = {
        "iso": "2026-01-15T10:00:00.250Z",
        "offset": "2026-01-15T05:00:00-05:00",
        "ruby": "2026-01-15 10:00:00 UTC",
        "day": "2026-01-29",
        "s": WRITTEN_AT,
        "ms": WRITTEN_AT * 1000,
        "slack": f"{WRITTEN_AT}.000200",
        "mail": "Thu, 15 Jan 2026 10:00:00 +0000",
        "kept": ["2025-01-15", "x1768471200", 17684712001, "2026"],
    }
    text = json.dumps({"headers": {}, "new": [], "samples": {"x": {"body": body}}})
    file = SampleFile.read(text.encode())
    moved = json.loads(file.make_fresh("x", WRITTEN_AT + 86_400 + 1).body)

    assert moved["mail"] == "Fri, 16 Jan 2026 10:00:01 +0000"
    assert parsedate_to_datetime(moved["mail"]).timestamp() == moved["s"] == moved["ms"] / 1000
    assert moved == body | {
        "iso": "2026-01-16T10:00:01.250Z",
        "offset": "2026-01-16T05:00:01-05:00",
        "ruby": "2026-01-16 10:00:01 UTC",
        "day": "2026-01-30",
        "s": WRITTEN_AT + 86_401,
        "ms": (WRITTEN_AT + 86_401) * 1000,
        "slack": f"{WRITTEN_AT + 86_401}.000200",
        "mail": "Fri, 16 Jan 2026 10:00:01 +0000",
    }
