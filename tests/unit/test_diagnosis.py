"""A diagnosis contains no secret, is made for every input, takes limited time, and works without the body."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.diagnosis.diagnose import diagnose, diagnose_head
from gatehouse.errors import REASONS, Reason
from growth import growing
from refusals import ANY, NOW, PLAIN, SECRET, TIMED, URL, acme, digest, explained, known, request, settings


def test_no_finding_contains_a_secret_a_signature_or_a_part_of_the_body() -> None:
    secret, body = "an-unmistakable-secret", b'{"unmistakable": "text-of-the-body"}'
    verifiers: list[dict[str, Any]] = [PLAIN, TIMED, URL, ANY, PLAIN | {"signed": "{body:absent}"}]
    for verify in verifiers:
        for signature in (digest(body, secret, "sha1").hex(), "sha256=feedfacefeedface", "v1,feedface"):
            headers = {"X-Acme-Signature": signature, "X-Acme-Time": "1", "X-Acme-Sig": signature}
            found = explained(verify, request(headers, body), secret).explained
            told = " ".join(str(part) for finding in found for part in finding)
            for text in ("unmistakable", "text-of-the-body", "feedface", signature[:16]):
                assert text not in told


HEADERS = st.sampled_from(["X-Acme-Signature", "X-Acme-Time", "Host", "Content-Type", "Authorization", "X-A"])


VERIFIERS = st.sampled_from(
    [
        *(PLAIN, TIMED, URL, ANY, PLAIN | {"signed": "{body:a.b}{header:X-A}"}),
        *({"type": "token", "header": "X-A"}, {"type": "basic"}, {"type": "token", "body": "a"}),
        {"type": "allowlist", "networks": ("10.0.0.0/8",)},
    ]
)


@given(
    verify=VERIFIERS,
    headers=st.lists(st.tuples(HEADERS, st.text(max_size=40)), max_size=5),
    body=st.binary(max_size=60) | st.just(b'{"a": {"b": 1e999}}') | st.just(b"[" * 100_000),
    reason=st.sampled_from(REASONS),
)
def test_a_diagnosis_is_made_for_every_request(
    verify: dict[str, Any], headers: list[tuple[str, str]], body: bytes, reason: Reason
) -> None:
    source = known("acme", settings(verify), SECRET + ":x")

    assert diagnose(request(headers, body), source, [source], NOW, reason).reason == reason


def test_the_time_for_a_long_body_is_limited() -> None:
    """The work is a fixed number of variants, each about as long as verifying is."""
    for size in growing(1_000_000):
        body = json.dumps({"text": "x" * size}).encode()

        explained(PLAIN, request(acme(b"another"), body), SECRET, SECRET + "2")


@pytest.mark.parametrize(
    ("verify", "headers", "reason", "told"),
    [
        (PLAIN, {}, "missing_signature", "The header X-Acme-Signature is missing."),
        (
            TIMED,
            [("X-Acme-Time", "1"), ("X-Acme-Time", "2")],
            "duplicate_header",
            (
                "The header X-Acme-Time occurs twice, but Gatehouse expects it once. Find the proxy that "
                "adds it, and configure it to forward the provider's header only."
            ),
        ),
        (
            TIMED,
            {"X-Acme-Time": "1749999188"},
            "stale_timestamp",
            "The timestamp is 812 s old; the limit is 5m.",
        ),
    ],
)
def test_a_request_without_its_body_is_explained_by_its_head(
    verify: dict[str, Any], headers: Any, reason: Reason, told: str
) -> None:
    found = diagnose_head(request(headers, b""), known("acme", settings(verify), SECRET), NOW, reason)

    assert found.findings[0] == told
    assert found.findings[-1].endswith("Save the whole request, and run `gatehouse verify acme FILE`.")


def test_without_the_body_the_age_limit_that_refuses_is_named() -> None:
    unlimited = TIMED | {"timestamp": {"header": "X-Acme-Time", "tolerance": "none"}}
    head = request({"X-Acme-Time": str(int(NOW) - 812)}, b"")
    source = known("acme", settings(unlimited), SECRET)
    limited = replace(source, max_age=300.0)

    assert len(diagnose_head(head, source, NOW, "stale_timestamp").findings) == 1
    found = diagnose_head(head, limited, NOW, "stale_timestamp").findings[0]
    assert found.startswith("The signature is valid, but the request is older than `max_age: 5m`.")
