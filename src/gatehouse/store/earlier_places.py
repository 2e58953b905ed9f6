"""What version 0.1 recorded at each place of `dedupe.by`, as far as a config of today tells.

A source that leaves its dedupe keys to the preset had those of the preset of then: they are kept beside the
presets.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from gatehouse.events.dedupe import UNREADABLE_SCOPE, scopes_of
from gatehouse.language.template import Template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.load import LoadedConfig
    from gatehouse.config.model import SourceConfig
    from gatehouse.store.base import Places


def earlier_places(loaded: LoadedConfig) -> Places:
    """Return the scopes of each place of each source."""
    return {
        # What could not be read had the place behind all others.
        name: [*map(scopes_of, _templates(loaded, name, source)), (UNREADABLE_SCOPE,)]
        for name, source in loaded.config.sources.items()
    }


def _templates(loaded: LoadedConfig, name: str, source: SourceConfig) -> Sequence[Template]:
    path = ("sources", name, "dedupe", "by")
    if loaded.document.locate(path)[1] == path or source.provider not in _of_presets():
        return source.dedupe.templates
    return [Template(by if isinstance(by, str) else tuple(by)) for by in _of_presets()[source.provider]]


@cache
def _of_presets() -> dict[str, list[str | list[str]]]:
    """Return `dedupe.by` of each preset of version 0.1."""
    file = resources.files("gatehouse.providers") / "dedupe-0.1.json"
    found: dict[str, list[str | list[str]]] = json.loads(file.read_text(encoding="utf-8"))
    return found
