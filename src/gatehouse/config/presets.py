"""A source that names a provider starts from its preset, and may override any part of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from gatehouse import providers
from gatehouse.config.document import KeyPath, YamlDocument, read_yaml
from gatehouse.config.hints import expected, shown
from gatehouse.config.model import ProviderConfig
from gatehouse.errors import Problem

#: The word that stands for the preset's own verifiers in a list.
PRESET = "preset"
#: Where in a request something may be. Exactly one is given, so naming one takes the place of the preset's.
#: More words than these are no name.
_MOST_WORDS = 6
_PLACES = frozenset({"header", "body", "form", "query", "pair"})


def _near(given: str) -> str:
    """Say which preset was meant: by its name, in whatever letters, or by what people call the provider."""
    known = providers.names()
    words = set(re.findall(r"[a-z0-9]+", given.lower())) - {
        "com",
        "webhooks",
        "webhook",
        "http",
        "https",
        "www",
    }
    name = "-".join(re.findall(r"[a-z0-9]+", given.lower()))
    meant = name if name in known else next((one for one in known if one in words), None)
    if meant is None and len(words) <= _MOST_WORDS:
        titles = {one: str(raw_preset(one).get("title", "")).lower() for one in known}
        meant = next(
            (one for one, title in titles.items() if words & set(re.findall(r"[a-z0-9]+", title))), None
        )
    return f'did you mean "{meant}"? {expected("", known)}' if meant else expected(given, known)


@cache
def raw_preset(name: str) -> dict[str, Any]:
    """Return a shipped preset as plain data, to be merged with a source's own settings."""
    return dict(read_yaml(providers.text(name), f"{name}.yaml").data)


def shipped_preset(name: str) -> ProviderConfig:
    """Return a shipped preset as a model. Raises `KeyError` for a name that is not shipped."""
    return ProviderConfig.model_validate(raw_preset(name))


@dataclass
class Merged:
    """The file's data with all presets in it."""

    data: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    #: Verifiers that a preset brought in or moved: path in `data` → path of what the file says there.
    moved: dict[KeyPath, KeyPath] = field(default_factory=dict)

    def in_file(self, path: KeyPath) -> KeyPath:
        """Return where in the file that stands which is at `path` in the data."""
        start = path[:4]
        return self.moved[start] + path[4:] if start in self.moved else path


def with_presets(document: YamlDocument) -> Merged:
    """Merge every source with the preset of its provider."""
    merged = Merged(dict(document.data))
    sources = merged.data.get("sources")
    if isinstance(sources, dict):
        merging = _Merging(document, merged)
        merged.data["sources"] = {name: merging.source(name, source) for name, source in sources.items()}
    return merged


class _Merging:
    def __init__(self, document: YamlDocument, merged: Merged) -> None:
        self._document = document
        self._merged = merged

    def source(self, name: str, source: Any) -> Any:
        if not isinstance(source, dict):
            return source
        preset = self._preset(source.get("provider", ""), ("sources", name))
        whole = merge(preset, source)
        if "verify" in source:
            whole["verify"] = self._verify(source["verify"], preset, ("sources", name, "verify"))
        return _filled(whole, whole.get("values"))

    def _preset(self, provider: Any, path: KeyPath) -> dict[str, Any]:
        if provider in ("", None):
            return {}
        if provider in providers.names():
            return raw_preset(provider)
        # What the preset would have said is missing now: that is the same problem.
        self._document.incomplete.add(path)
        if isinstance(provider, str):
            message = f'unknown provider "{shown(provider)}"'
            hint = f"{_near(provider)}: gatehouse providers lists them"
            self._report((*path, "provider"), message, hint)
        return {}

    def _verify(self, own: Any, preset: dict[str, Any], path: KeyPath) -> Any:
        if own is None:  # a key with nothing behind it takes away what the preset says
            return None
        if isinstance(own, dict):
            return merge_verifier(preset.get("verify"), own)
        entries: list[Any] = []
        for index, entry in enumerate(own if isinstance(own, tuple) else (own,)):
            here = (*path, index) if isinstance(own, tuple) else path
            for verifier in self._entry(entry, preset, here):
                self._merged.moved[(*path, len(entries))] = here
                entries.append(verifier)
        # Nothing but refused words: without the key the source would seem to say nothing at all.
        return tuple(entries) if entries or own == () else None

    def _entry(self, entry: Any, preset: dict[str, Any], path: KeyPath) -> tuple[Any, ...]:
        if not isinstance(entry, str):
            return (entry,)
        if entry == PRESET and "verify" in preset:
            verify = preset["verify"]
            return verify if isinstance(verify, tuple) else (verify,)
        self._document.unreadable.add(path[:3])
        hint = f'the word "{PRESET}", or a verifier as in {{type: hmac, …}}'
        if entry != PRESET:
            self._report(path, "not a verifier", hint)
        elif path[:2] not in self._document.incomplete:
            self._report(path, "there is no preset without a provider", "provider: NAME, or a verifier")
        return ()

    def _report(self, path: KeyPath, message: str, hint: str) -> None:
        self._merged.problems.append(self._document.problem(path, message, hint))


def _filled(data: Any, values: Any) -> Any:
    """Put the values of a source into its texts, where `{value:name}` stands for them."""
    known = {
        f"{{value:{name}}}": value.replace("{", "{{").replace("}", "}}")
        for name, value in (values.items() if isinstance(values, dict) else ())
        if isinstance(value, str) and value
    }
    return _replaced(data, known) if known else data


def _replaced(data: Any, known: dict[str, str]) -> Any:
    if isinstance(data, dict):
        return {_replaced(key, known): _replaced(value, known) for key, value in data.items()}
    if isinstance(data, tuple):
        return tuple(_replaced(value, known) for value in data)
    if isinstance(data, str) and "{value:" in data:
        for placeholder, value in known.items():
            data = data.replace(placeholder, value)
    return data


def merge(preset: Any, own: Any) -> Any:
    """Let what a source says stand before what its preset says: mappings key by key, all else whole."""
    if not isinstance(preset, dict) or not isinstance(own, dict):
        return own
    kept = {key: value for key, value in preset.items() if key not in _PLACES or not _PLACES & own.keys()}
    return kept | {key: merge(kept.get(key), value) for key, value in own.items()}


def merge_verifier(preset: Any, own: dict[str, Any]) -> Any:
    """Merge one verifier with the preset's. One of another type replaces it: their keys mean other things."""
    same_type = isinstance(preset, dict) and own.get("type", preset["type"]) == preset["type"]
    return merge(preset, own) if same_type else own
