"""Words and rules of the overview and of the screens of sources and destinations."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.language.times import rfc3339
from gatehouse.operator.page import advice, charts, day
from gatehouse.operator.page.series import Series, Silence, parts, silence
from gatehouse.operator.page.states import source_state
from gatehouse.operator.page.wording import sentence

NOW = 1_800_000_000.0
STEP = 300.0


def test_each_problem_is_said_with_what_to_do_and_where() -> None:
    status: dict[str, Any] = {
        "store": {"available": False, "disk_low": True, "free_bytes": 3 * 1024**2},
        "workers": [{"number": 2, "serving": False}],
        "sources": [],
        "reload": {"successful": False, "at": "2027-01-15T07:57:00Z", "problems": ["gateway.yaml:3: no"]},
        "destinations": [
            {
                "name": "billing",
                "ready": True,
                "breaker": "closed",
                "dead": 1204,
                "paused": False,
                "open_since": None,
                "next_probe": None,
            }
        ],
    }
    said = advice.problems(status, NOW)

    assert [(one.state.words, one.what, one.links[0].path) for one in said] == [
        (
            "Store unavailable",
            "The store does not answer. Providers get 503, and send again later.",
            "/system",
        ),
        ("Disk low", "The disk of the store has only 3.0 MiB free. Providers get 503.", "/system"),
        ("Worker down", "Worker 2 does not serve. The others do its work.", "/system"),
        (
            "Reload failed",
            "The config was refused 3 min ago, and the previous one is in use: gateway.yaml:3: no",
            "/system",
        ),
        ("Dead letters", "1,204 dead letters of billing. Nothing retries them.", "/dead"),
    ]
    assert said[-1].links[0].query == {"destination": "billing"}
    assert all(one.do for one in said)


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        # Two hours of silence after an hour with events in every bucket.
        ([1] * 12 + [0] * 24 + [0], Silence(7200.0, 300.0)),
        # It was silent for as long before.
        ([1] * 6 + [0] * 24 + [1] * 6 + [0] * 24 + [0], None),
        # The last event was only 25 minutes ago, or has just come.
        ([1] * 12 + [0] * 5 + [0], None),
        ([1] * 12 + [0] * 24 + [1], None),
        # Too few events to know what is usual, and times that nobody counted.
        ([1] * 11 + [0] * 200, None),
        ([None] * 200 + [1] * 12 + [0] * 25, Silence(7200.0, 300.0)),
        ([1] * 12 + [0] * 24 + [None], None),
    ],
)
def test_a_silence_is_unusual_when_it_is_much_longer_than_those_before(
    accepted: list[int | None], expected: Silence | None
) -> None:
    assert silence(accepted, STEP) == expected
    source = {"ready": True, "last_accepted": "2027-01-15T05:57:00Z", "refused_last_hour": 0}
    assert source_state(source, expected).words == ("silent for 2 h" if expected else "ready")


@pytest.mark.parametrize(
    ("refused", "accepted", "words"),
    [
        ("2027-01-15T07:59:00.5Z", "2027-01-15T07:59:00Z", "ready, last request refused"),
        ("2027-01-15T07:59:00.5Z", None, "ready, last request refused"),
        ("2027-01-15T07:59:00Z", "2027-01-15T07:59:00.5Z", "ready"),
    ],
)
def test_a_source_is_not_only_ready_when_the_last_request_was_refused(
    refused: str, accepted: str | None, words: str
) -> None:
    source = {"ready": True, "last_accepted": accepted, "refused_last_hour": 1}
    assert source_state(source | {"last_refused": {"time": refused}}, None).words == words


def test_messages_become_sentences_and_keys_stay_as_they_are() -> None:
    assert sentence("no source has this name") == "No source has this name."
    assert sentence("http_status: not a number.") == "http_status: not a number."


def test_unknown_buckets_stay_unknown_when_neighbors_are_combined() -> None:
    assert parts([None, None, None, 2, 3, 4, 5], 2) == [None, 2, 7, 5]
    assert parts([None, 3, 1, 4], 2, max) == [3, 4]


def test_a_chart_stacks_its_series_to_the_maximum_and_labels_hours() -> None:
    start = NOW // 86400 * 86400 + 23 * 3600  # 23:00
    drawn = str(
        charts.chart(
            [Series("timeout", "0", [None, 1, 0]), Series("dns", "1", [None, 2, 1])],
            *(start, 3600.0),
            *("Failures: <3>.", "max 3"),
        )
    )

    assert 'aria-label="Failures: &lt;3&gt;."' in drawn
    assert '<rect class="gap" x="0" y="0" width="1" height="120"/>' in drawn
    assert '<rect class="c-0" x="1" y="80.0" width="0.85" height="40.0"/>' in drawn
    assert '<rect class="c-1" x="1" y="0.0" width="0.85" height="80.0"/>' in drawn
    assert '<rect class="c-1" x="2" y="80.0" width="0.85" height="40.0"/>' in drawn
    assert drawn.count('class="hour"') == 1
    assert '<text class="hour" x="33.33%" y="150">00:00</text>' in drawn


def test_the_day_of_a_destination_has_its_reasons_by_frequency_and_its_hours_as_a_table() -> None:
    hour = NOW // 3600 * 3600
    history = {"from": rfc3339(hour + 1800), "step_seconds": 300}
    buckets = {
        name: [None] * 6 + [count] * 6
        for count, name in enumerate(("tls", "dns", "gone", "timeout", "connect", "redirect", "rejected"), 1)
    }
    shown = day.of_destination(
        history,
        {"reasons": buckets, "delivered": [None] * 6 + [200] * 6, "failed": [], "lag": [0] * 11 + [90]},
    )

    _, failed, lag = shown.charts
    unknown = "\u2013"
    assert [(one.name, one.total) for one in failed.legend] == [
        ("rejected", 42),
        ("redirect", 36),
        ("connect", 30),
        ("timeout", 24),
        ("gone", 18),
        ("other", 18),
    ]
    assert failed.highest == "max 84"
    assert lag.highest == "max 1 min"
    assert shown.columns[:2] == ["Delivered", "rejected"]
    assert [(time, cells[0], cells[1], cells[-1]) for time, cells in shown.rows] == [
        (rfc3339(hour + 3600), "1,200", "42", "1 min"),
        (rfc3339(hour), unknown, unknown, "0"),
    ]
