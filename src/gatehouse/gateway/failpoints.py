"""Failpoints: named places where the process ends on purpose, for the crash tests.

`gatehouse serve` imports this module only when `GATEHOUSE_FAILPOINTS` is set, before it builds anything.
With `after-commit:3` the process ends when it reaches that place for the third time. The affected functions
are replaced by functions that count, so without the variable there is no overhead.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from gatehouse.delivery.connection import DestinationConnection
from gatehouse.errors import GatewayError
from gatehouse.ingest.pipeline import Pipeline
from gatehouse.store.sqlite import SqliteStore, connection, database, purging
from gatehouse.store.sqlite import store as sqlite
from gatehouse.store.sqlite.accepting import Acceptor
from gatehouse.store.sqlite.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gatehouse.store.base import Delivery, Result

Callback = Callable[..., None]

#: The exit code that a shell reports for a killed process (128 + SIGKILL).
EXIT_CODE: Final = 137
#: Failpoints that cause a fault instead of ending the process.
UNSYNCED: Final = "unsynced"
STALLED: Final = "stalled"
#: Seconds: longer than a request may wait for its commit.
_STALL: Final = 1.0
#: Seconds after which the kernel has sent the data, and hardly any destination has answered yet.
_SEND_TIME: Final = 0.002
#: Seconds between two checks of the file: a checkpoint takes milliseconds.
_CHECK_INTERVAL: Final = 0.0001

_ENTRY: Final = re.compile(r"(?P<name>[a-z-]+)(:(?P<passes>[1-9][0-9]{0,8}))?")


class PassCounter:
    """Counts passes, and ends the process at the last one, without closing or flushing anything."""

    def __init__(self, passes: int) -> None:
        self._left = passes

    def count_pass(self, *_: object, **__: object) -> None:
        """Count a pass. Arguments are ignored."""
        if self.is_last():
            end()

    def is_last(self) -> bool:
        """Count a pass. Return whether it was the last."""
        self._left -= 1
        return self._left <= 0


def end() -> None:
    """End the process as `kill -9` does."""
    os._exit(EXIT_CODE)


def arm(text: str) -> None:
    """Activate a list of failpoints such as `after-commit:3,after-lease`.

    Raises `GatewayError` for an unknown name or for a number of passes below 1.
    """
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None or match["name"] not in FAILPOINTS:
            raise GatewayError(f"GATEHOUSE_FAILPOINTS: no such failpoint: {entry.strip()[:40]}", hint=_HINT)
        FAILPOINTS[match["name"]](PassCounter(int(match["passes"] or 1)))


def _nothing(*_: object, **__: object) -> None: ...


def _wrap_async(owner: Any, name: str, *, before: Callback = _nothing, after: Callback = _nothing) -> None:  # noqa: ANN401
    """Wrap a coroutine function: `before` gets its arguments, and `after` gets its result."""
    original = getattr(owner, name)

    @wraps(original)
    async def replacement(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
        before(*arguments, **keywords)
        result = await original(*arguments, **keywords)
        after(result)
        return result

    setattr(owner, name, replacement)


def _wrap_sync(owner: Any, name: str, after: Callback) -> None:  # noqa: ANN401 - a class or a module
    """Wrap a function: `after` gets its result."""
    original = getattr(owner, name)

    @wraps(original)
    def replacement(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
        result = original(*arguments, **keywords)
        after(result)
        return result

    setattr(owner, name, replacement)


def _after_body(counter: PassCounter) -> None:
    """The request has been read and not processed."""
    _wrap_async(Pipeline, "receive", before=counter.count_pass)


def _before_commit(counter: PassCounter) -> None:
    """The rows are written in a transaction that is still open."""
    _wrap_sync(Acceptor, "accept", counter.count_pass)


def _after_commit(counter: PassCounter) -> None:
    """The events are on disk, and no answer has been sent."""
    _wrap_async(SqliteStore, "accept", after=counter.count_pass)


def _after_lease(counter: PassCounter) -> None:
    """Deliveries have been leased from the store, and none has been attempted."""

    def leased(deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            counter.count_pass()

    _wrap_async(SqliteStore, "lease", after=leased)


def _after_sent(counter: PassCounter) -> None:
    """A request to a destination has been sent, and its answer has not arrived."""

    def sending(*_: object) -> None:
        asyncio.get_running_loop().call_later(_SEND_TIME, counter.count_pass)

    _wrap_async(DestinationConnection, "send", before=sending)


def _before_record(counter: PassCounter) -> None:
    """A destination has answered 2xx, and the store has not recorded it."""

    def recording(_: SqliteStore, results: Sequence[Result]) -> None:
        if any(result.status == "delivered" for result in results):
            counter.count_pass()

    _wrap_async(SqliteStore, "record", before=recording)


def _during_checkpoint(counter: PassCounter) -> None:
    """SQLite is copying the WAL into the database file.

    It calls none of our code then, so the file is watched.
    """
    watch = _CheckpointWatch(counter)
    _wrap_async(database, "connect", before=watch.opening)
    _wrap_async(SqliteStore, "accept", before=watch.accepting)


class _CheckpointWatch:
    """Ends the process at the next write to the file. In WAL mode only a checkpoint writes to it."""

    def __init__(self, counter: PassCounter) -> None:
        self._counter = counter
        self._path: Path | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def opening(self, path: Path, **_: object) -> None:
        self._path = path

    def accepting(self, *_: object, **__: object) -> None:
        if self._counter.is_last() and not self._thread.is_alive():
            self._thread.start()

    def _run(self) -> None:
        assert self._path is not None  # noqa: S101 - the store is opened before it is written to
        before = self._path.stat().st_mtime_ns
        while self._path.stat().st_mtime_ns == before:
            time.sleep(_CHECK_INTERVAL)
        end()


def _during_retention(counter: PassCounter) -> None:
    """Expired rows are deleted in a transaction that is still open."""

    def purged(step: purging.PurgeStep) -> None:
        if step.purged.events or step.purged.keys:
            counter.count_pass()

    _wrap_sync(purging, "purge", purged)


def _during_migration(counter: PassCounter) -> None:
    """Statements of a migration are running: each statement counts as a pass."""

    def replacement(connection: Any) -> None:  # noqa: ANN401 - the driver's, which only the store knows
        connection.set_trace_callback(counter.count_pass)
        migrate(connection)
        connection.set_trace_callback(None)

    vars(sqlite)["migrate"] = replacement


def _unsynced(_: PassCounter) -> None:
    """A fault: commits are not synced. The power-cut test uses it as a control, and must detect it."""
    settings: Mapping[str, str | int] = connection._WRITER  # noqa: SLF001 - the config offers no such setting
    vars(connection)["_WRITER"] = {**settings, "synchronous": 1}


def _stalled(counter: PassCounter) -> None:
    """A fault: the rows are written in a transaction that takes too long. They must not be stored."""
    stalls = [_STALL]

    def stall(_: object) -> None:
        if stalls and counter.is_last():
            time.sleep(stalls.pop())

    _wrap_sync(Acceptor, "accept", stall)


FAILPOINTS: Final[Mapping[str, Callable[[PassCounter], None]]] = {
    "after-body": _after_body,
    "before-commit": _before_commit,
    "after-commit": _after_commit,
    "after-lease": _after_lease,
    "after-sent": _after_sent,
    "before-record": _before_record,
    "during-checkpoint": _during_checkpoint,
    "during-retention": _during_retention,
    "during-migration": _during_migration,
    UNSYNCED: _unsynced,
    STALLED: _stalled,
}
_HINT: Final = "give a list of name or name:passes; the names are " + ", ".join(FAILPOINTS)
