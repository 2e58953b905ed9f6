"""The tests run on the right build: the sources or, with `make test-compiled`, a compiled wheel."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
    "targets"
]["wheel"]["hooks"]["custom"]["modules"]
IS_COMPILED = bool(os.environ.get("GATEHOUSE_TEST_COMPILED"))
_FILES = "import sys, importlib; print(*(importlib.import_module(m).__file__ for m in sys.argv[1:]))"


def is_compiled(file: str | None) -> bool:
    return file is not None and file.endswith(tuple(EXTENSION_SUFFIXES))


def test_the_tests_import_the_build_that_they_are_run_for() -> None:
    files = {module: importlib.import_module(module).__file__ for module in MODULES}

    assert {module for module, file in files.items() if is_compiled(file)} == (
        set(MODULES) if IS_COMPILED else set()
    )


def test_programs_that_the_tests_start_import_the_same_build(tmp_path: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-c", _FILES, *MODULES], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert {is_compiled(file) for file in started.stdout.split()} == {IS_COMPILED}


def test_the_list_of_compiled_modules_is_sorted_and_names_existing_modules() -> None:
    assert sorted(set(MODULES)) == MODULES
    assert [one for one in MODULES if not (ROOT / "src" / f"{one.replace('.', '/')}.py").is_file()] == []
