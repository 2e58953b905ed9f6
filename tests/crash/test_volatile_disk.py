"""The disk with a volatile cache: what a process reads from it, and what remains after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crash.volatile_disk import SOURCE, Model, Report, environment, play, read_report
from doubles import shim

STEPS = 200


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shim.build(SOURCE, tmp_path_factory.mktemp("shim"))


def cut(library: Path, folder: Path, seed: int, early: int) -> tuple[bytes, Model, Report]:
    """Run random steps on the disk until the power cut.

    Return the remaining data, the steps and the report.
    """
    path, report = folder / "played.db", folder / "report"
    process = subprocess.run(
        [sys.executable, "-m", "crash.volatile_disk", str(path), str(seed), str(STEPS)],
        env=os.environ
        | environment(library, report, seed=seed, early=early)
        | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    model = Model()
    play([model], seed, STEPS)
    return path.read_bytes(), model, read_report(report)


@pytest.mark.parametrize(("ci", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_compiler_the_tests_fail_in_ci_and_are_skipped_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, outcome: type[Exception]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(shim, "find_compiler", lambda: None)

    with pytest.raises(outcome, match="no C compiler"):
        shim.build(SOURCE, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_loses_only_unsynced_data(library: Path, tmp_path: Path, seed: int) -> None:
    left, model, report = cut(library, tmp_path, seed, early=0)

    assert left == model.since[0]
    assert (report.dirty > 0) >= (left != model.now)
    assert report.syncs > 0
    assert report.early == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_disk_that_writes_early_keeps_some_unsynced_data(library: Path, tmp_path: Path, seed: int) -> None:
    left, model, report = cut(library, tmp_path, seed, early=50)

    assert model.explains(left)
    assert report.early > 0


def test_the_model_rejects_data_that_was_never_written() -> None:
    model = Model()
    model.write(0, b"a" * 2048)
    model.sync()
    model.write(512, b"b" * 512)

    assert model.explains(b"a" * 512 + b"b" * 512 + b"a" * 1024)
    assert not model.explains(b"a" * 512 + b"c" * 512 + b"a" * 1024)
    assert not model.explains(b"a" * 1024)


def test_other_files_are_written_as_usual(library: Path, tmp_path: Path) -> None:
    path = tmp_path / "log"
    subprocess.run(
        [sys.executable, "-c", f"import os; open({str(path)!r}, 'w', 1).write('kept\\n'); os._exit(0)"],
        env=os.environ | environment(library, tmp_path / "report"),
        check=True,
    )

    assert path.read_text() == "kept\n"
    assert read_report(tmp_path / "report") == Report()
