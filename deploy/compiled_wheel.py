"""Builds a compiled wheel: mypyc translates the modules of the hot path to C, from the same sources.

The default build is pure Python. `HATCH_BUILD_HOOKS_ENABLE=1` turns this hook on (`make compiled` sets it).
The modules are listed in pyproject.toml. The wheel contains their sources too, which Python uses only for
tracebacks when there is a compiled module.
"""

from __future__ import annotations

import ast
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCES = "src"
#: mypyc names the library with the code of all modules after this.
_GROUP = "gatehouse"
#: The bases that a compiled class may have, besides compiled classes.
_BASES = {"Generic", "NamedTuple", "Protocol", "Exception", "ValueError"}
#: `make check` checks the types strictly. Here, mypy only has to understand them.
_MYPY = ("--config-file=", "--explicit-package-bases", "--ignore-missing-imports")


class CompiledBuild(BuildHookInterface):
    """Compiles the modules that the hook's `modules` lists, and adds them to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the install is editable: a compiled module would hide changes of its source."""
        if version == "editable":
            return
        files = [f"{module.replace('.', '/')}.py" for module in self.config["modules"]]
        sources = Path(self.root) / _SOURCES
        _check([sources / file for file in files])
        self._folder = Path(tempfile.mkdtemp(prefix="gatehouse-build-"))
        _compile(sources, files, self._folder)
        for built in (self._folder / "lib").rglob("*.so"):
            build_data["force_include"][str(built)] = str(built.relative_to(self._folder / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was built: the wheel contains it now."""
        if version != "editable":
            shutil.rmtree(self._folder)


def _check(files: list[Path]) -> None:
    """Refuse classes that mypyc would change silently, or whose objects would crash.

    mypyc drops the arguments of a metaclass. An object of a compiled class whose base is not compiled can
    crash when there is a weak reference to it.
    """
    classes = [
        (file, node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    allowed = {node.name for _, node in classes} | _BASES
    for file, node in classes:
        bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
        if node.keywords or not bases <= allowed:
            raise ValueError(
                f"{file}:{node.lineno}: class {node.name} must be in a module that is not compiled"
            )


def _compile(sources: Path, files: list[str], folder: Path) -> None:
    # Only a compiled build has these packages.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415

    with contextlib.chdir(sources):
        extensions = mypycify(
            [*_MYPY, f"--cache-dir={folder / 'mypy'}", *files],
            opt_level="3",
            debug_level="0",
            target_dir=str(folder / "c"),
            group_name=_GROUP,
        )
        distribution = Distribution({"name": _GROUP, "ext_modules": extensions})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "objects")
        command.ensure_finalized()
        command.run()
