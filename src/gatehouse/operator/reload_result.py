"""The result of a reload, and its JSON answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.errors import Problem
    from gatehouse.operator.response_types import ConfigProblem, ReloadRefused, ReloadReport
    from gatehouse.operator.tokens import Identity


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The differences between two sets of names, each in the order of its config."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload changed in the config."""

    sources: Difference = Difference()
    destinations: Difference = Difference()
    #: Routes have no names, so they are described. A changed route is one removed and one added.
    routes: Difference = Difference()
    #: Other keys that changed, such as `server.public_url`.
    settings: tuple[str, ...] = ()

    def named(self) -> dict[str, tuple[str, ...]]:
        """Return the changes under flat names for the log, such as `sources_added`."""
        parts = {"sources": self.sources, "destinations": self.destinations, "routes": self.routes}
        found = {
            f"{part}_{how}": names
            for part, difference in parts.items()
            for how, names in msgspec.structs.asdict(difference).items()
        }
        return {name: names for name, names in (found | {"settings": self.settings}).items() if names}


class ReloadResult(NamedTuple):
    """The result of a reload."""

    #: None: the config was refused, so nothing changed.
    changes: Changes | None = None
    #: Why it was refused.
    problems: tuple[Problem, ...] = ()
    #: Keys that take effect after a restart. All others are in effect.
    needs_restart: tuple[str, ...] = ()
    #: Sources and destinations that lack a secret.
    not_ready: tuple[str, ...] = ()
    #: By source, the dedupe keys that were removed. Events that only those keys identify would be accepted
    #: again.
    keys_lost: Mapping[str, Sequence[str]] = {}
    #: The file that was read, and the SHA-256 of its content.
    file: str = ""
    sha256: str = ""
    #: True: the file was only read and checked.
    dry_run: bool = False


class Reload(Protocol):
    """Reloads the config file on behalf of an operator."""

    async def __call__(self, identity: Identity, *, dry_run: bool = False) -> ReloadResult:
        """Use the file, or only check it with `dry_run`."""


class ConfigInUse(NamedTuple):
    """The content of the config file when it was loaded."""

    file: str
    text: bytes
    #: Unix seconds.
    loaded: float
    #: Keys that take effect after a restart.
    needs_restart: tuple[str, ...] = ()


class LastReload(NamedTuple):
    """The last time that the config was loaded or refused: at the start, or by a reload."""

    successful: bool
    #: Unix seconds.
    at: float
    #: Why it was refused.
    problems: tuple[str, ...] = ()


def reload_answer(result: ReloadResult) -> web.Response:
    """Answer 200 with the changes, or 400 with every problem."""
    if result.changes is None:
        refused: ReloadRefused = {
            "error": {
                "code": "bad_config",
                "message": "the previous config stays in use",
                "problems": [cast("ConfigProblem", problem._asdict()) for problem in result.problems],
                "file": result.file,
            }
        }
        return web.json_response(refused, status=400)
    changes = msgspec.to_builtins(result.changes)
    report: ReloadReport = {
        "status": "checked" if result.dry_run else "reloaded",
        "dry_run": result.dry_run,
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
