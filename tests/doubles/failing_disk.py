"""A disk that fails at the n-th call, for n = 1, 2, 3 … until a run passes without a fault.

As a program, with `failing_disk.c` preloaded, the calls of the disk fail. Within a test, the calls
of the driver fail instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from conformance.builders import accept, arrival, event, lease
from gatehouse.errors import StoreError
from gatehouse.store.sqlite import SqliteStore, connection

SOURCE = Path(__file__).with_suffix(".c")
#: Requests that are accepted while the disk may fail. Each fills a few pages, so that there are checkpoints.
_REQUESTS = 4
_BODY = 9000
#: A timeout in seconds, much longer than needed.
_MOST = 2000


class Fault(Protocol):
    """Decides which call fails."""

    def arm(self, after: int) -> None:
        """Let this many calls succeed, and the next one fail."""

    def disarm(self) -> bool:
        """Let all calls succeed again. Returns whether one failed."""


class Disk:
    """Makes calls of the disk fail, with `failing_disk.c`."""

    def __init__(self, number: int, *, goes_on: bool) -> None:
        library = ctypes.CDLL(None)
        self._left = ctypes.c_int.in_dll(library, "calls_left")
        self._failed = ctypes.c_int.in_dll(library, "has_failed")
        ctypes.c_int.in_dll(library, "error_number").value = number
        ctypes.c_int.in_dll(library, "fails_on").value = goes_on

    def arm(self, after: int) -> None:
        self._failed.value, self._left.value = 0, after

    def disarm(self) -> bool:
        self._left.value = -1
        return bool(self._failed.value)


class Driver:
    """Makes the n-th statement of the driver fail. It works without a compiler."""

    def __init__(self) -> None:
        self.left = -1
        #: The statements that may fail. All may fail if it is empty.
        self.only = ""
        self._failed = False

    def arm(self, after: int) -> None:
        self._failed, self.left = False, after

    def disarm(self) -> bool:
        self.left = -1
        return self._failed

    def connection(self) -> type[sqlite3.Connection]:
        """Return a class of connections that fail."""
        driver = self

        class Failing(sqlite3.Connection):
            def execute(self, *arguments: Any) -> sqlite3.Cursor:
                if arguments[0].startswith(driver.only):
                    driver.passes()
                return super().execute(*arguments)

        return Failing

    def passes(self) -> None:
        """Count a statement."""
        if self.left == 0:
            self._failed, self.left = True, -1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
            raise error
        self.left -= self.left > 0


async def sweep(folder: Path, fault: Fault) -> dict[str, Any]:
    """Fail at each call in turn. Returns the number of runs, what was wrong, and the slowest recovery."""
    wrong: list[str] = []
    slowest = 0.0
    for number in range(_MOST):
        path = folder / f"{number}.db"
        failed, seconds, found = await _run(path, fault, number)
        slowest = max(slowest, seconds)
        wrong += [f"call {number}: {one}" for one in found]
        if not failed:
            return {"runs": number, "wrong": wrong, "recovery": slowest}
        for left in folder.glob(f"{number}.db*"):
            left.unlink()
    raise AssertionError("no run passes")


async def _run(path: Path, fault: Fault, number: int) -> tuple[bool, float, list[str]]:
    store = await SqliteStore.open(path)
    fault.arm(number)
    kept, refused = await _accept(store)
    await _ignored(store.counts())
    failed = fault.disarm()
    started = time.monotonic()
    while True:
        kept_after, _ = await _accept(store, b"after")
        if len(kept_after) == _REQUESTS:
            break
    seconds = time.monotonic() - started
    leased = {one.event.id for one in await lease(store, now=time.time() + 60, until=time.time() + 90)}
    await store.close()
    return failed, seconds, _check(path, kept | kept_after, refused, leased)


async def _accept(store: SqliteStore, prefix: bytes = b"") -> tuple[set[str], set[bytes]]:
    """Accept requests one by one. Returns the ids that were acknowledged, and the keys that were not."""
    kept, refused = set(), set()
    for number in range(_REQUESTS):
        key = prefix + b"%d" % number
        try:
            (receipt,) = await accept(store, arrival(key, of=event(bytes(_BODY), received=time.time())))
        except StoreError:
            refused.add(key)
        else:
            kept.add(receipt.event_id)
    return kept, refused


async def _ignored(work: Any) -> None:
    with contextlib.suppress(StoreError):
        await work


def _check(path: Path, kept: set[str], refused: set[bytes], leased: set[str]) -> list[str]:
    """Compare the acknowledged events with those in the file."""
    file = sqlite3.connect(path)
    try:
        events = {row[0] for row in file.execute("SELECT id FROM events")}
        keys, deliveries = (
            file.execute("SELECT count(*) FROM " + table).fetchone()[0]  # noqa: S608 - our own names
            for table in ("dedupe_keys", "deliveries")
        )
        wrong = []
        if file.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            wrong.append("the file is damaged")
    finally:
        file.close()
    if kept - events:
        wrong.append(f"{len(kept - events)} acknowledged and not in the file")
    # A commit whose sync failed may still be in the file, but only as a whole.
    if len(events) > len(kept) + len(refused) or not len(events) == keys == deliveries:
        wrong.append(f"half-written: {len(events)} events, {keys} keys, {deliveries} deliveries")
    if leased != events:
        wrong.append("not every event is to be delivered")
    return wrong


def check_often() -> None:
    """Write the log back to the file every few pages, so that it happens during a run."""
    vars(connection)["_WRITER"] = {**vars(connection)["_WRITER"], "wal_autocheckpoint": 8}


def main() -> None:
    """Run the sweep in a folder with an error number, for one call or for all later ones."""
    folder, number, goes_on = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "on"
    check_often()
    found = asyncio.run(sweep(folder, Disk(number, goes_on=goes_on)))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
