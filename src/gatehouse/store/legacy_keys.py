"""Dedupe keys of version 0.1, which stored a key's place in `dedupe.by` instead of its scope.

They stay in the store unchanged until they expire. While there are any, each lookup of a key includes the
places that version 0.1 may have stored it at. The places are derived from the config when the store is first
opened after the upgrade, and are kept in the store, because the config may have changed by the next start.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final, TypeAlias

from gatehouse.events.dedupe import SCOPE_LENGTH, UNREADABLE_SCOPE, scopes_of
from gatehouse.language.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatehouse.config.load import LoadedConfig
    from gatehouse.config.model import SourceConfig
    from gatehouse.store.accepting import Key, KnownEvent
    from gatehouse.store.base import Places

#: Source, place, scope: a row of `dedupe_places`.
PlaceRow: TypeAlias = tuple[str, int, bytes]
#: The source of the row that a migration adds: the store may contain legacy keys of any source.
ALL_SOURCES: Final = ""

#: Whether a legacy key is left. It goes from source to source, because keys are in the order of their places
#: only within one source.
IS_ANY_LEFT: Final = """
WITH RECURSIVE sources (source) AS (
  SELECT min(source) FROM dedupe_keys
  UNION ALL
  SELECT (SELECT min(keys.source) FROM dedupe_keys AS keys WHERE keys.source > sources.source)
  FROM sources WHERE sources.source IS NOT NULL
)
SELECT count((
  SELECT 1 FROM dedupe_keys AS keys WHERE keys.source = sources.source AND keys.place >= 0
  ORDER BY keys.place LIMIT 1
)) > 0 FROM sources
"""


class LegacyKeys:
    """Maps a key to the legacy keys that it may have been stored as. False when the store has none."""

    def __init__(self, rows: Iterable[PlaceRow] = ()) -> None:
        self._places: defaultdict[tuple[str, bytes], list[int]] = defaultdict(list)
        for source, place, scope in rows:
            self._places[source, scope].append(place)

    def __bool__(self) -> bool:
        return bool(self._places)

    def of(self, key: Key) -> list[Key]:
        """Return the legacy keys that a key may have been stored as."""
        source, _, scoped = key
        places = self._places.get((source, scoped[:SCOPE_LENGTH]), ())
        return [(source, place, scoped[SCOPE_LENGTH:]) for place in places]

    def of_all(self, keys: Iterable[Key]) -> list[Key]:
        """Return the legacy keys that any of these keys may have been stored as, without repetition."""
        return list(dict.fromkeys(legacy for key in keys for legacy in self.of(key)))

    def add_known(self, keys: Iterable[Key], known: dict[Key, KnownEvent]) -> None:
        """Add to `known` the keys that are known by one of their legacy keys."""
        for key in keys:
            first = next((known[legacy] for legacy in self.of(key) if legacy in known), None)
            if first is not None:
                known.setdefault(key, first)


def missing_rows(places: Places, rows: Iterable[PlaceRow]) -> list[PlaceRow]:
    """Return the rows of all sources that have none yet."""
    existing = {source for source, _, _ in rows}
    return [
        (source, place, scope)
        for source, scopes in places.items()
        if source not in existing
        for place, some in enumerate(scopes)
        for scope in dict.fromkeys(some)
    ]


def legacy_places(loaded: LoadedConfig) -> Places:
    """Return, for each source and place, the scopes that version 0.1 stored there.

    A source that leaves `dedupe.by` to its preset used the preset of version 0.1. Those are kept in a file
    beside today's presets.
    """
    return {
        # Version 0.1 gave a request without any readable key the place after all others.
        name: [*map(scopes_of, _templates(loaded, name, source)), (UNREADABLE_SCOPE,)]
        for name, source in loaded.config.sources.items()
    }


def _templates(loaded: LoadedConfig, name: str, source: SourceConfig) -> Sequence[Template]:
    path = ("sources", name, "dedupe", "by")
    if loaded.document.locate(path)[1] == path or source.provider not in _preset_templates():
        return source.dedupe.templates
    return [Template(by if isinstance(by, str) else tuple(by)) for by in _preset_templates()[source.provider]]


@cache
def _preset_templates() -> dict[str, list[str | list[str]]]:
    """Return `dedupe.by` of each preset of version 0.1."""
    file = resources.files("gatehouse.providers") / "dedupe-0.1.json"
    found: dict[str, list[str | list[str]]] = json.loads(file.read_text(encoding="utf-8"))
    return found
