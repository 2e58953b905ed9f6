"""The store's files, known by their inodes: whether they are still where they were opened.

What is written to a file that was removed or moved away is written well, and is gone at the next start. So
after each commit the store looks where its files are, and confirms nothing that went elsewhere. SQLite's own
descriptors are out of reach, and others must not be opened (lock.py), so it looks by path.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from gatehouse.errors import StoreError, StoreUnavailableError

_PUT_BACK: Final = "put back the file that was there, or restart to use what is there now"


class FilesLostError(StoreUnavailableError):
    """A file of the store is not where it was opened."""


class LogLostError(FilesLostError):
    """The log, or its index, was removed. The file is there, and this process has what was in the log."""


class _Opened(NamedTuple):
    path: str
    device: int
    inode: int


class StoreFiles:
    """Where a store is, and which files it was opened as."""

    def __init__(self, given: Path) -> None:
        #: As it is configured: it may lead to the file through symbolic links.
        self._given = given
        #: Where the file itself is. SQLite keeps its log beside this one, whatever name it was given.
        self.path = Path(os.path.realpath(given))
        self._opened: list[_Opened] = []
        self._logs: list[_Opened] = []
        #: Set when another process has taken the store, after the file of its lock was removed.
        self.taken: FilesLostError | None = None

    def before_opening(self) -> None:
        """Raise `StoreError` when the file has another name: there it has another log, and another lock."""
        found = self.path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            raise StoreError(
                f"{self.path} has {found.st_nlink} names (hard links): SQLite would lose track of it",
                hint="remove the others, or make copies of them",
            )

    def when_open(self) -> None:
        """Remember the file. Not sooner: in a container's own layer, opening may make another one of it."""
        names = dict.fromkeys((str(self._given), str(self.path)))
        self._opened = [_look(name) for name in names]

    def when_prepared(self) -> None:
        """Remember the log that SQLite has made by then. Raises `FilesLostError`."""
        self.check_file()
        self._logs = [_look(f"{self.path}{ending}") for ending in ("-wal", "-shm")]

    def check(self) -> None:
        """Raise `FilesLostError` unless all is where it was, and this process's."""
        # Twice at each commit, so in as few steps as can be; who finds nothing wrong is done.
        if self.taken is not None:
            raise self.taken
        for path, device, inode in (*self._opened, *self._logs):
            try:
                found = os.stat(path)  # noqa: PTH116 - half the work
            except OSError:
                break
            if found.st_ino != inode or found.st_dev != device:
                break
        else:
            return
        self.check_places()

    def check_places(self) -> None:
        """Raise `FilesLostError` unless all is where it was."""
        self.check_file()
        for each in self._logs:
            _compare(each, LogLostError)

    def check_file(self) -> None:
        """Raise `FilesLostError` unless the file is where it was, whatever became of its log."""
        for each in self._opened:
            _compare(each, FilesLostError)

    def may_be_closed(self) -> bool:
        """Tell whether nobody else's log is where ours was: SQLite removes it by its name in the end."""
        try:
            self.check_places()
        except LogLostError:
            return True
        except FilesLostError:
            return False
        return True


def _look(path: str, missing: type[FilesLostError] = FilesLostError) -> _Opened:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        raise missing(f"{path} is gone", hint=_PUT_BACK) from None
    except OSError as error:
        raise FilesLostError(f"{path} is out of reach: {error.strerror}", hint=_PUT_BACK) from None
    return _Opened(path, found.st_dev, found.st_ino)


def _compare(opened: _Opened, missing: type[FilesLostError]) -> None:
    if _look(opened.path, missing) != opened:
        raise FilesLostError(f"{opened.path} is another file now", hint=_PUT_BACK)
