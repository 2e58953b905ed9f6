"""A standby of a test's PostgreSQL server. It replicates the server, and takes over on request."""

from __future__ import annotations

import time
from typing import Self

from postgres_server import PostgresServer

#: A timeout in seconds, much longer than needed.
_WITHIN = 60.0


class Standby(PostgresServer):
    """`with Standby(primary) as standby:` copies a running server, and replicates it until `promote`."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__(user=primary.user, password=primary.password)
        self._primary = primary

    def __enter__(self) -> Self:
        try:
            self.folder.chmod(0o755)
            self._programs = self._readable_programs()
            self._create()
            self.start()
            self.wait_until_streaming()
        except BaseException:
            self.__exit__()
            raise
        return self

    def promote(self) -> None:
        """Make the standby the server that accepts writes, and wait until it is."""
        assert self.sql("SELECT pg_promote(true)") == "t"

    def wait_until_streaming(self) -> None:
        """Wait until the primary sends what it writes."""
        question, until = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", _deadline()
        while self._primary.sql(question) != "1":
            assert time.monotonic() < until, f"the standby does not replicate: {self.log[-2000:]}"
            time.sleep(0.02)

    def _create(self) -> None:
        self._make_folders()
        source = ("-h", self._primary.folder, "-p", str(self._primary.port), "-U", "postgres")
        # Its own settings name the primary (-R).
        self._run(
            self._programs / "pg_basebackup", *source, "-D", self._data, "-R", "-c", "fast", "--no-sync"
        )


def have_wait_for_standby(primary: PostgresServer) -> None:
    """Make the primary confirm a commit only when a standby has it on disk."""
    question, until = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", _deadline()
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
    while primary.sql(question) != "1":
        assert time.monotonic() < until, "no standby is synchronous"
        time.sleep(0.02)


def _deadline() -> float:
    return time.monotonic() + _WITHIN
