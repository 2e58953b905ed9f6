"""The command `store` as an operator runs it: on SQLite, on a real PostgreSQL, and from one to the other."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from conformance.builders import accept, arrival, event
from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.store.sqlite import SqliteStore
from gatehouse.store.sqlite.schema import migrations
from postgres_server import Database, PostgresServer
from processes import GatewayProcess, serving
from stores import fill

CONFIG = """\
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
store: {store}
sources:
  mando: {{provider: mando, secrets: env:SECRET}}
destinations:
  app: {{url: "{app}", order_by: "{{body:type}}", retry: {{first: 10ms, max: 20ms}}}}
routes:
  - {{from: "*", to: app}}
"""
SQLITE = '{url: "sqlite:///gatehouse.db"}'
FROM = ("--from", "sqlite:///gatehouse.db")
NOWHERE = "http://127.0.0.1:9/"
#: All rows, without the times at which they were written.
CONTENTS = (
    "SELECT count(*), md5(string_agg(md5(events::text), ',' ORDER BY id)) FROM events",
    """
SELECT count(*), md5(string_agg(md5(row(event_id, destination, status, attempts, received_ms,
    due_ms IS NULL, due_ms = 2 ^ 62, leased_until_ms, token, last_reason, last_http_status, since_ms,
    earlier, order_key, order_seq)::text), ',' ORDER BY event_id, destination)) FROM deliveries
""",
    """
SELECT count(*), md5(string_agg(md5(row(source, place, key, event_id)::text), ','
    ORDER BY source, place, key)) FROM dedupe_keys
""",
    "SELECT count(*), md5(string_agg(md5(replies::text), ',' ORDER BY event_id)) FROM replies",
    "SELECT string_agg(destination, ',' ORDER BY destination) FROM paused_destinations",
)
#: Each test starts several processes.
pytestmark = pytest.mark.timeout(180)

Finished = subprocess.CompletedProcess[str]
Run = Callable[..., Finished]


def postgres_store(database: Database) -> str:
    return f'{{url: "{database.url}", password: env:PASSWORD}}'


def environment(database: Database | None) -> dict[str, str]:
    password = {} if database is None else {"PASSWORD": database.password}
    return os.environ | {"SECRET": providers.SECRET} | password


class Place:
    """A directory with a config file for each store."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database
        self.sqlite = self.config("sqlite", SQLITE)
        self.postgres = self.config("postgres", postgres_store(database))

    def config(self, name: str, store: str, app: str = NOWHERE) -> Path:
        file = self.folder / f"{name}.yaml"
        file.write_text(CONFIG.format(store=store, app=app))
        return file

    def run(self, *arguments: str, config: Path, ends: int = 0) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "gatehouse", "store", *arguments, "-c", str(config)],
            cwd=self.folder,
            env=environment(self.database),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == ends, done.stdout + done.stderr
        assert self.database.password not in done.stdout + done.stderr
        return done


@pytest.fixture
def place(tmp_path: Path, empty_database: Database) -> Place:
    return Place(tmp_path, empty_database)


async def post(client: aiohttp.ClientSession, gateway: GatewayProcess, number: int) -> tuple[str, str]:
    """Send an event. Returns the status in the answer, and the event's id."""
    body = providers.body(id=f"evt_{number}", type=f"sale.{number % 3}")
    url = f"{gateway.url}/webhooks/mando"
    async with client.post(url, data=body, headers=providers.mando(body)) as answer:
        said = await answer.json()
        assert answer.status == 200, said
        return said["status"], said["id"]


async def test_a_gateway_moves_to_postgresql_with_a_copy_and_a_restart(place: Place) -> None:
    numbers = range(30)
    async with ScriptedDestination() as destination, aiohttp.ClientSession() as client:
        destination.always(status(503))
        config = place.config("sqlite", SQLITE, destination.url)
        async with serving(config, SECRET=providers.SECRET) as gateway:
            answers = [await post(client, gateway, number) for number in numbers]
            busy = await asyncio.to_thread(place.run, "copy", *FROM, config=place.postgres, ends=1)
            beside = await asyncio.to_thread(place.run, "info", "--json", config=config)
            gateway.terminate()
            await gateway.wait()
        copied = await asyncio.to_thread(place.run, "copy", *FROM, config=place.postgres)
        failed = len(destination.requests)
        destination.always(status(200))
        config = place.config("postgres", postgres_store(place.database), destination.url)
        secrets = {"SECRET": providers.SECRET, "PASSWORD": place.database.password}
        async with serving(config, **secrets) as gateway:
            received = (await destination.wait_for(failed + len(numbers), within=30))[failed:]
            again = [await post(client, gateway, number) for number in (*numbers, 1000)]
            await destination.wait_for(failed + len(numbers) + 1, within=30)
            gateway.terminate()
            await gateway.wait()

    assert [said for said, _ in answers] == ["accepted"] * len(numbers)
    assert "is in use by another gatehouse" in busy.stderr
    assert json.loads(beside.stdout)["deliveries"] == {"pending": len(numbers), "delivered": 0, "dead": 0}
    assert re.search(r"^deliveries held +27 +27 +0$", copied.stdout, re.MULTILINE), copied.stdout
    assert "start the gateway" in copied.stdout
    ids = [event_id for _, event_id in answers]
    assert again[:-1] == [("duplicate", event_id) for event_id in ids]
    assert again[-1][0] == "accepted"
    for kind in range(3):
        of_key = [one.event_id for one in received if one.event_id in ids[kind::3]]
        assert of_key == ids[kind::3]


async def test_a_copy_that_is_killed_repeatedly_is_complete_in_the_end(
    place: Place, postgres: PostgresServer
) -> None:
    await fill(place.folder / "gatehouse.db", plain=6000)
    chance = random.SystemRandom()
    kills = 0
    while kills < 4 and await killed(place, postgres, chance):
        kills += 1
    done = await asyncio.to_thread(place.run, "copy", *FROM, config=place.postgres)
    other = postgres.create_database()
    whole = Place(place.folder, other)
    await asyncio.to_thread(whole.run, "copy", *FROM, config=whole.postgres)
    interrupted = contents(postgres, place.database.name)
    uninterrupted = contents(postgres, other.name)
    postgres.drop_database(other.name)

    assert kills >= 2, "the store is too small for so many kills"
    assert interrupted == uninterrupted
    assert interrupted[0].split("|")[0] == "6010"
    assert re.search(r"^events +6010 +6010 +0$", done.stdout, re.MULTILINE), done.stdout


async def killed(place: Place, postgres: PostgresServer, chance: random.Random) -> bool:
    """Start a copy, and kill it shortly after its mark has moved. Returns whether it was still running."""
    before = mark(postgres, place.database)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gatehouse", "store", "copy", *FROM, "-c", str(place.postgres)),
        cwd=place.folder,
        env=environment(place.database),
        stdout=PIPE,
        stderr=PIPE,
    )
    until = time.monotonic() + 60
    while process.returncode is None and await asyncio.to_thread(mark, postgres, place.database) == before:
        assert time.monotonic() < until, "the copy makes no progress"
        await asyncio.sleep(0.005)
    await asyncio.sleep(chance.random() / 20)
    if process.returncode is None:
        process.kill()
    await process.communicate()
    return process.returncode == -signal.SIGKILL


def mark(postgres: PostgresServer, database: Database) -> str:
    """Return the progress mark of a copy."""
    there = postgres.sql("SELECT to_regclass('gatehouse_copies')", database=database.name)
    if not there:
        return ""
    return postgres.sql("SELECT event_seq, key FROM gatehouse_copies", database=database.name)


def contents(postgres: PostgresServer, database: str) -> list[str]:
    """Return all rows of a database, without the times at which they were written."""
    return [postgres.sql(statement, database=database) for statement in CONTENTS]


async def test_info_shows_what_a_store_holds(place: Place, postgres: PostgresServer) -> None:
    nothing = json.loads(place.run("info", "--json", config=place.postgres).stdout)
    filled = await fill(place.folder / "gatehouse.db")
    files = {file.name for file in place.folder.iterdir()}
    before = json.loads(place.run("info", "--json", config=place.sqlite).stdout)
    place.run("copy", *FROM, config=place.postgres)
    after = json.loads(place.run("info", "--json", config=place.postgres).stdout)
    text = place.run("info", config=place.postgres).stdout

    assert (nothing["schema_version"], nothing["rows"]["events"]) == (0, 0)
    # These exceptions are the files that SQLite creates for readers.
    assert {file.name for file in place.folder.iterdir()} - files <= {"gatehouse.db-wal", "gatehouse.db-shm"}
    assert before["backend"] == "sqlite"
    assert after["backend"] == "postgresql"
    for found in (before, after):
        assert found["schema_version"] == found["newest_schema_version"] > 0
        assert found["rows"]["events"] == 13
        assert found["rows"]["paused_destinations"] == 1
        assert found["deliveries"] == {"pending": 10, "delivered": 2, "dead": 1}
        assert found["bytes"] > 10_000
        assert time.time() - 3600 < found["oldest_pending"] < time.time()
        assert not found["estimated"]
    assert filled.dead
    assert place.database.url in text
    assert "10 pending, 2 delivered, 1 dead" in text
    assert re.search(r"^oldest pending +received 20.*Z, \d+ s ago$", text, re.MULTILINE)


async def test_info_does_not_disturb_a_gateway_that_uses_the_store(place: Place) -> None:
    store = await SqliteStore.open(place.folder / "gatehouse.db")
    shown = await asyncio.to_thread(place.run, "info", config=place.sqlite)
    refused = await asyncio.to_thread(place.run, "migrate", config=place.sqlite, ends=1)
    await store.ping()
    await store.close()

    assert "up to date" in shown.stdout
    assert "is in use by another gatehouse" in refused.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_migrate_reports_the_schema_versions(place: Place, kind: str) -> None:
    config = getattr(place, kind)
    first = place.run("migrate", config=config).stdout
    second = place.run("migrate", config=config).stdout

    assert re.search(r": migrated to schema version \d+$", first.strip())
    assert re.search(r": already at schema version \d+$", second.strip())


def test_migrate_continues_from_an_older_version(place: Place) -> None:
    with closing(sqlite3.connect(place.folder / "gatehouse.db")) as connection:
        connection.executescript(f"{migrations()[0]}; PRAGMA user_version = 1")
    shown = place.run("info", config=place.sqlite).stdout
    refused = place.run("copy", *FROM, config=place.postgres, ends=1).stderr
    done = place.run("migrate", config=place.sqlite).stdout

    assert "migrates it to" in shown
    assert "gatehouse store migrate" in refused
    assert f"migrated from version 1 to schema version {len(migrations())}" in done


def test_a_store_that_can_not_be_copied_is_an_error_with_a_hint(place: Place) -> None:
    to_sqlite = place.run("copy", *FROM, config=place.sqlite, ends=1).stderr
    no_file = place.run("copy", *FROM, config=place.postgres, ends=1).stderr
    no_url = place.run("copy", "--from", "gatehouse.db", config=place.postgres, ends=2).stderr
    no_store = place.run("info", config=place.sqlite, ends=1).stderr

    assert "Try: give store.url a postgresql:// URL" in to_sqlite
    assert "is not a file" in no_file
    assert "sqlite:////path/to/gatehouse.db" in no_url
    assert "is not a file" in no_store


async def test_a_copy_that_differs_exits_with_1(place: Place, postgres: PostgresServer) -> None:
    await fill(place.folder / "gatehouse.db")
    place.run("migrate", config=place.postgres)
    postgres.sql(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER lose BEFORE INSERT ON replies FOR EACH ROW EXECUTE FUNCTION lose()",
        database=place.database.name,
    )
    done = place.run("copy", *FROM, config=place.postgres, ends=1)

    assert re.search(r"^replies +1 +0 +1$", done.stdout, re.MULTILINE), done.stdout
    assert "Try: keep running the gateway on the SQLite store, which was not changed" in done.stderr


async def until_it_writes(folder: Path) -> None:
    """Wait until a backup writes its file, which does not have its final name yet."""
    async with asyncio.timeout(60):
        while True:
            if any(part.stat().st_size for part in folder.glob("copy.db.*.partial")):
                return
            await asyncio.sleep(0.005)


async def test_a_backup_is_complete_although_the_gateway_is_killed_meanwhile(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(store=SQLITE, app=NOWHERE))
    store = await SqliteStore.open(tmp_path / "gatehouse.db")
    stored = [event(b'{"pad":"%s"}' % (b"x" * 20_000), received=time.time()) for _ in range(2000)]
    for start in range(0, len(stored), 500):
        await accept(store, *[arrival(of=one) for one in stored[start : start + 500]])
    await store.close()

    async with serving(config, SECRET=providers.SECRET) as gateway:
        words = ("-m", "gatehouse", "store", "backup", "copy.db", "-c", str(config))
        backup = await asyncio.create_subprocess_exec(
            *(sys.executable, *words), cwd=tmp_path, env=environment(None), stdout=PIPE, stderr=PIPE
        )
        await until_it_writes(tmp_path)
        gateway.kill()
        await gateway.wait()
        was_unfinished = not (tmp_path / "copy.db").exists()
        out, complaints = await backup.communicate()

    assert was_unfinished
    assert (backup.returncode, complaints) == (0, b""), out
    assert not list(tmp_path.glob("*.partial"))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert {name for (name,) in copy.execute("SELECT id FROM events")} == {one.id for one in stored}


async def test_a_backup_that_is_killed_leaves_no_file_with_the_final_name(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(store=SQLITE, app=NOWHERE))
    store = await SqliteStore.open(tmp_path / "gatehouse.db")
    await accept(store, *[arrival(of=event(b"x" * 100_000, received=time.time())) for _ in range(300)])
    await store.close()

    words = ("-m", "gatehouse", "store", "backup", "copy.db", "-c", str(config))
    backup = await asyncio.create_subprocess_exec(
        *(sys.executable, *words), cwd=tmp_path, env=environment(None), stdout=PIPE, stderr=PIPE
    )
    await until_it_writes(tmp_path)
    backup.kill()
    await backup.communicate()

    assert backup.returncode == -signal.SIGKILL
    assert not (tmp_path / "copy.db").exists()
