"""A timestamp that is too old, too new, unreadable or in another unit is explained."""

from __future__ import annotations

import pytest

from gatehouse.diagnosis.diagnose import Diagnosis
from gatehouse.diagnosis.finding import Finding
from refusals import BODY, NOW, TIMED, acme, digest, explained, request


def test_an_old_timestamp_is_reported_with_its_age_and_the_limit() -> None:
    sent = int(NOW) - 812
    headers = acme(f"{sent}.".encode() + BODY) | {"X-Acme-Time": str(sent)}

    found = explained(TIMED, request(headers))

    assert found == Diagnosis(
        "stale_timestamp",
        (
            Finding("The timestamp is 812 s old; the limit is 5m.", "at most 5m old", "812 s old"),
            Finding(
                "Except for its age, the request is valid. It is a late retry or a replayed request, or a "
                "clock is wrong. Check the clock of this machine. To accept late retries, raise "
                "`timestamp.tolerance` in `sources.acme.verify`.",
                change="sources.acme.verify.timestamp.tolerance: 15m",
                certain=False,
            ),
        ),
        sent,
    )


def test_a_timestamp_in_the_future_is_reported_with_the_difference() -> None:
    headers = {"X-Acme-Signature": "00" * 32, "X-Acme-Time": str(int(NOW) + 400)}

    found = explained(TIMED, request(headers))

    assert found.findings[0] == "The timestamp is 400 s in the future; the limit is 5m."
    assert found.findings[1].startswith("The signature does not match the secret `env:S0`.")


@pytest.mark.parametrize(
    ("configured", "sent", "written"),
    [("s", "1750000000123", "ms"), ("ms", "1750000000", "s"), ("s", "2025-06-15T15:06:40Z", "iso8601")],
)
def test_a_timestamp_in_another_unit_is_recognized(configured: str, sent: str, written: str) -> None:
    verify = TIMED | {"timestamp": {"header": "X-Acme-Time", "unit": configured}}
    headers = acme(f"{sent}.".encode() + BODY) | {"X-Acme-Time": sent}

    assert explained(verify, request(headers)).findings == (
        f"The timestamp has the unit `{written}`, but the source has `unit: {configured}`.",
        f"The signature matches with `timestamp: {{unit: {written}}}`. Change it in `sources.acme.verify`.",
    )


@pytest.mark.parametrize(
    ("headers", "finding"),
    [
        ({}, "The timestamp is missing: expected in the header X-Acme-Time."),
        (
            {"X-Acme-Time": "soon"},
            "There is no valid timestamp in the header X-Acme-Time: expected `unit: s`.",
        ),
    ],
)
def test_the_place_of_a_missing_timestamp_is_named(headers: dict[str, str], finding: str) -> None:
    assert explained(TIMED, request(acme(BODY) | headers)).findings == (finding,)


PAIRED = {
    "type": "hmac",
    "signature": {"header": "X-Acme-Signature", "format": "pairs", "key": "v1"},
    "timestamp": {"pair": "t"},
    "signed": "{timestamp}.{body}",
}


def test_the_age_is_also_read_from_the_pairs_of_a_signature() -> None:
    signature = digest(b"1749999188." + BODY).hex()

    found = explained(PAIRED, request({"X-Acme-Signature": f"t=1749999188,v1={signature}"}))

    assert found.signed_at == NOW - 812
    assert found.findings[1].startswith("Except for its age, the request is valid.")
