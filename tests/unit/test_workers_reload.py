"""All workers use a new config, or none does, whatever happens to them meanwhile."""

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
    """A worker that reads its config as the real one does, and its process."""

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
        """Return at once."""

    def kill(self) -> None:
        """Record the call."""
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
    """Create the supervisor's folder."""
    shared = SharedFolder(tmp_path)
    shared.write_initial(parse(OLD), 1)
    return shared


async def shared_out(shared: SharedFolder, *workers: FakeWorker) -> list[str]:
    """Reload all workers, and return the texts of the problems."""
    old: LoadedConfig = parse(OLD)
    processes = [cast("WorkerProcess", worker) for worker in workers]
    return [problem.message for problem in await reload_all(parse(NEW), old, shared, processes)]


def in_use(shared: SharedFolder) -> list[str]:
    """Return the config that a worker would start with now."""
    return list(shared.worker(1).load_initial().config.sources)


async def test_all_workers_use_the_new_config(shared: SharedFolder) -> None:
    one, other = FakeWorker(shared), FakeWorker(shared)

    assert await shared_out(shared, one, other) == []
    assert one.uses == other.uses == ["old", "new"]
    assert in_use(shared) == ["new"]


async def test_a_config_that_one_worker_refuses_is_withdrawn_from_all(shared: SharedFolder) -> None:
    one, other = FakeWorker(shared), FakeWorker(shared, refuses="new")

    assert await shared_out(shared, one, other) == ["gone"]
    assert one.uses == ["old", "new", "old"]
    assert "new" not in other.uses
    assert in_use(shared) == ["old"]


async def test_a_stopped_worker_gets_the_config_when_it_starts(shared: SharedFolder) -> None:
    one, other = FakeWorker(shared), FakeWorker(shared, is_running=False)

    assert await shared_out(shared, one, other) == []
    assert other.uses == ["old"]
    assert not other.killed
    assert in_use(shared) == ["new"]


async def test_a_hanging_worker_is_killed(shared: SharedFolder) -> None:
    one, other = FakeWorker(shared, hangs=True), FakeWorker(shared)

    assert await shared_out(shared, one, other) == []
    assert one.killed
    assert not other.killed
    assert other.uses == ["old", "new"]
