"""The files of a SQLite store: the lock beside them, and whether they are still where they were opened.

SQLite's own locks can't ensure that only one process uses the file. And Gatehouse must never open the
database file itself: when a process closes any descriptor of a file, POSIX drops all locks that the process
holds on it, including SQLite's. So the lock is on a file of its own.

What is written to a file that was removed or moved away is lost at the next start. So the store checks at
each commit where its files are, and confirms nothing that went elsewhere. It compares inodes by path, because
SQLite's own descriptors are out of reach and others must not be opened.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from gatehouse.errors import StoreError, StoreInUseError, StoreUnavailableError

_PUT_BACK: Final = "put the original file back, or restart to use the current one"


class FileLock:
    """A lock that is held from construction until `release`. The kernel releases it when the process dies."""

    def __init__(self, path: Path) -> None:
        # Beside the real file, whatever links lead to it: two gateways may know it by two names.
        self._path = Path(os.path.realpath(path))
        self._lock_path = self._path.with_name(self._path.name + ".lock")
        self._descriptor = self._acquire()

    def renew(self) -> None:
        """Acquire the lock again if its file was removed.

        Raises `StoreInUseError` if another process has it.
        """
        held = os.fstat(self._descriptor)
        try:
            found = self._lock_path.stat()
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino):
            before, self._descriptor = self._descriptor, self._acquire()
            os.close(before)

    def _acquire(self) -> int:
        descriptor = _open_lock_file(self._lock_path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise StoreInUseError(
                f"{self._path} is in use by another gatehouse{holder}",
                hint="stop the other one, or give this one a store of its own (store.url)",
            ) from error
        # The number is for the error message of the next process. The file is not removed after release:
        # another process may have acquired the lock on it in the meantime.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_lock_file(path: Path) -> int:
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


class FilesLostError(StoreUnavailableError):
    """A file of the store is not where it was opened."""


class LogLostError(FilesLostError):
    """The log or its index was removed. The file is still there, and this process has the log's contents."""


class _FileIdentity(NamedTuple):
    path: str
    device: int
    inode: int


class StoreFiles:
    """Where a store is, and the identity of its files when they were opened."""

    def __init__(self, given: Path) -> None:
        #: The path from the config: it may lead to the file through symbolic links.
        self._given = given
        #: The real path of the file. SQLite keeps its log beside it.
        self.path = Path(os.path.realpath(given))
        self._databases: list[_FileIdentity] = []
        self._logs: list[_FileIdentity] = []
        #: Set when another process uses the store, after the lock file was removed.
        self.taken_over: FilesLostError | None = None

    def check_hard_links(self) -> None:
        """Raise `StoreError` if the file has another name, which would have another log and another lock."""
        found = self.path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            raise StoreError(
                f"{self.path} has {found.st_nlink} names (hard links): SQLite would lose track of it",
                hint="remove the others, or make copies of them",
            )

    def remember_database(self) -> None:
        """Remember the open file. Not earlier: in a container's own layer, opening may copy the file."""
        names = dict.fromkeys((str(self._given), str(self.path)))
        self._databases = [_identify(name) for name in names]

    def remember_logs(self) -> None:
        """Remember the log that SQLite has created. Raises `FilesLostError`."""
        self.check_database()
        self._logs = [_identify(f"{self.path}{ending}") for ending in ("-wal", "-shm")]

    def check(self) -> None:
        """Raise `FilesLostError` unless all files are where they were opened and belong to this process."""
        # This runs twice at each commit, so it takes as few steps as possible when nothing is wrong.
        if self.taken_over is not None:
            raise self.taken_over
        for path, device, inode in (*self._databases, *self._logs):
            try:
                found = os.stat(path)  # noqa: PTH116 - half the work
            except OSError:
                break
            if found.st_ino != inode or found.st_dev != device:
                break
        else:
            return
        self.check_all()

    def check_all(self) -> None:
        """Raise `FilesLostError` unless all files are where they were opened."""
        self.check_database()
        for each in self._logs:
            _compare(each, LogLostError)

    def check_database(self) -> None:
        """Raise `FilesLostError` unless the file is where it was opened, whatever became of its log."""
        for each in self._databases:
            _compare(each, FilesLostError)

    def can_be_closed(self) -> bool:
        """Tell whether the log at our path is ours: when SQLite closes, it removes the log by its name."""
        try:
            self.check_all()
        except LogLostError:
            return True
        except FilesLostError:
            return False
        return True


def _identify(path: str, missing: type[FilesLostError] = FilesLostError) -> _FileIdentity:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        raise missing(f"{path} is gone", hint=_PUT_BACK) from None
    except OSError as error:
        raise FilesLostError(f"{path} is out of reach: {error.strerror}", hint=_PUT_BACK) from None
    return _FileIdentity(path, found.st_dev, found.st_ino)


def _compare(opened: _FileIdentity, missing: type[FilesLostError]) -> None:
    if _identify(opened.path, missing) != opened:
        raise FilesLostError(f"{opened.path} is another file now", hint=_PUT_BACK)
