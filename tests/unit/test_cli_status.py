"""What `status` says about an answer of the API."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.cli.status import findings

IN_ORDER = {
    "now": "2027-01-15T08:00:00Z",
    "sources": [{"name": "shop", "ready": True, "not_ready": None}],
    "destinations": [
        {
            "name": "billing",
            "ready": True,
            "not_ready": None,
            "paused": True,
            "breaker": "closed",
            "open_since": None,
            "next_probe": None,
            "dead": 0,
        }
    ],
    "store": {"available": True, "disk_low": False, "free_bytes": 3 * 1024**2},
    "reload": {"successful": True, "problems": []},
}


def changed(part: str, **changes: Any) -> dict[str, Any]:
    value: Any = IN_ORDER[part]
    return IN_ORDER | {part: [value[0] | changes] if isinstance(value, list) else value | changes}


def test_a_paused_destination_needs_nobody() -> None:
    assert list(findings(IN_ORDER)) == []


@pytest.mark.parametrize(
    ("answer", "what", "hint"),
    [
        (
            changed("sources", ready=False, not_ready="env:SECRET is not set"),
            "source shop is not ready: env:SECRET is not set",
            "restart the gateway",
        ),
        (
            changed("destinations", ready=False, not_ready="file:secret is empty"),
            "destination billing is not ready: file:secret is empty",
            "gatehouse reload",
        ),
        (
            changed(
                "destinations",
                breaker="open",
                open_since="2027-01-15T07:55:00Z",
                next_probe="2027-01-15T08:00:12Z",
            ),
            "the circuit breaker of destination billing has been open for 5 min; next probe in 12 s",
            "gatehouse resume billing",
        ),
        (changed("destinations", dead=2), "destination billing has 2 dead letters", "gatehouse retry"),
        (changed("store", available=False), "the store does not answer; providers get 503", "the log"),
        (changed("store", disk_low=True), "only 3.0 MiB free", "free space"),
        (
            changed("reload", successful=False, problems=["gateway.yaml:3: no\x1b"]),
            "the previous config is in use: gateway.yaml:3: no\\x1b",
            "gatehouse check",
        ),
        (IN_ORDER | {"workers": [{"number": 2, "serving": False}]}, "worker 2 does not serve", "the log"),
    ],
)
def test_each_problem_has_a_next_step(answer: dict[str, Any], what: str, hint: str) -> None:
    (finding,) = findings(answer)

    assert what in finding.what
    assert hint in finding.hint
