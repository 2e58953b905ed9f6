"""docs/providers.md: `python -m gatehouse.providers.page VECTORS FILE` writes what each preset does."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse import providers
from gatehouse.config import describe
from gatehouse.config.coverage import (
    covers_body,
    covers_time,
    effective_max_age,
    every_verifier,
    proves_timestamp,
    resists_replay,
    signs,
)
from gatehouse.config.model import AwsSnsConfig, JwtConfig, SigningConfig
from gatehouse.config.scalars import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatehouse.config.model import DedupeKeyConfig, ProviderConfig

#: Preset → its vectors, as in tests/vectors.
Vectors = dict[str, list[dict[str, Any]]]

_HEAD = """# Providers

Generated from the presets and from their vectors (`make providers`); do not edit. Each preset is a YAML file
in the language of [configuration.md](configuration.md), which `gatehouse providers NAME` prints.

What the proof is: **published** means that requests published by the provider, or in the tests of its SDK,
verify; **SDK** that requests made with the provider's own SDK, or accepted by it, do; **by hand** that
requests made from the documented scheme with a cryptography library do. Every vector is also tampered with,
in each part that is signed, and has to be refused.

"Answer within" and "retries for" are what the provider documents; a dash means that it documents nothing.

"""
_PROOFS = {"published": "published", "sdk": "SDK", "hand": "by hand"}


def page(vectors: Vectors) -> str:
    """Write the page."""
    presets = {name: providers.preset(name) for name in providers.names()}
    sections = (_section(name, preset, vectors[name]) for name, preset in presets.items())
    return _HEAD + _overview(presets, vectors) + "\n" + "\n".join(sections)


def read_vectors(folder: Path) -> Vectors:
    """Read all vector files of a folder."""
    return {file.stem: json.loads(file.read_bytes())["vectors"] for file in sorted(folder.glob("*.json"))}


def _overview(presets: Mapping[str, ProviderConfig], vectors: Vectors) -> str:
    rows = [
        "| preset | provider | scheme | proof | answer within | retries for |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, preset in presets.items():
        cells = (
            f"[`{name}`](#{name})",
            preset.title,
            describe.scheme(preset),
            ", ".join(_kinds(vectors[name])),
            describe.duration(preset.answer_deadline),
            describe.duration(preset.retry_horizon),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _kinds(vectors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the kinds of proof, the strongest first."""
    found = {vector["proof"] for vector in vectors}
    return [word for kind, word in _PROOFS.items() if kind in found]


def _section(name: str, preset: ProviderConfig, vectors: Sequence[Mapping[str, Any]]) -> str:
    facts = "\n".join(f"- {label}: {text}" for label, text in _facts(preset) if text)
    proofs = "\n".join(f"- {proof}" for proof in _proofs(vectors))
    return f"## {name}\n\n{preset.title}, <{preset.docs}>\n\n{facts}\n\nProved by:\n\n{proofs}\n"


def _facts(preset: ProviderConfig) -> Iterator[tuple[str, str]]:
    event = preset.event
    yield "verified by", _code(describe.verification(preset))
    yield "id", _code(describe.template(event.id)) if event.id else ""
    yield "type", _code(describe.template(event.type))
    yield "one event per", _code(describe.template(event.split)) if event.split else ""
    yield "dedupe by", ", ".join(map(_key, preset.dedupe.by))
    yield "refused when older than", "; ".join(_age_limits(preset))
    yield "not refused for its age, because", preset.no_max_age
    yield "mind", "; ".join(_warnings(preset))
    blanks = [f"`values.{name}`" for name, value in preset.values.items() if not value]
    yield "the source has to say", ", ".join(blanks)
    yield "handshakes", ", ".join(handshake.name for handshake in preset.handshakes)
    yield "answer within", describe.duration(preset.answer_deadline)
    yield "retries", preset.retries
    yield "retries for", describe.duration(preset.retry_horizon)
    yield "retries are signed anew", preset.retries_resigned
    yield "no two bodies are equal", preset.unique_bodies
    yield "disables", preset.disables
    yield "unconfirmed", "; ".join(preset.unconfirmed)


def _age_limits(preset: ProviderConfig) -> Iterator[str]:
    for entry in every_verifier(preset):
        if isinstance(entry, SigningConfig) and entry.timestamp and entry.timestamp.tolerance != math.inf:
            yield f"{format_duration(entry.timestamp.tolerance)}, by its timestamp"
            break
        if isinstance(entry, JwtConfig | AwsSnsConfig) and entry.max_age is not None:
            yield f"{format_duration(entry.max_age)}, by its timestamp"
    max_age = effective_max_age(preset)
    if max_age is not None:
        time = describe.template(preset.event.time) if preset.event.time and covers_time(preset) else ""
        stated = "the time that it was signed with" if proves_timestamp(preset) else ""
        yield f"{format_duration(max_age)}, by " + " or ".join(
            filter(None, (stated, _code(time) if time else ""))
        )


def _warnings(preset: ProviderConfig) -> Iterator[str]:
    if not signs(preset):
        yield "nothing is signed: who sees one request can make others"
    elif not all(map(covers_body, preset.verify)):
        yield "the signature does not cover the body"
    elif not resists_replay(preset):
        yield "a captured request can be replayed under another id"


def _proofs(vectors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for vector in vectors:
        verdict = f", refused: {vector['refused']}" if vector.get("refused") else ""
        name = vector["name"].removeprefix("published: ").removeprefix("refused: ")
        yield f"{_PROOFS[vector['proof']]}: {name}{verdict} ({vector['source']})"


def _key(one: DedupeKeyConfig) -> str:
    own = "" if one.window is None else f" ({describe.duration(one.window)})"
    return _code(describe.template(one.key)) + own


def _code(text: str) -> str:
    return f"`{text}`"


def main() -> None:
    """Write the page to a file."""
    folder, file = map(Path, sys.argv[1:3])
    file.write_text(page(read_vectors(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
