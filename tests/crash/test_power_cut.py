"""No 2xx is sent before its event is synced, as a trace of the system calls shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from crash.checker import check
from crash.power_cut import Order, find_strace, power_cut
from gatehouse.gateway.failpoints import UNSYNCED
from machine import lacking

A, B = "01M7YVGDC6G10CTSKM83GWHCW2", "01M7YVGDC8KPAMGAVY7QXTKG2C"
WAL = "9</data/gatehouse.db-wal>"
SYNC = f"7 fdatasync({WAL}) = 0"
CHECKPOINT = "7 fdatasync(8</data/gatehouse.db>) = 0"


def frame(*names: str, unfinished: bool = False) -> str:
    end = " <unfinished ...>" if unfinished else ", 4096, 56) = 4096"
    return f'7 pwrite64({WAL}, "\\r\\0\\4{"mando".join(names)}mando{{\\"id\\"' + f'"{end}'


def sent(*names: str) -> str:
    heads = "".join(
        f'HTTP/1.1 200 OK\\r\\n\\r\\n{{\\"status\\":\\"accepted\\",\\"id\\":\\"{name}\\"}}' for name in names
    )
    return f'5 write(12<socket:[1]>, "{heads}", 180) = 180'


@pytest.fixture
def strace() -> None:
    """Skip the test, or fail it in CI, if there is no strace."""
    if find_strace() is None:
        lacking("no strace: install it, run tests/crash/fetch_strace.sh, or set GATEHOUSE_TEST_STRACE")


@pytest.mark.parametrize(
    ("trace", "violations"),
    [
        ([frame(A), SYNC, sent(A)], 0),
        ([frame(A, B), SYNC, sent(A), sent(B)], 0),
        ([frame(A), sent(A)], 1),
        ([frame(A), sent(A), SYNC], 1),
        ([SYNC, frame(A), sent(A)], 1),
        ([frame(A), SYNC, frame(B), sent(A), sent(B)], 1),
        ([frame(A), CHECKPOINT, sent(A)], 1),
        ([frame(A), f"7 fdatasync({WAL}) = -1 EIO (Input/output error)", sent(A)], 1),
        ([sent(A)], 1),
        ([frame(A), f"7 fdatasync({WAL} <unfinished ...>", sent(A), "7 <... fdatasync resumed>) = 0"], 1),
        ([frame(A), f"7 fdatasync({WAL} <unfinished ...>", "7 <... fdatasync resumed>) = 0", sent(A)], 0),
        ([f"6 fdatasync({WAL} <unfinished ...>", frame(A), "6 <... fdatasync resumed>) = 0", sent(A)], 1),
        ([frame(A), SYNC, frame(A), sent(A)], 0),
    ],
    ids=[
        "synced before the answer",
        "two in one commit",
        "never synced",
        "synced after the answer",
        "synced before it was written",
        "the second one not synced",
        "another file synced",
        "the sync failed",
        "never written",
        "answered during the sync",
        "answered after a sync with other calls in between",
        "written during the sync",
        "its page is written again later",
    ],
)
def test_a_trace_is_checked_for_the_order_of_write_sync_and_answer(trace: list[str], violations: int) -> None:
    order = Order().follow(trace)

    assert len(order.violations) == violations


def test_every_answer_of_a_trace_is_counted() -> None:
    assert Order().follow([frame(A, B), SYNC, sent(A), sent(B)]).answered == 2


@pytest.mark.case("D-04")
@pytest.mark.usefixtures("strace")
async def test_no_answer_precedes_its_sync(tmp_path: Path) -> None:
    findings = await power_cut(tmp_path, requests=1000, seed="1")

    assert findings.faults == []
    assert int(str(findings.facts["answers seen in the trace"])) >= 1000
    assert not any(check(findings.evidence).values())


@pytest.mark.case("D-04")
@pytest.mark.usefixtures("strace")
async def test_the_check_finds_violations_in_a_gateway_without_syncs(tmp_path: Path) -> None:
    findings = await power_cut(tmp_path, requests=100, seed="1", failpoints=UNSYNCED)

    assert len([fault for fault in findings.faults if "before it was synced" in fault]) >= 100
