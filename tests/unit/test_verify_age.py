"""`max_age`: a genuine request that was signed too long ago is refused, based on a signed time."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from multidict import CIMultiDict

from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.diagnosis.diagnose import diagnose
from gatehouse.diagnosis.known import known_sources
from gatehouse.errors import ConfigError
from gatehouse.language.request import Request
from gatehouse.language.times import rfc3339
from gatehouse.verify.base import Verification
from gatehouse.verify.build import build_verification
from verifying import NOW, refusal_reason

pytestmark = pytest.mark.case("F-03")

DAY = 86_400
SECRET = "s3cr3t-of-at-least-16-bytes"
PLAIN = {"type": "hmac", "signature": {"header": "X-Sig"}}
TIMED = {
    "type": "hmac",
    "signature": {"header": "X-Sig"},
    "timestamp": {"header": "X-Time", "tolerance": "none"},
    "signed": "{timestamp}.{body}",
}
EVENT = {"type": "x", "time": "{body:at}"}


def config(verify: Any = PLAIN, event: Any = EVENT, **settings: Any) -> str:
    source = {"verify": verify, "event": event, "secrets": "env:S", "max_age": "2d"} | settings
    kept = {name: value for name, value in source.items() if value is not None}
    return json.dumps({"sources": {"it": kept}})


def checked(*args: Any, **settings: Any) -> Verification:
    loaded = parse(config(*args, **settings))
    return build_verification(loaded.config.sources["it"], Secrets(loaded.directory, {"S": SECRET}))


def signed(checks: Verification, body: object, at: float = NOW, headers: Any = ()) -> Request:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return checks.sign(Request("POST", "/", "", CIMultiDict(headers), raw), at)


@pytest.mark.parametrize("written", [int, lambda at: int(at * 1000), rfc3339], ids=["s", "ms", "iso8601"])
def test_an_old_event_in_a_signed_body_is_refused(written: Any) -> None:
    of = checked()

    of.verify(signed(of, {"at": written(NOW - 2 * DAY)}), NOW)
    assert refusal_reason(of, signed(of, {"at": written(NOW - 2 * DAY - 1)})) == "stale_timestamp"


def test_the_signed_timestamp_takes_precedence_over_the_time_of_the_event() -> None:
    of = checked(TIMED)

    of.verify(signed(of, {"at": NOW - 9 * DAY}, at=NOW - 2 * DAY), NOW)
    assert refusal_reason(of, signed(of, {"at": NOW}, at=NOW - 2 * DAY - 1)) == "stale_timestamp"


def test_an_unsigned_time_does_not_affect_the_age_of_a_request() -> None:
    loose = checked(TIMED | {"signed": "{body}"})
    header = checked(event={"type": "x", "time": "{header:X-At}"}, max_age="2d")

    assert refusal_reason(loose, signed(loose, {"at": NOW - 3 * DAY})) == "stale_timestamp"
    header.verify(signed(header, {}, headers={"X-At": rfc3339(NOW - 9 * DAY)}), NOW)


def test_a_signed_body_without_a_readable_time_has_no_age() -> None:
    of = checked()

    for body in ({}, {"at": "yesterday"}, {"at": None}, b"no JSON"):
        of.verify(signed(of, body), NOW)


def test_a_time_is_required_if_only_parts_of_the_body_are_signed() -> None:
    of = checked(PLAIN | {"signed": "{body:at?}/{body:id}"})

    of.verify(signed(of, {"id": 1, "at": NOW}), NOW)
    assert refusal_reason(of, signed(of, {"id": 1})) == "malformed_timestamp"
    assert refusal_reason(of, signed(of, {"id": 1, "at": "x"})) == "malformed_timestamp"


def test_the_age_of_a_batch_is_that_of_its_newest_event() -> None:
    of = checked(event=EVENT | {"split": "{body:items}"})
    old, new = {"at": NOW - 9 * DAY}, {"at": NOW - DAY}

    of.verify(signed(of, {"items": [old, new, old]}), NOW)
    of.verify(signed(of, {"items": [old, {}]}), NOW)
    of.verify(signed(of, {"items": []}), NOW)
    assert refusal_reason(of, signed(of, {"items": [old, old]})) == "stale_timestamp"


def test_the_time_in_an_inner_document_determines_the_age() -> None:
    of = checked(event=EVENT | {"document": "{form:payload}"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    def asked(at: float) -> Request:
        return signed(of, urlencode({"payload": json.dumps({"at": at})}).encode(), headers=form)

    of.verify(asked(NOW - DAY), NOW)
    assert refusal_reason(of, asked(NOW - 3 * DAY)) == "stale_timestamp"


def test_the_claims_of_a_token_determine_its_age() -> None:
    of = checked({"type": "jwt", "algorithm": "HS256", "header": "Authorization"}, {"type": "x"})
    token = signed(of, {}, at=NOW)

    of.verify(token, NOW + 100)
    assert refusal_reason(of, token, NOW + 3 * DAY) == "stale_timestamp"


def test_max_age_applies_to_each_alternative_of_type_any() -> None:
    of = checked({"type": "any", "of": [TIMED, PLAIN]})
    by_body = checked()

    assert refusal_reason(of, signed(of, {}, at=NOW - 3 * DAY)) == "stale_timestamp"
    assert refusal_reason(of, signed(by_body, {"at": NOW - 3 * DAY})) == "stale_timestamp"


@pytest.mark.parametrize("window", [{}, {"dedupe": {"window": "3d"}}])
def test_max_age_must_not_exceed_the_dedupe_window(window: dict[str, Any]) -> None:
    parse(config(max_age="3d", **window))
    with pytest.raises(ConfigError, match=r"sources\.it\.max_age: longer than the dedupe window"):
        parse(config(max_age="7d1s", **window))


def test_the_dedupe_window_of_a_source_shortens_the_limit_of_its_preset() -> None:
    of = checked(None, None, provider="notion", max_age=None, dedupe={"window": "1d"})
    body = {"id": "1", "type": "t"}

    of.verify(signed(of, body | {"timestamp": rfc3339(NOW - DAY)}), NOW)
    assert refusal_reason(of, signed(of, body | {"timestamp": rfc3339(NOW - DAY - 1)})) == "stale_timestamp"


def test_the_diagnosis_explains_a_refusal_because_of_age() -> None:
    loaded = parse(config())
    secrets = Secrets(loaded.directory, {"S": SECRET})
    of = build_verification(loaded.config.sources["it"], secrets)
    (known,) = known_sources(loaded.config.sources, secrets, 1024)

    found = diagnose(signed(of, {"at": 0}), known, [], NOW, "stale_timestamp")

    (told,) = found.findings
    assert told.startswith("The signature is valid, but the request is older than `max_age: 2d`. ")
