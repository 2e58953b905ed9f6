"""A worker is restarted with a backoff when it ends, and killed when it hangs."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gatehouse.errors import GatewayError
from gatehouse.workers import process
from gatehouse.workers.process import Blocks, WorkerProcess
from gatehouse.workers.worker import Worker
from growth import growing

#: Runs until its stdin is closed, like a worker.
RUNS = "import sys; sys.stdin.read()"
ENDS = "raise SystemExit(3)"

Changes = list[int | None]


@asynccontextmanager
async def kept(tmp_path: Path, program: str) -> AsyncIterator[tuple[WorkerProcess, Changes]]:
    """Run a program in the place of a worker. The list contains the changes."""
    changes: Changes = []
    worker_process = WorkerProcess(Worker(tmp_path, 1), [], lambda _, code: changes.append(code))
    worker_process._command = (sys.executable, "-c", program)
    worker_process.start()
    try:
        yield worker_process, changes
    finally:
        worker_process.stop()
        await worker_process.wait_until_ended()
        await worker_process.client.close()


@asynccontextmanager
async def answering(tmp_path: Path) -> AsyncIterator[web.AppRunner]:
    """Answer in the place of the worker until the block ends."""
    app = web.Application()
    app.add_routes([web.get("/readyz", _ready), web.get("/healthz", _ready)])
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.UnixSite(runner, str(Worker(tmp_path, 1).socket)).start()
    try:
        yield runner
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a process sends no notifications
            await asyncio.sleep(0.01)


async def test_a_worker_serves_once_its_ingest_server_listens(tmp_path: Path) -> None:
    async with kept(tmp_path, RUNS) as (worker_process, changes):
        await until(lambda: worker_process.is_running)
        served = [worker_process.is_serving]
        async with answering(tmp_path):
            await worker_process.wait_until_serving()

        assert [*served, worker_process.is_serving] == [False, True]
        assert changes == [None]


async def test_a_stopped_worker_ends_and_is_not_restarted(tmp_path: Path) -> None:
    async with kept(tmp_path, RUNS) as (worker_process, changes):
        await until(lambda: worker_process.is_running)
        worker_process.stop()
        await worker_process.wait_until_ended()

        assert (worker_process.is_running, worker_process.starts, changes) == (False, 1, [])


async def test_a_worker_that_ends_before_it_serves_is_reported(tmp_path: Path) -> None:
    async with kept(tmp_path, ENDS) as (worker_process, _):
        with pytest.raises(GatewayError, match="worker 1 ended before it served: exit code 3"):
            await worker_process.wait_until_serving()


async def test_a_worker_that_ends_is_restarted_with_growing_backoff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []

    async def rest(_: WorkerProcess, seconds: float) -> bool:
        rests.append(seconds)
        return len(rests) == 8

    monkeypatch.setattr(WorkerProcess, "_stops_within", rest)
    async with kept(tmp_path, ENDS) as (worker_process, changes):
        await worker_process.wait_until_ended()

        assert rests == [1, 2, 4, 8, 16, 30, 30, 30]
        assert (worker_process.starts, changes) == (8, [3] * 8)


async def test_a_stop_ends_the_backoff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "INITIAL_BACKOFF", 600.0)
    async with kept(tmp_path, ENDS) as (worker_process, changes):
        await until(lambda: changes == [3])
        worker_process.stop()
        async with asyncio.timeout(30):
            await worker_process.wait_until_ended()

        assert worker_process.starts == 1


async def test_a_program_that_cannot_start_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "INITIAL_BACKOFF", 0.01)
    async with kept(tmp_path, RUNS) as (worker_process, changes):
        worker_process._command = (str(tmp_path / "nothing"),)
        worker_process.kill()
        await until(lambda: len(changes) >= 2)

        assert not worker_process.is_running


async def test_a_hanging_worker_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (
        ("_LIVENESS_INTERVAL", 0.01),
        ("_LIVENESS_TIMEOUT", 0.05),
        ("INITIAL_BACKOFF", 0.01),
    ):
        monkeypatch.setattr(process, name, seconds)
    async with kept(tmp_path, RUNS) as (worker_process, changes):
        async with answering(tmp_path):
            await worker_process.wait_until_serving()
            await asyncio.sleep(0.2)
            assert worker_process.starts == 1, "it answers"
        await until(lambda: -signal.SIGKILL in changes)

        assert not worker_process.is_serving


async def _ready(_: web.Request) -> web.Response:
    return web.json_response({"parts": {"ingest": "ok"}})


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_is_cut_into_its_events_wherever_the_network_cuts_it(size: int) -> None:
    stream = b": hello\n\nid: 1\nevent: event\ndata: {}\n\n: \n\nid: 2\n\nid: 3\n"
    blocks = Blocks()
    found = [block for at in range(0, len(stream), size) for block in blocks.feed(stream[at : at + size])]
    assert found == [b": hello", b"id: 1\nevent: event\ndata: {}", b": ", b"id: 2"]


def test_a_long_event_is_not_searched_again_for_each_of_its_parts() -> None:
    part = b"x" * 4096
    for parts in growing(2048):
        blocks = Blocks()
        assert not [block for _ in range(parts) for block in blocks.feed(part)]
        assert [len(block) for block in blocks.feed(b"\n\n")] == [parts * 4096]
