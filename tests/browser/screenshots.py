"""Writes pictures of the operator page: `make screenshots`. Gateway, traffic and browser are real."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from browser.chromium import running_chromium
from browser.deployment import OPERATOR, Deployment
from browser.history import running_with_history
from browser.watching import Scheme, Visitor

if TYPE_CHECKING:
    from playwright.async_api import Page

_WIDTH = 1400
#: Pixels.
_LEAST = 480
#: Pictures are in the repository, so they must stay small (bytes).
_LARGEST = 150_000


class Picture(NamedTuple):
    """A picture of a screen."""

    name: str
    path: Callable[[Deployment], Awaitable[str]]
    scheme: Scheme = "light"
    #: Pixels. A longer page is cut off.
    height: int = 1100


def _fixed(path: str) -> Callable[[Deployment], Awaitable[str]]:
    async def find(_: Deployment) -> str:
        return path

    return find


async def _dead_event(deployment: Deployment) -> str:
    """Find an event that ledger refused with a reply."""
    found = (await deployment.read("deliveries?status=dead&destination=ledger"))["deliveries"]
    return "/events/" + str(next(one["event_id"] for one in found if one["last_reason"] == "rejected"))


async def _refused(deployment: Deployment) -> str:
    """Find a refused request that was sent to the wrong source."""
    found = (await deployment.read("rejected?source=partner"))["rejected"]
    return "/refused/" + str(next(one["id"] for one in found if one["reason"] == "missing_signature"))


PICTURES = (
    Picture("overview", _fixed("/"), height=1225),
    Picture("overview-dark", _fixed("/"), "dark", height=1225),
    Picture("event", _dead_event, height=1000),
    Picture("dead", _fixed("/dead")),
    Picture("destination", _fixed("/destinations/crm")),
    Picture("refused", _refused),
)


async def write_pictures(folder: Path) -> None:
    """Write all pictures. Raises `SystemExit` if a screen reports an error, or a picture is too large."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-screenshots-") as scratch:
        async with (
            running_with_history(Path(scratch)) as deployment,
            running_chromium(Path(scratch)) as browser,
        ):
            visitor = Visitor(browser, deployment.operator)
            state = await visitor.sign_in(OPERATOR)
            for picture in PICTURES:
                path = await picture.path(deployment)
                page = await visitor.open(path, width=_WIDTH, scheme=picture.scheme, state=state)
                await _write(page, folder / f"{picture.name}.png", picture.height)
            if reports := await visitor.close():
                raise SystemExit("\n".join(reports))


async def _write(page: Page, file: Path, most: int) -> None:
    needed: int = await page.evaluate("document.body.scrollHeight")
    await page.set_viewport_size({"width": _WIDTH, "height": max(_LEAST, min(needed, most))})
    await page.screenshot(path=file)
    size = file.stat().st_size
    if size > _LARGEST:
        raise SystemExit(f"{file} has {size} bytes; the limit is {_LARGEST}")
    print(f"{file}  {size // 1000} kB")  # noqa: T201 - what make shows


def main() -> None:
    """Write the pictures to the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    asyncio.run(write_pictures(parser.parse_args().folder))


if __name__ == "__main__":
    main()
