"""Dedupe keys that version 0.1 recorded: by their place in `dedupe.by`, and not by what they are made of.

They stay in the store as they are until they expire. While there are any, a key is looked up at the places,
too, that it may have had. Which those are is worked out from the config when the store is first opened after
the upgrade, and kept in the store: the config may be another one the next time.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeAlias

from gatehouse.events.dedupe import SCOPE_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.store.base import Places
    from gatehouse.store.deciding import First, Key

#: Source, place, scope: a row of `dedupe_places`.
PlaceRow: TypeAlias = tuple[str, int, bytes]
#: The row that stands for all sources: there may be keys by place in the store.
ALL: Final = ""

#: Whether a key by place is left. From source to source, since only within one the keys are in this order.
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


class EarlierKeys:
    """Which keys by place a key may have been recorded as. False when there are none in the store."""

    def __init__(self, rows: Iterable[PlaceRow] = ()) -> None:
        self._places: defaultdict[tuple[str, bytes], list[int]] = defaultdict(list)
        for source, place, scope in rows:
            self._places[source, scope].append(place)

    def __bool__(self) -> bool:
        return bool(self._places)

    def of(self, key: Key) -> list[Key]:
        """Return what a key may have been recorded as."""
        source, _, scoped = key
        places = self._places.get((source, scoped[:SCOPE_LENGTH]), ())
        return [(source, place, scoped[SCOPE_LENGTH:]) for place in places]

    def of_all(self, keys: Iterable[Key]) -> list[Key]:
        """Return what any of these keys may have been recorded as, each once."""
        return list(dict.fromkeys(earlier for key in keys for earlier in self.of(key)))

    def recognise(self, keys: Iterable[Key], known: dict[Key, First]) -> None:
        """Add the keys of which an earlier form is among those that are known."""
        for key in keys:
            first = next((known[earlier] for earlier in self.of(key) if earlier in known), None)
            if first is not None:
                known.setdefault(key, first)


def missing(places: Places, rows: Iterable[PlaceRow]) -> list[PlaceRow]:
    """Return the rows of the sources that there are none of yet."""
    there = {source for source, _, _ in rows}
    return [
        (source, place, scope)
        for source, scopes in places.items()
        if source not in there
        for place, some in enumerate(scopes)
        for scope in dict.fromkeys(some)
    ]
