"""One process per SQLite file: a lock on a file beside it.

SQLite's own locks can't do this, and the database file itself must never be opened by us: POSIX drops all
locks of a process on a file, SQLite's too, as soon as the process closes any descriptor of that file.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gatehouse.errors import StoreError, StoreInUseError


class FileLock:
    """Held from construction until `release`; the kernel releases it when the process dies."""

    def __init__(self, path: Path) -> None:
        # Beside the file itself, whatever links lead to it: two gateways may know it by two names.
        self._path = Path(os.path.realpath(path))
        self._lock_path = self._path.with_name(self._path.name + ".lock")
        self._descriptor = self._take()

    def renew(self) -> None:
        """Take the lock again when its file was removed. Raises `StoreInUseError` when another has it."""
        held = os.fstat(self._descriptor)
        try:
            found = self._lock_path.stat()
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino):
            before, self._descriptor = self._descriptor, self._take()
            os.close(before)

    def _take(self) -> int:
        descriptor = _open(self._lock_path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise StoreInUseError(
                f"{self._path} is in use by another gatehouse{holder}",
                hint="stop the other one, or give this one a store of its own (store.url)",
            ) from error
        # For the message that the next one gets. The file stays after release: whoever removed it could
        # remove the lock that somebody else has just taken.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor

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
