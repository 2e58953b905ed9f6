"""One of several workers: its config, and the folder that it shares with the supervisor."""

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

_SETTINGS = "names.json"
#: The config that the supervisor started with. Settings that need a restart are read from it.
_INITIAL = "first.yaml"
#: The config in use.
_CURRENT = "current.yaml"
_STDIN = 0


class _Settings(msgspec.Struct):
    """What a worker needs in addition to the config."""

    #: The config file as the operator named it, and the folder for its relative paths.
    file: str
    directory: str
    #: The ports that all workers listen on, one for each address of `server.listen`.
    ports: tuple[int, ...]
    #: The process id of the supervisor.
    supervisor: int


_decode_settings = msgspec.json.Decoder(_Settings).decode


class SharedFolder(NamedTuple):
    """The folder of the supervisor, readable only by its user: the config in use, and sockets.

    Workers do not read the config file itself. A restarted worker must use the same config as the others,
    even when the file has changed meanwhile.
    """

    folder: Path

    def write_initial(self, loaded: LoadedConfig, *ports: int) -> None:
        """Write what a worker needs to start."""
        settings = _Settings(loaded.document.file, str(loaded.directory), ports, os.getpid())
        (self.folder / _SETTINGS).write_bytes(msgspec.json.encode(settings))
        (self.folder / _INITIAL).write_bytes(loaded.text)
        self.use(loaded)

    def use(self, loaded: LoadedConfig) -> None:
        """Set the config for starts and reloads of workers."""
        draft = self.folder / f"{_CURRENT}.new"
        draft.write_bytes(loaded.text)
        draft.replace(self.folder / _CURRENT)

    def worker(self, number: int) -> Worker:
        """Return the worker with this number."""
        return Worker(self.folder, number)


class Worker(NamedTuple):
    """A worker: the folder of its supervisor, and its number, starting at 1."""

    folder: Path
    number: int

    @classmethod
    def from_argument(cls, argument: str) -> Worker:
        """Parse the text that `argument` returns."""
        path = Path(argument)
        return cls(path.parent, int(path.name))

    @property
    def argument(self) -> str:
        """The argument that tells a worker process who it is."""
        return str(self.folder / str(self.number))

    @property
    def socket(self) -> Path:
        """The socket of its operator server, for the supervisor only."""
        return self.folder / f"{self.number}.sock"

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that all workers listen on."""
        return self._settings().ports

    def clean_up(self) -> None:
        """Remove the folder of the supervisor, if the supervisor is gone."""
        with suppress(FileNotFoundError):
            if self._settings().supervisor != os.getppid():
                shutil.rmtree(self.folder, ignore_errors=True)

    def load_initial(self) -> LoadedConfig:
        """Load the config to start with. Raises `ConfigError`."""
        loaded = self.load()
        config, _ = keep_restart_only(self._parse_file(_INITIAL).config, loaded.config)
        return replace(loaded, config=config)

    def load(self) -> LoadedConfig:
        """Load the config in use. Raises `ConfigError`."""
        return self._parse_file(_CURRENT)

    def _parse_file(self, name: str) -> LoadedConfig:
        settings = self._settings()
        return parse((self.folder / name).read_bytes(), settings.file, Path(settings.directory))

    def _settings(self) -> _Settings:
        return _decode_settings((self.folder / _SETTINGS).read_bytes())


def stop_with_supervisor(stop: asyncio.Event) -> None:
    """Set `stop` when the supervisor closes the worker's stdin: it wants the worker to stop, or it is gone.

    A signal would not do: a service manager also sends SIGTERM to the workers, and a second signal would end
    them at once.
    """
    loop = asyncio.get_running_loop()

    def read_stdin() -> None:
        if not os.read(_STDIN, 1024):
            loop.remove_reader(_STDIN)
            stop.set()

    loop.add_reader(_STDIN, read_stdin)
