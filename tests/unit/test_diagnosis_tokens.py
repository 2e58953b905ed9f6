"""Why a token was refused: the keys of the config that it does not fit are named, and no value of it."""

from __future__ import annotations

from typing import Any

import pytest

from chains import chained_token, in_body, issued, root, settings
from refusals import NOW, explained, request

CLAIM = {"claim": "data.bundleId", "value": "com.example.app"}
UNMARKED = [issued("leaf", "intermediate"), issued("intermediate", "root", authority=True), root()]


@pytest.mark.parametrize(
    ("token", "start", "named"),
    [
        (
            {"claims": {"signedDate": NOW * 1000}},
            "The token is for another receiver",
            "`claims` or `certificates",
        ),
        ({"at": NOW - 9 * 86_400}, "A time of the token does not fit", "(`signedDate` in milliseconds)"),
        (
            {"claims": {"id": 1}},
            "A time of the token does not fit",
            "`signedDate` is required because `max_age`",
        ),
        (
            {"chain": UNMARKED},
            "The token does not match, or its certificates",
            "`sources.acme.verify.certificates`",
        ),
    ],
)
def test_what_a_refused_token_does_not_fit_is_named(token: dict[str, Any], start: str, named: str) -> None:
    asked = request({}, in_body(chained_token(**token)))

    (finding,) = explained(settings(claims=(CLAIM,)), asked).findings
    assert finding.startswith(start)
    assert named in finding
