"""Runs `gatehouse` without the operator page: none of its modules are imported, and it has no routes."""

from __future__ import annotations

import sys
from types import ModuleType


class Page:
    """A page without screens."""

    def __init__(self, *_: object) -> None:
        pass

    def routes(self) -> list[object]:
        """Return no routes."""
        return []

    def serves(self, _: object) -> bool:
        """Leave every request to the API."""
        return False


if __name__ == "__main__":
    absent = ModuleType("gatehouse.operator.page.page")
    vars(absent)["Page"] = Page
    sys.modules[absent.__name__] = absent

    from gatehouse.cli import main

    main()
