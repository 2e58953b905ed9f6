"""A config for all workers or for none, whatever becomes of them meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from gatehouse.config.load import LoadedConfig, parse
from gatehouse.workers.api import reload_all
from gatehouse.workers.process import NoAnswerError, WorkerAnswer, WorkerProcess
from gatehouse.workers.worker import SharedFolder

OLD = "sources: {old: {provider: mando, secrets: env:SECRET}}\n"
NEW = "sources: {new: {provider: mando, secrets: env:SECRET}}\n"
PROBLEM = {
    "file": "gateway.yaml",
    "line": 3,
    "path": "sources.new",
    "message": "gone",
    "hint": None,
    "code": "",
}


class FakeWorker:
    """A worker that reads its config as the real one does, and its keeper."""

    def __init__(
        self, shared: SharedFolder, *, refuses: str = "", hangs: bool = False, is_running: bool = True
    ) -> None:
        self.client = self
        self.is_running = is_running
        self.killed = False
        self.uses = ["old"]
        self._worker = shared.worker(1)
        self._refuses = refuses
        self._hangs = hangs

    async def wait_until_settled(self, within: float) -> None:
        """Be settled."""

    def kill(self) -> None:
        """Note it."""
        self.killed = True

    async def request(self, path: str, *, method: str, within: float) -> WorkerAnswer:
        """Reload."""
        assert (method, path) == ("POST", "/-/reload")
        if self._hangs:
            raise NoAnswerError("does not answer")
        (source,) = self._worker.load().config.sources
        if source == self._refuses:
            return WorkerAnswer(
                400, json.dumps({"error": {"problems": [PROBLEM]}}).encode(), "application/json"
            )
        self.uses.append(source)
        return WorkerAnswer(200, b"{}", "application/json")


@pytest.fixture
def shared(tmp_path: Path) -> SharedFolder:
    """Make the supervisor's folder."""
    shared = SharedFolder(tmp_path)
    shared.write_initial(parse(OLD), 1)
    return shared


async def shared_out(shared: SharedFolder, *workers: FakeWorker) -> list[str]:
    """Share the new config out, and return the problems' messages."""
    old: LoadedConfig = parse(OLD)
    processes = [cast("WorkerProcess", worker) for worker in workers]
    return [problem.message for problem in await reload_all(parse(NEW), old, shared, processes)]


def in_use(shared: SharedFolder) -> list[str]:
    """Return what a worker that starts now would start with."""
    return list(shared.worker(1).load_initial().config.sources)


async def test_all_take_it(shared: SharedFolder) -> None:
    one, other = FakeWorker(shared), FakeWorker(shared)

    assert await shared_out(shared, one, other) == []
    assert one.uses == other.uses == ["old", "new"]
    assert in_use(shared) == ["new"]


async def test_what_one_refuses_the_others_give_back(shared: SharedFolder) -> None:
    one, other = FakeWorker(shared), FakeWorker(shared, refuses="new")

    assert await shared_out(shared, one, other) == ["gone"]
    assert one.uses == ["old", "new", "old"]
    assert "new" not in other.uses
    assert in_use(shared) == ["old"]


async def test_one_that_is_not_there_gets_it_when_it_starts(shared: SharedFolder) -> None:
    one, other = FakeWorker(shared), FakeWorker(shared, is_running=False)

    assert await shared_out(shared, one, other) == []
    assert other.uses == ["old"]
    assert not other.killed
    assert in_use(shared) == ["new"]


async def test_one_that_hangs_is_ended_and_not_waited_for(shared: SharedFolder) -> None:
    one, other = FakeWorker(shared, hangs=True), FakeWorker(shared)

    assert await shared_out(shared, one, other) == []
    assert one.killed
    assert not other.killed
    assert other.uses == ["old", "new"]
