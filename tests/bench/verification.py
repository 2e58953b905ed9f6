"""Measures the time to verify a 1 MiB body, as a multiple of the bare digest over the same bytes.

`make bench-verification` runs it. Both are measured by turns in one process, so a temporary slowdown affects
both. The ratio of the medians is the result. The program only prints its figures and never fails.
"""

from __future__ import annotations

import hmac
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from gatehouse import providers
from gatehouse.config.presets import shipped_preset
from gatehouse.errors import GatewayError
from gatehouse.language.request import Request
from gatehouse.samples.sample import Sample, documented_sample, sign_sample
from presets import is_symmetric, source

NOW = 1_800_000_000.0
SIZE = 1024 * 1024
ROUNDS = 15


def grown(sample: Sample) -> Sample:
    """Pad a sample's JSON to 1 MiB with a member that no template names."""
    body = json.loads(sample.body)
    target = body[0] if isinstance(body, list) else body
    target["gatehouse_padding"] = [{"line": number, "text": "x" * 80} for number in range(SIZE // 120)]
    text = json.dumps(body)
    target["gatehouse_fill"] = "x" * max(0, SIZE - len(text) - 24)
    return Sample(sample.headers, json.dumps(body).encode())


def requests(name: str) -> tuple[Any, Request] | None:
    """Make a signed request of 1 MiB, or return None if only the provider can sign or the body is no JSON
    object.
    """
    settings = shipped_preset(name)
    sample = documented_sample(settings)
    if sample is None or not is_symmetric(settings):
        return None
    of = source(name)
    try:
        return of.verification, sign_sample(of, grown(sample), NOW)
    except (ValueError, TypeError, IndexError, GatewayError):
        return None


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ratio(name: str) -> tuple[float, float, float] | None:
    """Return the medians of the bare digest and of verification, in ms, and their ratio."""
    made = requests(name)
    if made is None:
        return None
    verification, request = made
    digest = getattr(shipped_preset(name).verify[0], "digest", "sha256")
    bare, whole = [], []
    for _ in range(ROUNDS):
        bare.append(timed(lambda: hmac.digest(b"key", request.body, digest)))
        whole.append(timed(lambda: verification.verify(request, NOW)))
    first, second = statistics.median(bare) * 1000, statistics.median(whole) * 1000
    return first, second, second / first


def main() -> None:
    """Print one row per preset, slowest first."""
    rows = [(name, *found) for name in providers.names() if (found := ratio(name))]
    rows.sort(key=lambda row: -row[3])
    print(f"{'preset':28} {'digest ms':>10} {'verify ms':>10} {'ratio':>6}")
    for name, bare, whole, times in rows:
        print(f"{name:28} {bare:10.2f} {whole:10.2f} {times:6.2f}")
    within = sum(times <= 3 for *_, times in rows)
    print(f"{within} of {len(rows)} within 3 x the bare digest")


if __name__ == "__main__":
    main()
