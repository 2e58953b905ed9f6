"""The requests of the benchmark are signed and new, and all have the same length."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from multidict import CIMultiDict

from bench import signed
from bench.load import Stretch
from bench.machine import cpu_seconds, descendants, places
from bench.throughput import median, ratio
from gatehouse.language.request import Request
from presets import source

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")


def sent(file: Path) -> list[bytes]:
    """Read requests as wrk.lua does."""
    head, _, rest = file.read_bytes().partition(b"\n")
    length, count = map(int, head.split())
    assert len(rest) == length * count
    return [rest[number * length : (number + 1) * length] for number in range(count)]


def test_each_request_is_signed_and_has_a_new_event(tmp_path: Path) -> None:
    signed.write(tmp_path / "requests", "/webhooks/stored", "name", 50)

    verification = source("mando", [signed.SECRET]).verification
    ids = set()
    for request in sent(tmp_path / "requests"):
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        assert first == "POST /webhooks/stored HTTP/1.1"
        headers = CIMultiDict((name, value) for name, _, value in (line.partition(": ") for line in lines))
        assert headers["Content-Length"] == str(len(body))
        assert 780 <= len(body) <= 820
        verification.verify(Request("POST", "/webhooks/stored", "", headers, body), 0.0)
        ids.add(json.loads(body)["id"])
    assert len(ids) == 50


def test_ratios_are_of_the_same_round_and_figures_are_medians() -> None:
    fast = [Stretch(accepted, 1.0, 2.0, 0) for accepted in (1000.0, 2000.0, 100.0)]
    slow = [Stretch(accepted, 1.0, 2.0, 0) for accepted in (500.0, 1000.0, 90.0)]

    assert ratio(slow, fast) == pytest.approx(0.5)
    assert median(fast).accepted == 1000.0


@needs_linux
def test_the_assigned_cores_are_available() -> None:
    given = places()

    assert given.one <= given.two
    assert not given.one & given.load or given.one == given.load, "one core: all is on it"


@needs_linux
def test_the_processor_time_of_a_process_includes_its_descendants() -> None:
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)

    assert cpu_seconds(os.getpid()) >= before + 0.05
    assert os.getpid() in descendants(os.getppid())
