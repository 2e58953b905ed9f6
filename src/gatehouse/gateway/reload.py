"""Reloads the config file: the new config is used as a whole, or not at all.

The gateway reads, validates and compiles the file in a thread, so that no request waits for it. Then it
switches to the new config in one step of the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse.config import describe
from gatehouse.config.addresses import is_loopback
from gatehouse.config.load import load
from gatehouse.errors import ConfigError, Problem
from gatehouse.events.dedupe import scopes_of
from gatehouse.operator.reload_result import Changes, ConfigInUse, Difference, LastReload, ReloadResult
from gatehouse.telemetry.log import clean, get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from gatehouse.config.base import Model
    from gatehouse.config.document import KeyPath
    from gatehouse.config.load import LoadedConfig
    from gatehouse.config.model import Config, DedupeConfig, RouteConfig
    from gatehouse.gateway.compiled import CompiledConfig
    from gatehouse.operator.reload_result import Changes
    from gatehouse.telemetry.metrics import ProcessMetrics

#: Settings of a socket or of the store, which stay open for the whole life of the process.
_RESTART_ONLY = (
    *(("server", "listen"), ("operator", "listen"), ("operator", "path")),
    *(("store", "url"), ("store", "password"), ("store", "connections"), ("store", "allow_unsynced")),
)
_NOT_RUNNING = "can't be reloaded while the gateway starts or stops"


class Reloader:
    """Reads the config file of the gateway again on request."""

    def __init__(
        self,
        current: CompiledConfig,
        build: Callable[[LoadedConfig], CompiledConfig],
        swap: Callable[[CompiledConfig, Changes], None],
        metrics: ProcessMetrics,
        clock: Callable[[], float],
        *,
        read: Callable[[], LoadedConfig] | None = None,
        distribute: Callable[[LoadedConfig], Awaitable[Sequence[Problem]]] | None = None,
    ) -> None:
        """`read` replaces reading the file.

        `distribute` lets others use the config first, and returns their problems.
        """
        self._current = current
        self._file = current.loaded.directory / Path(current.loaded.document.file).name
        self._read_config = read or (lambda: load(self._file))
        self._distribute = distribute
        self._build = build
        self._swap = swap
        self._metrics = metrics
        self._clock = clock
        self._lock = asyncio.Lock()
        #: For operators.
        self.last = LastReload(successful=True, at=clock())
        self.in_use = ConfigInUse(str(self._file), current.loaded.text, self.last.at)
        #: Whether a reload is possible: only after the gateway has started and before it stops.
        self.active = False

    async def reload(self, *, dry_run: bool = False) -> ReloadResult:
        """Use the current content of the file, or change nothing when it has a problem. Raises nothing.

        With `dry_run`, it only reads and checks the file, and returns what would change.
        """
        async with self._lock:
            try:
                compiled, kept = await asyncio.to_thread(self._read)
            except ConfigError as error:
                return self._refuse(error.problems, dry_run=dry_run)
            except Exception as error:  # noqa: BLE001 - whatever a file causes, the gateway keeps running
                problem = Problem(str(self._file), 0, "", f"a defect: {type(error).__name__}")
                return self._refuse([problem], dry_run=dry_run)
            if not self.active:
                return ReloadResult(
                    problems=(Problem(str(self._file), 0, "", _NOT_RUNNING, "try again later"),)
                )
            result = self._compare(compiled, kept)
            if dry_run:
                return result._replace(dry_run=True)
            if self._distribute is not None and (problems := await self._distribute(compiled.loaded)):
                return self._refuse(problems)
            self._use(compiled, result)
            return result

    def _read(self) -> tuple[CompiledConfig, tuple[str, ...]]:
        loaded = self._read_config()
        config, kept = keep_restart_only(self._current.config, loaded.config)
        compiled = self._build(replace(loaded, config=config))
        problems = list(_lost_secrets(self._current, compiled))
        if problems:
            raise ConfigError(problems)
        if compiled.store_password != self._current.store_password:
            compiled.store_password = self._current.store_password
            kept = tuple(dict.fromkeys((*kept, "store.password")))
        return compiled, kept

    def _compare(self, compiled: CompiledConfig, kept: tuple[str, ...]) -> ReloadResult:
        return ReloadResult(
            compare(self._current, compiled),
            needs_restart=kept,
            not_ready=tuple(compiled.not_ready_lines()),
            keys_lost=lost_keys(self._current.config, compiled.config),
            file=str(self._file),
            sha256=hashlib.sha256(compiled.loaded.text).hexdigest(),
        )

    def _use(self, compiled: CompiledConfig, result: ReloadResult) -> None:
        changes = result.changes or Changes()
        self._swap(compiled, changes)
        self._current = compiled
        self._metrics.reload_successful.set(1)
        self.last = LastReload(successful=True, at=self._clock())
        self.in_use = ConfigInUse(str(self._file), compiled.loaded.text, self.last.at, result.needs_restart)
        self._metrics.reload_success_time.set(self.last.at)
        get_logger().info("config.reloaded", file=str(self._file), **changes.named())
        if result.needs_restart:
            get_logger().warning("config.needs_restart", keys=result.needs_restart)
        for source, keys in result.keys_lost.items():
            get_logger().warning("dedupe.keys_lost", source=source, keys=keys)

    def _refuse(self, problems: Sequence[Problem], *, dry_run: bool = False) -> ReloadResult:
        result = ReloadResult(problems=tuple(problems), file=str(self._file), dry_run=dry_run)
        if dry_run:
            return result
        self._metrics.reload_successful.set(0)
        lines = [clean(str(problem)) for problem in problems]
        self.last = LastReload(successful=False, at=self._clock(), problems=tuple(lines))
        get_logger().error("config.reload_failed", file=str(self._file), problems=lines)
        return result


def keep_restart_only(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """Restore the settings that only a restart can change. Return the config and the keys that differ."""
    kept = [place for place in _RESTART_ONLY if _value_at(old, *place) != _value_at(new, *place)]
    # The public listener stays open until the restart, so it must keep its tokens.
    has_token = new.operator.token is not None or new.operator.tokens
    if not is_loopback(old.operator.listen.host) and not has_token:
        tokens = ("operator", "token"), ("operator", "tokens")
        kept += [place for place in tokens if _value_at(old, *place) != _value_at(new, *place)]
    for part, key in kept:
        section = getattr(new, part).model_copy(update={key: _value_at(old, part, key)})
        new = new.model_copy(update={part: section})
    return new, tuple(map(".".join, kept))


def _value_at(config: Config, part: str, key: str) -> object:
    return getattr(getattr(config, part), key)


def _lost_secrets(old: CompiledConfig, new: CompiledConfig) -> list[Problem]:
    """Find parts that serve now and would not serve with the new config: a secret is missing by mistake.

    New parts may lack their secret, as at a start. Parts that already lack it may continue to lack it.
    """
    before, document = old.not_ready(), new.loaded.document
    hint = "restore the secret, or remove what needs it; the gateway keeps running with its previous config"
    return [
        document.problem(place, why, hint)
        for place, why in new.not_ready().items()
        if place not in before and (place[0] in ("operator", "store") or _exists_in(old.config, place))
    ]


def _exists_in(config: Config, place: KeyPath) -> bool:
    return place[1] in getattr(config, str(place[0]))


def compare(before: CompiledConfig, after: CompiledConfig) -> Changes:
    """Return what changed. A changed secret counts as a change of the source or destination that uses it."""
    old, new = before.config, after.config
    sources = [
        name
        for name, settings in new.sources.items()
        if settings != old.sources.get(name) or after.secret_digests[name] != before.secret_digests.get(name)
    ]
    destinations = [
        name
        for name, settings in new.destinations.items()
        if settings != old.destinations.get(name) or after.destinations[name] != before.destinations.get(name)
    ]
    return Changes(
        sources=_difference(old.sources, new.sources, sources),
        destinations=_difference(old.destinations, new.destinations, destinations),
        routes=_routes(old.routes, new.routes),
        settings=tuple(
            f"{part}.{key}"
            for part in ("server", "operator", "store")
            for key in changed_keys(getattr(old, part), getattr(new, part))
        ),
    )


def changed_keys(old: Model, new: Model) -> list[str]:
    """Return the keys that differ between two models of the same type."""
    return [key for key in type(new).model_fields if getattr(old, key) != getattr(new, key)]


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], differing: Iterable[str]) -> Difference:
    return Difference(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in differing if name in old),
    )


def _routes(old: Iterable[RouteConfig], new: Iterable[RouteConfig]) -> Difference:
    before, after = Counter(map(describe.route, old)), Counter(map(describe.route, new))
    return Difference(added=_surplus(after, before), removed=_surplus(before, after))


def _surplus(more: Counter[str], less: Counter[str]) -> tuple[str, ...]:
    return tuple((more - less).elements())


def lost_keys(before: Config, after: Config) -> dict[str, list[str]]:
    """Return, by source, the old dedupe keys that the new config no longer reads from a repeated event."""
    found = {
        name: _lost(before.sources[name].dedupe, settings.dedupe)
        for name, settings in after.sources.items()
        if name in before.sources
    }
    return {name: keys for name, keys in found.items() if keys}


def _lost(before: DedupeConfig, after: DedupeConfig) -> list[str]:
    new = [scopes_of(template) for template in after.templates]
    return [
        text
        for template in before.templates
        for number, text in enumerate(describe.alternatives(template))
        if not any(_still_reads(scopes, scopes_of(template), number) for scopes in new)
    ]


def _still_reads(new: tuple[bytes, ...], old: tuple[bytes, ...], number: int) -> bool:
    """Return whether a new list reads this alternative in every case in which the old list did."""
    return old[number] in new and set(new[: new.index(old[number])]) <= set(old[:number])
