"""What a reload changed: two compiled configs, compared."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from gatehouse.config.describe import alternatives
from gatehouse.events.dedupe import scopes_of
from gatehouse.operator.reloading import Changes, Difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gatehouse.config.base import Model
    from gatehouse.config.model import Config, DedupeConfig, RouteConfig
    from gatehouse.gateway.compiled import Compiled


def compare(before: Compiled, after: Compiled) -> Changes:
    """Say what changed. A secret that was replaced changes the source or destination that uses it."""
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
    """Name the keys that differ between two models of one type."""
    return [key for key in type(new).model_fields if getattr(old, key) != getattr(new, key)]


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], differing: Iterable[str]) -> Difference:
    return Difference(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in differing if name in old),
    )


def _routes(old: Iterable[RouteConfig], new: Iterable[RouteConfig]) -> Difference:
    before, after = Counter(map(_in_words, old)), Counter(map(_in_words, new))
    return Difference(added=_surplus(after, before), removed=_surplus(before, after))


def _surplus(more: Counter[str], less: Counter[str]) -> tuple[str, ...]:
    return tuple((more - less).elements())


def _in_words(route: RouteConfig) -> str:
    parts: Iterator[str] = (", ".join(names) for names in (route.sources, route.types, route.to))
    return "from {}, types {}, to {}".format(*parts)


def lost_keys(before: Config, after: Config) -> dict[str, list[str]]:
    """Name, by source, the dedupe keys that some event may be known by and that its retry would not have."""
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
        for number, text in enumerate(alternatives(template))
        if not any(_still_reads(scopes, scopes_of(template), number) for scopes in new)
    ]


def _still_reads(new: tuple[bytes, ...], old: tuple[bytes, ...], number: int) -> bool:
    """Tell whether a list reads this one whenever another list did: none that is new comes before it."""
    return old[number] in new and set(new[: new.index(old[number])]) <= set(old[:number])
