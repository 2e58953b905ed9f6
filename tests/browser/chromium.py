"""A real Chromium: the installed one, or the one that fetch_chromium.sh fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.async_api import Browser, async_playwright

from machine import lacking

FETCHED = Path(__file__).parents[2] / ".tools/chromium"

#: The fetched fonts come first, so that pages look the same everywhere. apt-get leaves out installed ones.
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{cache}</cachedir>
  <alias><family>serif</family><prefer><family>Liberation Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>Liberation Mono</family></prefer></alias>
  <match><edit name="family" mode="append_last"><string>Liberation Sans</string></edit></match>
</fontconfig>
"""


class Program(NamedTuple):
    """A browser, and the environment that it needs."""

    path: Path
    environment: dict[str, str]


def find_chromium(scratch: Path) -> Program:
    """Find a Chromium. The fetched one brings its libraries and fonts; `scratch` is for its configuration."""
    installed = os.environ.get("GATEHOUSE_TEST_CHROMIUM") or shutil.which("chromium")
    if installed is not None:
        return Program(Path(installed), {})
    program = FETCHED / "usr/lib/chromium/chromium"
    if not program.exists():
        lacking("no chromium: run tests/browser/fetch_chromium.sh, or set GATEHOUSE_TEST_CHROMIUM")
    libraries = sorted({str(file.parent) for file in FETCHED.rglob("*.so*") if file.is_file()})
    fonts = scratch / "fonts.conf"
    fonts.write_text(_FONTS.format(fonts=FETCHED / "usr/share/fonts", cache=scratch / "fonts"))
    return Program(program, {"LD_LIBRARY_PATH": ":".join(libraries), "FONTCONFIG_FILE": str(fonts)})


@asynccontextmanager
async def running_chromium(scratch: Path) -> AsyncIterator[Browser]:
    """Run a Chromium without a window."""
    program = find_chromium(scratch)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program.path, env={**os.environ, **program.environment}
        )
        try:
            yield browser
        finally:
            await browser.close()
