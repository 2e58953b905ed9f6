"""The benchmark report: ratios, percentiles, tables, and a page that keeps its section "Flat cost"."""

from __future__ import annotations

import json
import math

import pytest

from bench import idle, latency, overload, speed, startup
from bench.contestants import Contestant, settings
from bench.load import Stretch
from bench.report import Section, Table, goal, kept, page, percentile, spread
from bench.rounds import SENT, Case, delivered, ratio, ratios
from bench.steady import Answer, plan
from gatehouse.config.load import parse

FACTS = {"Date": "2026-01-15"}
SECTIONS = [Section("Ingest", "Some text.", Table(("", "accepted/s"), [("Gatehouse", "4,000")]))]


def stretches(*figures: float) -> list[Stretch]:
    return [Stretch(figure, 1.0, 2.0, 0, delivered=figure / 2) for figure in figures]


def test_a_percentile_is_a_measured_value() -> None:
    values = [float(value) for value in range(1, 101)]

    assert percentile(values[::-1], 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 1) == 100.0
    assert percentile([7.0], 0.01) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_ratios_compare_a_figure_within_each_round() -> None:
    ours, theirs = stretches(400, 100, 900), stretches(1000, 200, 1000)

    assert ratios(ours, theirs) == pytest.approx([0.4, 0.5, 0.9])
    assert ratio(ours, theirs, delivered) == pytest.approx(0.5)


def test_a_ratio_is_written_with_its_rounds() -> None:
    assert spread([0.4, 0.9, 0.5]) == "0.50 (0.40 to 0.90)"
    assert spread([0.52]) == "0.52"


@pytest.mark.parametrize(
    ("value", "bound", "most", "written"),
    [
        (0.5, 0.5, False, "≥ 0.5 ✓"),
        (0.49, 0.5, False, "≥ 0.5 ✗"),
        (0.3, 0.3, True, "≤ 0.3 ✓"),
        (0.31, 0.3, True, "≤ 0.3 ✗"),
        (math.nan, 25, True, "≤ 25 ✗"),
    ],
)
def test_a_goal_shows_whether_it_was_met(value: float, bound: float, most: bool, written: str) -> None:
    assert goal(value, bound, most=most) == written


def test_a_table_is_markdown_with_figures_to_the_right() -> None:
    table = Table(("", "per second"), [("bare handler", "9"), ("x", "10,000")])

    assert table.markdown().splitlines() == [
        "|              | per second |",
        "| ------------ | ---------: |",
        "| bare handler |          9 |",
        "| x            |     10,000 |",
    ]


def test_a_page_contains_the_figures_and_the_test_setup() -> None:
    written = page(SECTIONS, FACTS, "")

    assert written.startswith("# Benchmarks\n")
    assert "- Date: 2026-01-15" in written
    assert SECTIONS[0].markdown() in written
    assert "Flat cost" not in written


def test_a_new_page_keeps_the_sections_of_the_old_one_that_it_does_not_write() -> None:
    flat = "## Flat cost\n\nAs much with 10 M keys.\n\n### In detail\n\n| a |\n| - |"
    screens = "## Operator page\n\nFast."
    text = (
        f"# Benchmarks\n\n{flat}\n\n## {SECTIONS[0].title}\n\nOld.\n\n{screens}\n\n## Run it again\n\nOld.\n"
    )
    old = page(SECTIONS, {"Date": "2025-01-01"}, text)

    new = page(SECTIONS, FACTS, old)

    assert kept(new, [SECTIONS[0].title]) != kept(new, [])
    assert new.count(flat) == new.count(screens) == 1
    assert "2025" not in new
    assert "Old." not in new
    assert page(SECTIONS, FACTS, new) == new


def test_a_missing_contestant_has_a_row_that_names_it() -> None:
    one = Contestant("one", 1, 1)
    gateway = Contestant("Gatehouse", 1, 1, operator_port=2)
    running = speed.Running(one, one, one, one, one, gateway, None, None, None)
    cases = [*running.ingest(), *running.end_to_end()]

    ingest, through = speed.sections(running, {case: stretches(1000, 2000) for case in cases})

    absent = ["the compiled reference was not built", "FastAPI is not installed"]
    assert [row[0] for row in ingest.table.rows][-2:] == absent
    assert [row[0] for row in through.table.rows][-3:] == [
        *absent,
        "Node is not installed",
    ]
    for table in (ingest.table, through.table):
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_end_to_end_compares_deliveries_with_those_of_the_proxy_and_of_the_compiled_reference() -> None:
    one, gateway = Contestant("one", 1, 1), Contestant("Gatehouse", 1, 1, operator_port=2)
    compiled = Contestant("compiled reference", 1, 3, operator_port=3)
    running = speed.Running(one, one, one, one, one, gateway, compiled, None, None)
    found = {case: stretches(1000) for case in [*running.ingest(), *running.end_to_end(64)]}
    found[Case(gateway, SENT, "Gatehouse, one POST per event")] = [Stretch(3000, 1, 2, 0, delivered=450)]
    (of_compiled,) = running.compiled(SENT)
    found[of_compiled] = [Stretch(4000, 1, 2, 0, delivered=900)]

    through = speed.sections(running, found, 64)[1]

    row = through.table.rows[1]
    assert row[:5] == ("Gatehouse, one POST per event", "3,000", "450", "0.90", "≥ 0.8 ✓")
    assert row[5:7] == ("0.50", "≥ 0.65 ✗")
    assert through.table.columns[5] == "ratio to compiled reference"
    of_reference = next(row for row in through.table.rows if row[0] == "compiled reference")
    assert of_reference[:7] == ("compiled reference", "4,000", "900", "1.80", "", "1", "")
    assert "concurrency 64" in through.table.rows[3][0]


def test_each_destination_has_a_source_of_the_same_name() -> None:
    given = settings({"url": "sqlite:///gatehouse.db"}, {"sent": {"url": "http://127.0.0.1:1/"}})

    config = parse(json.dumps(given)).config

    assert set(config.sources) == {"stored", "sent"}
    assert set(config.destinations) == {"sent"}


def test_times_count_from_the_planned_moment() -> None:
    answers = [Answer(1.0, 1.1, 1.5, 200), Answer(2.0, 2.0, 2.25, 200)]

    times = latency.times_of(answers, {"evt_a_00000001": 2.125}, "a")

    assert times.answered == pytest.approx([500, 250])
    assert times.late == pytest.approx([100, 0])
    assert times.delivered == pytest.approx([125])


def test_latency_is_compared_with_the_bare_handler() -> None:
    found = {
        "bare handler": latency.Times([1.0] * 10, [0.0] * 10, []),
        "Gatehouse": latency.Times([5.0] * 10, [0.0] * 10, [30.0] * 10),
    }

    row = latency.section(found).table.rows[1]

    assert row[3:5] == ("5.0", "≤ 10 ✓")
    assert row[6:8] == ("30.00", "≤ 25 ✗")


def test_the_moments_are_fixed_in_advance_and_match_the_rate() -> None:
    moments = plan(3000, 300, 100.0)

    assert moments == plan(3000, 300, 100.0)
    assert moments == sorted(moments)
    assert moments[0] == 100.0
    assert moments[-1] - moments[0] == pytest.approx(10, rel=0.1)


def test_overload_shows_the_share_of_the_peak_and_the_slowest_answer() -> None:
    found = {
        32: [Stretch(900, 1, 2, 0)] * 2,
        128: [Stretch(1000, 1, 2, 0)] * 2,
        1280: [Stretch(850, 1, 2, 50, slowest=300, unavailable=50), Stretch(850, 1, 2, 0, slowest=1200)],
        4000: [Stretch(700, 1, 2, 0, slowest=990, broken=3)] * 2,
    }

    rows = overload.section(found).table.rows

    assert overload.peak({key: found[key] for key in (32, 128)}) == 128
    assert rows[2][:6] == ("1,280", "850", "0.85", "≥ 0.8 ✓", "1.20", "≤ 1 ✗")
    assert rows[3][2:6] == ("0.70", "≥ 0.8 ✗", "0.99", "≤ 1 ✓")
    assert rows[3][-1] == "6"


def test_the_goals_of_starts_and_idle_gateways_apply_to_the_median() -> None:
    rows = startup.section([0.1, 0.1, 0.9], [1.1, 1.2, 0.5]).table.rows

    assert [row[1:] for row in rows] == [("0.10", "0.90", "≤ 0.1 ✓"), ("1.10", "1.20", "≤ 0.5 ✗")]

    rows = idle.section([31.9, 40.0, 31.5], {"status": [0.3, 0.1, 0.25]}).table.rows
    assert [row[1:] for row in rows] == [("31.9", "40.0", "≤ 32 ✓"), ("0.25", "0.30", "≤ 0.2 ✗")]
