"""What came of a reload: its result, and the result as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.errors import Problem
    from gatehouse.operator.response_types import ConfigProblem, ReloadRefused, ReloadReport


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How one set of named things differs from another; each list in the order of its config."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is different between the config before and the one after."""

    sources: Difference = Difference()
    destinations: Difference = Difference()
    #: In words: a route has no name. One that changed is one removed and one added.
    routes: Difference = Difference()
    #: The other keys, as in `server.public_url`.
    settings: tuple[str, ...] = ()

    def named(self) -> dict[str, tuple[str, ...]]:
        """Return what there is, each under a name of its own: `sources_added` and so on. For the log."""
        parts = {"sources": self.sources, "destinations": self.destinations, "routes": self.routes}
        found = {
            f"{part}_{how}": names
            for part, difference in parts.items()
            for how, names in msgspec.structs.asdict(difference).items()
        }
        return {name: names for name, names in (found | {"settings": self.settings}).items() if names}


class ReloadResult(NamedTuple):
    """What came of a reload."""

    #: None: refused, so nothing changed.
    changes: Changes | None = None
    #: Why it was refused.
    problems: tuple[Problem, ...] = ()
    #: Keys that have to wait for a restart. All others are in use.
    needs_restart: tuple[str, ...] = ()
    #: What can't serve for lack of a secret.
    not_ready: tuple[str, ...] = ()
    #: By source, the dedupe keys that went: events that only these tell would be accepted again.
    keys_lost: Mapping[str, Sequence[str]] = {}
    #: The file that was read, and the SHA-256 of what it held.
    file: str = ""
    sha256: str = ""


def reload_answer(result: ReloadResult) -> web.Response:
    """Answer 200 with what changed, or 400 with every problem."""
    if result.changes is None:
        refused: ReloadRefused = {
            "error": {
                "code": "bad_config",
                "message": "the config stays as it was",
                "problems": [cast("ConfigProblem", asdict(problem)) for problem in result.problems],
                "file": result.file,
            }
        }
        return web.json_response(refused, status=400)
    changes = msgspec.to_builtins(result.changes)
    report: ReloadReport = {
        "status": "reloaded",
        "file": result.file,
        "sha256": result.sha256,
        "sources": changes["sources"],
        "destinations": changes["destinations"],
        "routes": changes["routes"],
        "settings": changes["settings"],
        "needs_restart": list(result.needs_restart),
        "not_ready": list(result.not_ready),
        "keys_lost": {source: list(keys) for source, keys in result.keys_lost.items()},
    }
    return web.json_response(report)
