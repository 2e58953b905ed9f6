"""One of several workers: where it finds its config, and where its supervisor finds it."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gatehouse.config.load import parse
from gatehouse.gateway.reload import keep_restart_only

if TYPE_CHECKING:
    from gatehouse.config.load import LoadedConfig

_NAMES = "names.json"
#: The config that the supervisor started with: what only a restart changes stays as it is there.
_FIRST = "first.yaml"
#: The config that was last taken into use.
_CURRENT = "current.yaml"
_STDIN = 0


class _Names(msgspec.Struct):
    """What a worker is told beside the config."""

    #: The config file as the operator named it, and where its relative paths start.
    file: str
    directory: str
    #: The ports that all workers listen on, one for each address of `server.listen`.
    ports: tuple[int, ...]
    #: The supervisor's process id.
    supervisor: int


class SharedFolder(NamedTuple):
    """The supervisor's folder, which only its own user can read: the config as it is in use, and sockets.

    Workers do not read the config file itself: one that is started again must not have another config than
    the others, whatever somebody wrote into the file meanwhile.
    """

    folder: Path

    def begin(self, loaded: LoadedConfig, *ports: int) -> None:
        """Write down what a worker needs to start."""
        names = _Names(loaded.document.file, str(loaded.directory), ports, os.getpid())
        (self.folder / _NAMES).write_bytes(msgspec.json.encode(names))
        (self.folder / _FIRST).write_bytes(loaded.text)
        self.use(loaded)

    def use(self, loaded: LoadedConfig) -> None:
        """Have workers start with this config, and reload it, from now on."""
        draft = self.folder / f"{_CURRENT}.new"
        draft.write_bytes(loaded.text)
        draft.replace(self.folder / _CURRENT)

    def worker(self, number: int) -> Worker:
        """Return one of the workers."""
        return Worker(self.folder, number)


class Worker(NamedTuple):
    """A worker, by the supervisor's folder and its number, counted from 1."""

    folder: Path
    number: int

    @classmethod
    def of(cls, argument: str) -> Worker:
        """Read what `argument` wrote."""
        path = Path(argument)
        return cls(path.parent, int(path.name))

    @property
    def argument(self) -> str:
        """What a worker process is told of itself."""
        return str(self.folder / str(self.number))

    @property
    def socket(self) -> Path:
        """Where its operator server listens, for the supervisor alone."""
        return self.folder / f"{self.number}.sock"

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that all workers listen on."""
        return self._names().ports

    def clean_up(self) -> None:
        """Remove the supervisor's folder when the supervisor is not there to do it."""
        with suppress(FileNotFoundError):
            if self._names().supervisor != os.getppid():
                shutil.rmtree(self.folder, ignore_errors=True)

    def load_initial(self) -> LoadedConfig:
        """Load the config to start with. Raises `ConfigError`."""
        loaded = self.load()
        config, _ = keep_restart_only(self._parsed(_FIRST).config, loaded.config)
        return replace(loaded, config=config)

    def load(self) -> LoadedConfig:
        """Load the config that is in use. Raises `ConfigError`."""
        return self._parsed(_CURRENT)

    def _parsed(self, name: str) -> LoadedConfig:
        names = self._names()
        return parse((self.folder / name).read_bytes(), names.file, Path(names.directory))

    def _names(self) -> _Names:
        return msgspec.json.decode((self.folder / _NAMES).read_bytes(), type=_Names)


def stop_with_supervisor(stop: asyncio.Event) -> None:
    """Set `stop` once the supervisor closes its end of stdin: it wants that, or it is gone.

    No signal says so: a service manager sends SIGTERM to the workers too, and a second one would end them at
    once.
    """
    loop = asyncio.get_running_loop()

    def look() -> None:
        if not os.read(_STDIN, 1024):
            loop.remove_reader(_STDIN)
            stop.set()

    loop.add_reader(_STDIN, look)
