"""Runs `gatehouse` without the operator page: none of its modules are imported, and it has no routes."""

from __future__ import annotations

import sys
from types import ModuleType

from aiohttp import web


class PageEntrance(web.PlainResource):
    """The entrance of a page that does not exist."""

    def __init__(self, *_: object) -> None:
        super().__init__("/")

    def serves(self, _: object) -> bool:
        """Leave every request to the API."""
        return False


if __name__ == "__main__":
    absent = ModuleType("gatehouse.operator.page.entrance")
    vars(absent)["PageEntrance"] = PageEntrance
    sys.modules[absent.__name__] = absent

    from gatehouse.cli import main

    main()
