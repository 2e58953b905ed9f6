"""A disk with a volatile cache, simulated by `volatile_disk.c`, and a program that exercises it.

`python -m crash.volatile_disk FILE SEED STEPS`, with the library preloaded, executes random steps on a file,
checks everything that it reads, and kills itself. The parent process executes the same steps on a `Model`,
and compares the file with it.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

SOURCE = Path(__file__).with_suffix(".c")
SECTOR = 512
#: The maximum size of a file, in bytes.
_LARGEST = 40_000


class Report(NamedTuple):
    """The report of the disk, which can also be read after the process has ended."""

    #: Sectors that were never written to the real file.
    dirty: int = 0
    writes: int = 0
    #: Blocks, or ends of a file, that were written to the real file before a sync.
    early: int = 0
    syncs: int = 0


def environment(library: Path, report: Path, *, seed: int = 0, early: int = 0) -> dict[str, str]:
    """Return the environment for a process.

    `early` of 100 unsynced blocks are written to the file at once.
    """
    return {
        "LD_PRELOAD": str(library),
        "VOLATILE_DISK_REPORT": str(report),
        "VOLATILE_DISK_SEED": str(seed),
        "VOLATILE_DISK_EARLY": str(early),
    }


def read_report(path: Path) -> Report:
    """Read the last report of a disk."""
    return Report(*struct.unpack("=4Q", path.read_bytes()))


class Place(Protocol):
    """A target of the steps."""

    def write(self, at: int, data: bytes) -> None: ...
    def append(self, data: bytes) -> None: ...
    def resize(self, size: int) -> None: ...
    def sync(self) -> None: ...
    def begin_anew(self) -> None:
        """Replace the file with a new, empty one of the same name."""


def play(places: list[Place], seed: int, steps: int) -> None:
    """Execute random steps, the same in each place."""
    random = Random(seed)
    for _ in range(steps):
        kind = random.choices(["write", "append", "resize", "sync", "anew"], [50, 20, 15, 14, 1])[0]
        at, size = random.randrange(_LARGEST), random.choice((random.randrange(1, 9000), 24, 4096))
        data = random.randbytes(size)
        for place in places:
            match kind:
                case "write":
                    place.write(at, data)
                case "append":
                    place.append(data[:600])
                case "resize":
                    place.resize(at)
                case "sync":
                    place.sync()
                case _:
                    place.begin_anew()


class Model:
    """The content of a file now, at its last sync, and at every moment since."""

    def __init__(self) -> None:
        self.now = b""
        self.since: list[bytes] = [b""]

    def write(self, at: int, data: bytes) -> None:
        before = self.now.ljust(at, b"\0")
        self._becomes(before[:at] + data + before[at + len(data) :])

    def append(self, data: bytes) -> None:
        self._becomes(self.now + data)

    def resize(self, size: int) -> None:
        self._becomes(self.now[:size].ljust(size, b"\0"))

    def sync(self) -> None:
        self.since = [self.now]

    def begin_anew(self) -> None:
        self.now, self.since = b"", [b""]

    def _becomes(self, content: bytes) -> None:
        self.now = content
        self.since.append(content)

    def explains(self, found: bytes) -> bool:
        """Return whether each sector of `found` has been in the file since its last sync."""
        size = max(len(found), *(len(content) for content in self.since))
        whole = found.ljust(size, b"\0")
        held = [content.ljust(size, b"\0") for content in self.since]
        return all(
            whole[at : at + SECTOR] in {content[at : at + SECTOR] for content in held}
            for at in range(0, size, SECTOR)
        )


class Actual:
    """The file itself, through two descriptors. The data that it reads must match the model."""

    def __init__(self, path: Path, model: Model) -> None:
        self._path = path
        self._model = model
        self._open()

    def _open(self) -> None:
        self._first = os.open(self._path, os.O_RDWR | os.O_CREAT)
        self._second = os.open(self._path, os.O_RDWR | os.O_APPEND)

    def write(self, at: int, data: bytes) -> None:
        assert os.pwrite(self._first, data, at) == len(data)
        self._compare()

    def append(self, data: bytes) -> None:
        assert os.write(self._second, data) == len(data)
        self._compare()

    def resize(self, size: int) -> None:
        os.ftruncate(self._first, size)
        self._compare()

    def sync(self) -> None:
        os.fsync(self._second)
        self._compare()

    def begin_anew(self) -> None:
        self._path.unlink()
        os.close(self._first)
        os.close(self._second)
        self._open()
        self._compare()

    def _compare(self) -> None:
        expected = self._model.now
        assert os.fstat(self._first).st_size == self._path.stat().st_size == len(expected)
        assert os.pread(self._second, _LARGEST * 10, 0) == expected
        os.lseek(self._first, len(expected) // 2, os.SEEK_SET)
        assert os.read(self._first, _LARGEST * 10) == expected[len(expected) // 2 :]
        assert self._path.read_bytes() == expected


def main() -> None:
    """Execute the steps, and end with a power cut."""
    model = Model()
    play([model, Actual(Path(sys.argv[1]), model)], int(sys.argv[2]), int(sys.argv[3]))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
