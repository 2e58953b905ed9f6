"""One process per SQLite file: a lock on a file beside it.

SQLite's own locks can't do this, and the database file itself must never be opened by us: POSIX drops all
locks of a process on a file, SQLite's too, as soon as the process closes any descriptor of that file.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from gatehouse.errors import StoreError, StoreInUseError

if TYPE_CHECKING:
    from pathlib import Path


class FileLock:
    """Held from construction until `release`; the kernel releases it when the process dies."""

    def __init__(self, path: Path) -> None:
        lock_path = path.with_name(path.name + ".lock")
        self._descriptor = _open(lock_path)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(self._descriptor)
            os.close(self._descriptor)
            raise StoreInUseError(
                f"{path} is in use by another gatehouse{holder}",
                hint="stop the other one, or give this one a store of its own (store.url)",
            ) from error
        # For the message that the next one gets. The file stays after release: whoever removed it could
        # remove the lock that somebody else has just taken.
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let go of it. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"the store can't be opened: {path}: {error.strerror}",
            hint=f"create the directory {path.parent} and let this user write in it, or change store.url",
        ) from error


def _holder(descriptor: int) -> str:
    pid = os.pread(descriptor, 20, 0).decode("ascii", "replace")
    return f" (process {pid})" if pid else ""
