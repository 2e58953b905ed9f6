"""A store that is locked, full or failing answers 503 soon, writes nothing partially, and recovers."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from doubles import failing_disk, providers
from doubles.destination import ScriptedDestination
from doubles.shim import build
from gatehouse.config.load import parse
from gatehouse.gateway.app import Gateway
from gatehouse.telemetry import log
from gateways import CONFIG, SIGNING_SECRET, Running


def numbered(number: int, size: int = 10) -> bytes:
    return providers.body(id=f"evt_{number:05}", type="sale.created", data={"x": "x" * size})


class Traffic:
    """Continuous requests, and their answers."""

    def __init__(self, running: Running, *, size: int = 10) -> None:
        self.answers: list[tuple[int, float, int]] = []
        self.accepted: set[str] = set()
        self._running = running
        self._size = size
        self._number = 0
        self._ended = False
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Traffic:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        assert self._sending is not None
        await self._sending

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._ended:
                group.create_task(self._post())
                await asyncio.sleep(0.02)

    async def _post(self) -> None:
        self._number += 1
        body, started = numbered(self._number, self._size), time.monotonic()
        url = f"{self._running.url}/webhooks/mando"
        async with self._running.client.post(url, data=body, headers=providers.mando(body)) as answer:
            said = await answer.json()
        if answer.status == 200:
            self.accepted.add(said["id"])
        wait = int(answer.headers.get("Retry-After", 0))
        self.answers.append((answer.status, time.monotonic() - started, wait))

    async def until(self, status: int, count: int = 5, within: float = 10.0) -> float:
        """Wait for this many answers of a status in a row. Returns the seconds that it took."""
        started, seen = time.monotonic(), len(self.answers)
        async with asyncio.timeout(within):
            while [one[0] for one in self.answers[seen:]][-count:] != [status] * count:  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.01)
        return time.monotonic() - started

    def assert_refusals_were_quick(self) -> None:
        refused = [one for one in self.answers if one[0] != 200]
        assert refused
        assert {status for status, _, _ in refused} == {503}
        assert all(5 <= wait <= 30 for _, _, wait in refused)
        assert len({wait for _, _, wait in refused}) > 1
        assert max(took for _, took, _ in refused) < 1.2  # including the time of the test's client


@asynccontextmanager
async def gateway_in(folder: Path, destination: ScriptedDestination) -> AsyncIterator[Running]:
    config = CONFIG.format(url=destination.url) + "store: {min_free: 0}\n"
    secrets = {"SECRET": providers.SECRET, "EINVOICE": "secret", "SIGNING": SIGNING_SECRET}
    async with (
        Gateway(parse(config, directory=folder), environment=secrets) as gateway,
        aiohttp.ClientSession() as client,
    ):
        yield Running(gateway, client)
    await asyncio.sleep(0)


def rows(folder: Path) -> dict[str, Any]:
    file = sqlite3.connect(folder / "gatehouse.db")
    try:
        counted = {
            table: file.execute("SELECT count(*) FROM " + table).fetchone()[0]  # noqa: S608 - our own names
            for table in ("events", "dedupe_keys", "deliveries")
        }
        ids = {row[0] for row in file.execute("SELECT id FROM events")}
        return counted | {"ids": ids, "check": file.execute("PRAGMA integrity_check").fetchone()[0]}
    finally:
        file.close()


def assert_whole(folder: Path, accepted: set[str]) -> None:
    found = rows(folder)
    assert found["check"] == "ok"
    assert found["ids"] == accepted
    assert found["events"] == found["dedupe_keys"] == found["deliveries"]


@pytest.mark.alone
@pytest.mark.case("O-02", "O-03")
async def test_a_locked_store_is_503_until_it_is_unlocked(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    """Another program locks it for 3 s."""
    async with gateway_in(tmp_path, destination) as running, Traffic(running) as traffic:
        await traffic.until(200)
        lock = sqlite3.connect(tmp_path / "gatehouse.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        await traffic.until(503)
        await asyncio.sleep(3)
        lock.execute("ROLLBACK")
        lock.close()
        recovery = await traffic.until(200)

    traffic.assert_refusals_were_quick()
    assert recovery < 3
    assert_whole(tmp_path, traffic.accepted)


async def readiness(running: Running) -> tuple[int, str]:
    async with running.client.get(f"{running.operator_url}/readyz") as answer:
        return answer.status, (await answer.json())["parts"]["store"]


async def said(logged: io.StringIO, event: str) -> None:
    async with asyncio.timeout(10):
        while event not in logged.getvalue():  # noqa: ASYNC110 - a log sends no notifications
            await asyncio.sleep(0.02)


def moved(folder: Path, to: Path) -> None:
    to.mkdir(exist_ok=True)
    for file in folder.glob("gatehouse.db*"):
        file.rename(to / file.name)


@pytest.mark.alone
@pytest.mark.case("F-07")
async def test_a_moved_store_confirms_nothing_until_it_is_back(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    (folder := tmp_path / "store").mkdir()
    logged = io.StringIO()
    log.configure(json=True, stream=logged)
    try:
        async with gateway_in(folder, destination) as running, Traffic(running) as traffic:
            await traffic.until(200)
            moved(folder, tmp_path / "elsewhere")
            await traffic.until(503)
            assert await readiness(running) == (503, "unavailable")
            await said(logged, "store.file_lost")
            assert not list(folder.iterdir()), "nothing is begun in its place"
            moved(tmp_path / "elsewhere", folder)
            await traffic.until(200)
            assert await readiness(running) == (200, "ok")
            await said(logged, "store.file_back")
    finally:
        log.reset()

    traffic.assert_refusals_were_quick()
    assert_whole(folder, traffic.accepted)
    (lost,) = [
        line for line in map(json.loads, logged.getvalue().splitlines()) if "file_lost" in line["event"]
    ]
    assert lost["error"] == f"{folder}/gatehouse.db is gone"
    assert "restart" in lost["hint"]


@pytest.mark.case("F-07")
async def test_a_removed_log_loses_no_accepted_event(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    """Its contents are written back to the file. The gateway then ends without closing its files."""
    (folder := tmp_path / "store").mkdir()
    async with gateway_in(folder, destination) as running, Traffic(running) as traffic:
        await traffic.until(200, count=20)
        (folder / "gatehouse.db-wal").unlink()
        await traffic.until(200, count=20)
        traffic.answers.clear()
        accepted = set(traffic.accepted)
        shutil.copytree(folder, killed := tmp_path / "killed")

    assert rows(killed)["check"] == "ok"
    assert rows(killed)["ids"] >= accepted


@pytest.fixture
async def small_disk(tmp_path: Path) -> AsyncIterator[Path | None]:
    """Mount a disk of 4 MiB. Returns None if that is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or await _mount("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)):
        yield None
        return
    yield folder
    await _mount("umount", "--lazy", str(folder))


async def _mount(*command: str) -> int:
    if shutil.which(command[0]) is None:
        return 1
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


@pytest.mark.alone
@pytest.mark.case("D-13", "O-02")
async def test_a_full_disk_is_503_until_there_is_space_again(
    small_disk: Path | None, tmp_path: Path, destination: ScriptedDestination
) -> None:
    """It recovers without a restart. If nothing can be mounted, a limit on the pages replaces the disk."""
    folder = small_disk or tmp_path
    async with gateway_in(folder, destination) as running, Traffic(running, size=20_000) as traffic:
        await traffic.until(200)
        filler = await _fill(running, small_disk)
        await traffic.until(503, within=30)
        await asyncio.sleep(1)
        await _make_room(running, filler)
        recovery = await traffic.until(200)
        accepted = len(traffic.accepted)
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), accepted, within=20)

    traffic.assert_refusals_were_quick()
    assert recovery < 10
    assert_whole(folder, traffic.accepted)


async def _fill(running: Running, disk: Path | None) -> Path | None:
    if disk is None:
        await _limit_pages(running, 10)
        return None
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - any other is a defect of the test
    return filler


async def _make_room(running: Running, filler: Path | None) -> None:
    if filler is None:
        await _limit_pages(running, 1_000_000)
    else:
        filler.unlink()


async def _limit_pages(running: Running, more: int) -> None:
    def limit(on: sqlite3.Connection) -> None:
        (pages,) = on.execute("PRAGMA page_count").fetchone()
        on.execute(f"PRAGMA max_page_count = {pages + more}")

    store: Any = running.gateway._store
    await (await store._database.writer()).run(limit)


@pytest.mark.alone
@pytest.mark.case("D-22")
async def test_a_commit_that_fails_on_the_disk_is_503_and_the_next_one_uses_a_new_connection(
    tmp_path: Path, destination: ScriptedDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fsyncgate: a failed sync is not repeated on the same connection."""
    driver = failing_disk.Driver()
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *given, **more: connect(*given, factory=driver.connection(), **more)
    )
    async with gateway_in(tmp_path, destination) as running:
        await running.send("mando", numbered(1), providers.mando(numbered(1)))
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)
        store: Any = running.gateway._store
        before = await store._database.writer()
        driver.only = "COMMIT"
        driver.arm(0)
        body = numbered(2)
        status, _ = await running.send("mando", body, providers.mando(body))
        assert driver.disarm()
        again = await running.send("mando", body, providers.mando(body))
        after = await store._database.writer()

    assert status == 503
    assert (again[0], again[1]["status"]) == (200, "accepted")
    assert after is not before


@pytest.mark.case("D-22")
async def test_a_failing_statement_leaves_no_partial_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = failing_disk.Driver()
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *given, **more: connect(*given, factory=driver.connection(), **more)
    )

    found = await failing_disk.sweep(tmp_path, driver)

    assert found["wrong"] == []
    assert found["runs"] >= 16
    assert found["recovery"] < 10


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the failing disk."""
    return build(failing_disk.SOURCE, tmp_path_factory.mktemp("shim"))


@pytest.mark.case("D-22")
@pytest.mark.parametrize(
    ("number", "lasts"),
    [
        (errno.EIO, "once"),
        (errno.EIO, "on"),
        (errno.ENOSPC, "once"),
        (errno.ENOSPC, "on"),
        # An interrupted call is repeated, so endless interruptions would never end.
        (errno.EINTR, "once"),
    ],
    ids=["EIO once", "EIO on", "ENOSPC once", "ENOSPC on", "EINTR once"],
)
async def test_a_failing_disk_call_leaves_no_partial_writes(
    tmp_path: Path, shim: Path, number: int, lasts: str
) -> None:
    """The n-th write, sync or truncation fails, for n = 1, 2, 3 … until a run passes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "doubles.failing_disk", str(tmp_path), str(number), lasts),
        env=os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    found = json.loads(out)

    assert found["wrong"] == []
    assert found["runs"] >= 20
    assert found["recovery"] < 10
