"""A worker starts with the config in use, whatever the file contains by then."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gatehouse.config.load import LoadedConfig, load, parse
from gatehouse.errors import ConfigError, GatewayError
from gatehouse.workers.supervisor import worker_count
from gatehouse.workers.worker import SharedFolder, Worker

FIRST = """\
server: {listen: "127.0.0.1:8080"}
store: {url: "postgresql://gatehouse@127.0.0.1/first"}
sources: {mando: {provider: mando, secrets: env:SECRET}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a config file."""
    file = tmp_path / "gateway.yaml"
    file.write_text(FIRST)
    return file


@pytest.fixture
def shared(tmp_path: Path, file: Path) -> SharedFolder:
    """Create the supervisor's folder."""
    folder = tmp_path / "shared"
    folder.mkdir()
    shared = SharedFolder(folder)
    shared.write_initial(load(file), 4711)
    return shared


def test_a_worker_starts_with_the_config_in_use_and_not_with_the_file(
    file: Path, shared: SharedFolder
) -> None:
    file.write_text("sources: 7\n")

    loaded = shared.worker(2).load_initial()

    assert list(loaded.config.sources) == ["mando"]
    assert loaded.directory == file.parent
    assert shared.worker(2).ports == (4711,)


def test_settings_that_need_a_restart_stay_as_at_the_start_of_the_supervisor(
    file: Path, shared: SharedFolder
) -> None:
    """A worker that restarts after a reload must not open another store than the others."""
    file.write_text(
        FIRST.replace("/first", "/second")
        .replace(":8080", ":8081")
        .replace("}\n", "}\ndestinations: {app: {url: 'http://127.0.0.1:1/'}}\n", 1)
    )
    shared.use(load(file))

    config = shared.worker(1).load_initial().config

    assert config.store.url == "postgresql://gatehouse@127.0.0.1/first"
    assert config.server.listen.port == 8080
    assert list(config.destinations) == ["app"]


def test_problems_name_the_file_as_the_operator_did(file: Path, shared: SharedFolder) -> None:
    shared.use(LoadedConfig(load(file).config, load(file).document, file.parent, b"sources: 7\n"))

    with pytest.raises(ConfigError) as caught:
        shared.worker(1).load()

    assert caught.value.problems[0].file == str(file)


def test_a_worker_reads_its_folder_and_number_from_its_argument(shared: SharedFolder) -> None:
    worker = shared.worker(3)

    assert Worker.from_argument(worker.argument) == worker
    assert worker.socket.parent == shared.folder
    assert worker.socket != shared.worker(2).socket


def test_a_worker_without_its_supervisor_removes_the_folder(
    file: Path, shared: SharedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getppid", os.getpid)
    shared.worker(1).clean_up()
    assert stat.S_ISDIR(shared.folder.stat().st_mode), "the supervisor is there: it is its folder"

    monkeypatch.setattr(os, "getppid", lambda: 1)
    shared.worker(1).clean_up()
    assert not shared.folder.exists()
    shared.worker(2).clean_up()


def test_sqlite_allows_one_worker_and_the_error_says_what_to_do() -> None:
    loaded = parse("store: {url: 'sqlite:///gatehouse.db'}\nsources: {}\n")

    with pytest.raises(GatewayError) as caught:
        worker_count(2, loaded)
    assert caught.value.message == (
        "2 workers can't share sqlite:///gatehouse.db: a SQLite store belongs to one process"
    )
    assert "postgresql://" in (caught.value.hint or "")
    assert worker_count(1, loaded) == 1
    assert worker_count(None, loaded) == 1


def test_auto_means_one_worker_per_available_core() -> None:
    loaded = parse(FIRST)

    assert worker_count(None, loaded) == len(os.sched_getaffinity(0))
    assert worker_count(3, loaded) == 3
