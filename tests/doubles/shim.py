"""C libraries that are preloaded into a process, to intercept its calls to the kernel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from machine import lacking

#: The library with the C library's own functions, on glibc before 2.34.
_LIBRARIES = ("-ldl", "-pthread")


def find_compiler() -> str | None:
    """Return the C compiler of this machine."""
    return shutil.which("gcc") or shutil.which("cc")


def build(source: Path, folder: Path) -> Path:
    """Compile a library into a folder. Without a compiler, the test ends here."""
    compiler = find_compiler()
    if compiler is None:
        lacking("no C compiler: install gcc")
    library = folder / f"{source.stem}.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source)]
    subprocess.run([*command, *_LIBRARIES], check=True)
    return library
