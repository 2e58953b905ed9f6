"""A truncated `-wal` file, a missing index, a flipped bit: intact events survive, and wrong bytes are not
sent.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from pathlib import Path
from random import Random

import pytest

from conformance.builders import accept, arrival, event, lease
from crash.stored import damage
from gatehouse.errors import StoreError
from gatehouse.store.sqlite import SqliteStore

#: So few that no checkpoint runs while they are written.
EVENTS = 60


def body(number: int) -> bytes:
    """Return a body that contains its own digest."""
    text = f"event {number} " + "x" * (number * 37 % 3000)
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}".encode()


def intact(sent: bytes) -> bool:
    digest, _, text = sent.partition(b" ")
    return hashlib.sha256(text).hexdigest().encode() == digest


@pytest.fixture
async def crashed(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """Make a store as a crash leaves it. Map each event to the length of the `-wal` file after it."""
    (original := tmp_path / "original").mkdir()
    (folder := tmp_path / "crashed").mkdir()
    store = await SqliteStore.open(original / "gatehouse.db")
    log = original / "gatehouse.db-wal"
    acknowledged = {}
    for number in range(EVENTS):
        (receipt,) = await accept(store, arrival(str(number).encode(), of=event(body(number))))
        acknowledged[receipt.event_id] = log.stat().st_size
    for file in original.glob("gatehouse.db*"):
        shutil.copy(file, folder)
    await store.close()
    return folder / "gatehouse.db", acknowledged


def copy(database: Path, name: str) -> Path:
    folder = database.parents[1] / name
    shutil.copytree(database.parent, folder)
    return folder / database.name


async def opens_and_works(database: Path) -> None:
    store = await SqliteStore.open(database)
    (receipt,) = await accept(store, arrival(b"new"))
    assert receipt.status == "accepted"
    await store.close()


def held(database: Path) -> set[str]:
    connection = sqlite3.connect(database)
    try:
        assert damage(connection) == ()
        return {name for (name,) in connection.execute("SELECT id FROM events")}
    finally:
        connection.close()


@pytest.mark.case("D-12")
async def test_a_truncated_wal_file_keeps_every_event_before_the_cut(
    crashed: tuple[Path, dict[str, int]],
) -> None:
    original, acknowledged = crashed
    length = original.with_name("gatehouse.db-wal").stat().st_size
    random = Random(1)
    for number in range(100):
        database = copy(original, f"cut-{number}")
        cut = random.randrange(length)
        with database.with_name("gatehouse.db-wal").open("r+b") as log:
            log.truncate(cut)
        await opens_and_works(database)

        assert {name for name, end in acknowledged.items() if end <= cut} <= held(database)


@pytest.mark.case("D-12")
async def test_a_wal_file_without_its_index_is_read(crashed: tuple[Path, dict[str, int]]) -> None:
    original, acknowledged = crashed
    for number in range(10):
        database = copy(original, f"no-index-{number}")
        database.with_name("gatehouse.db-shm").unlink()
        await opens_and_works(database)

        assert acknowledged.keys() <= held(database)


@pytest.mark.case("D-11")
async def test_no_flipped_bit_causes_a_delivery_with_wrong_bytes(
    crashed: tuple[Path, dict[str, int]],
) -> None:
    original, _ = crashed
    await opens_and_works(moved := copy(original, "moved"))  # closing checkpoints the `-wal` file
    random = Random(2)
    for number in range(100):
        source, suffix = (moved, "") if number % 2 else (original, "-wal")
        database = copy(source, f"flip-{number}")
        flip(database.with_name(database.name + suffix), random)
        try:
            store = await SqliteStore.open(database)
        except StoreError:
            continue  # refused with an error
        try:
            leased = await lease(store, now=2e9)
        except StoreError:
            leased = []
        finally:
            await store.close()

        assert all(intact(one.event.body) for one in leased if one.event.body != event().body)


def flip(file: Path, random: Random) -> None:
    with file.open("r+b") as opened:
        place = random.randrange(file.stat().st_size)
        opened.seek(place)
        (value,) = opened.read(1)
        opened.seek(place)
        opened.write(bytes([value ^ 1 << random.randrange(8)]))
