"""Merges a source with the preset of its provider. The source may override any part of the preset."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from gatehouse import providers
from gatehouse.config.document import KeyPath, YamlDocument, read_yaml
from gatehouse.config.hints import escaped, suggest_name
from gatehouse.config.model import ProviderConfig
from gatehouse.errors import Problem

#: The word that stands for the verifiers of the preset in a list.
PRESET = "preset"
#: A longer text is not the name of a provider.
_MAX_WORDS = 6
#: Places in a request. Exactly one is allowed, so the place of a source replaces that of the preset.
_PLACES = frozenset({"header", "body", "form", "query", "pair"})


def _provider_hint(given: str) -> str:
    """Suggest a preset: by its name in any case, or by a word of the provider's title."""
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
    if meant is None and len(words) <= _MAX_WORDS:
        titles = {one: str(raw_preset(one).get("title", "")).lower() for one in known}
        meant = next(
            (one for one, title in titles.items() if words & set(re.findall(r"[a-z0-9]+", title))), None
        )
    return f'did you mean "{meant}"? {suggest_name("", known)}' if meant else suggest_name(given, known)


@cache
def raw_preset(name: str) -> dict[str, Any]:
    """Return a shipped preset as plain data."""
    return dict(read_yaml(providers.text(name), f"{name}.yaml").data)


def shipped_preset(name: str) -> ProviderConfig:
    """Return a shipped preset as a model. Raises `KeyError` for an unknown name."""
    return ProviderConfig.model_validate(raw_preset(name))


@dataclass
class Merged:
    """The data of the file, merged with all presets."""

    data: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    #: Verifiers that come from a preset or were moved by one: path in `data` → path in the file.
    moved: dict[KeyPath, KeyPath] = field(default_factory=dict)

    def in_file(self, path: KeyPath) -> KeyPath:
        """Convert a path in the merged data to the path in the file."""
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
        # Keys that the preset would have defined are missing. That is the same problem.
        self._document.incomplete.add(path)
        if isinstance(provider, str):
            message = f'unknown provider "{escaped(provider)}"'
            hint = f"{_provider_hint(provider)}; `gatehouse providers` lists them"
            self._report((*path, "provider"), message, hint)
        return {}

    def _verify(self, own: Any, preset: dict[str, Any], path: KeyPath) -> Any:
        if own is None:  # a key without a value removes the value of the preset
            return None
        if isinstance(own, dict):
            return merge_verifier(preset.get("verify"), own)
        entries: list[Any] = []
        for index, entry in enumerate(own if isinstance(own, tuple) else (own,)):
            here = (*path, index) if isinstance(own, tuple) else path
            for verifier in self._entry(entry, preset, here):
                self._merged.moved[(*path, len(entries))] = here
                entries.append(verifier)
        # All entries were refused. None stands for a missing key.
        return tuple(entries) if entries or own == () else None

    def _entry(self, entry: Any, preset: dict[str, Any], path: KeyPath) -> tuple[Any, ...]:
        if not isinstance(entry, str):
            return (entry,)
        if entry == PRESET and "verify" in preset:
            verify = preset["verify"]
            return verify if isinstance(verify, tuple) else (verify,)
        self._document.unreadable.add(path[:3])
        hint = f'write "{PRESET}", or a verifier as in {{type: hmac, …}}'
        if entry != PRESET:
            self._report(path, "not a verifier", hint)
        elif path[:2] not in self._document.incomplete:
            self._report(path, "`preset` needs a provider", "add provider: NAME, or write a verifier")
        return ()

    def _report(self, path: KeyPath, message: str, hint: str) -> None:
        self._merged.problems.append(self._document.problem(path, message, hint))


def _filled(data: Any, values: Any) -> Any:
    """Replace `{value:name}` in the texts of a source with its values."""
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
    """Return the preset with the overrides of the source.

    Mappings are merged key by key, other values replaced.
    """
    if not isinstance(preset, dict) or not isinstance(own, dict):
        return own
    kept = {key: value for key, value in preset.items() if key not in _PLACES or not _PLACES & own.keys()}
    return kept | {key: merge(kept.get(key), value) for key, value in own.items()}


def merge_verifier(preset: Any, own: dict[str, Any]) -> Any:
    """Merge a verifier with that of the preset. A verifier of another type replaces it."""
    same_type = isinstance(preset, dict) and own.get("type", preset["type"]) == preset["type"]
    return merge(preset, own) if same_type else own
