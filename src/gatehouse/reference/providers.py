"""The reference of the presets: `python -m gatehouse.reference.providers VECTORS FILE`.

FILE becomes the table of all presets. The folder of the same name beside it gets a page for each preset.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatehouse import providers
from gatehouse.config import describe
from gatehouse.config.coverage import (
    all_verifiers,
    covers_body,
    covers_time,
    effective_max_age,
    proves_timestamp,
    resists_replay,
    signs,
)
from gatehouse.config.handshakes import HashProof
from gatehouse.config.model import (
    AwsSnsConfig,
    JwtConfig,
    PaypalConfig,
    SigningConfig,
    TruelayerConfig,
    TwilioConfig,
    VerifierConfig,
)
from gatehouse.config.presets import shipped_preset
from gatehouse.config.quantities import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatehouse.config.model import DedupeKeyConfig, ProviderConfig

#: Preset → its vectors, as in tests/vectors.
Vectors = dict[str, list[dict[str, Any]]]
#: Placeholders that stand for the address, which the gateway knows from `server.public_url`.
_URLS = {"url", "url_decoded"}

_HEAD = """# Providers

This page and the page of each provider are generated from the presets and their vectors (`make providers`).
Do not edit them. A preset is a YAML file in the language of [configuration.md](configuration.md).
`gatehouse providers NAME` prints it.

The page of a provider says how to set it up, what Gatehouse verifies, and how the provider retries.
The columns of the table:

- **proof**: the origin of the requests in the preset's tests.
  - *published*: the provider published them, or they are in the tests of its SDK.
  - *SDK*: the provider's SDK signed or checked them.
  - *by hand*: made from the provider's documentation with a cryptography library, without the provider's SDK.

  The tests also change each signed part of every request, and Gatehouse refuses the changed request.
- **answer within** and **retries for**: what the provider documents. A dash means that it documents nothing.

"""
_PROOFS = {"published": "published", "sdk": "SDK", "hand": "by hand"}
_PUBLIC_URL = "https://gateway.example.com"


def pages(vectors: Vectors) -> dict[str, str]:
    """Write the table and the page of each preset, by their file names in docs/."""
    presets = {name: shipped_preset(name) for name in providers.names()}
    own = {f"providers/{name}.md": _page(name, preset, vectors[name]) for name, preset in presets.items()}
    return {"providers.md": _HEAD + _overview(presets, vectors)} | own


def read_vectors(folder: Path) -> Vectors:
    """Read all vector files of a folder."""
    return {file.stem: json.loads(file.read_bytes())["vectors"] for file in sorted(folder.glob("*.json"))}


def source_yaml(name: str, preset: ProviderConfig) -> str:
    """Write the config of a source with this preset, ready to paste."""
    variable = name.upper().replace("-", "_")
    lines = [f"server:\n  public_url: {_PUBLIC_URL}"] if _signs_url(preset) else []
    lines += ["sources:", f"  {name}:", f"    provider: {name}"]
    if any(isinstance(one, VerifierConfig) and one.needs_secret for one in all_verifiers(preset)):
        lines.append(f"    secrets: env:{variable}_SECRET")
    if any(handshake.needs_secret for handshake in preset.handshakes):
        lines.append(f"    handshake_secrets: env:{variable}_HANDSHAKE_SECRET")
    blanks = _blanks(preset)
    lines += ["    values:"] * bool(blanks)
    lines += [f"      {blank}: your-{blank.replace('_', '-')}" for blank in blanks]
    return "\n".join(lines) + "\n"


def _signs_url(preset: ProviderConfig) -> bool:
    signed = [one.signed for one in all_verifiers(preset) if isinstance(one, SigningConfig)]
    signed += [one.proof.of for one in preset.handshakes if isinstance(one.proof, HashProof)]
    named = {part.name for template in signed for part in template.placeholders}
    return bool(named & _URLS) or any(isinstance(one, TwilioConfig) for one in preset.verify)


def _blanks(preset: ProviderConfig) -> list[str]:
    """List the values that the source has to set."""
    return [name for name, value in preset.values.items() if not value]


def _overview(presets: Mapping[str, ProviderConfig], vectors: Vectors) -> str:
    rows = [
        "| preset | provider | scheme | proof | answer within | retries for |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, preset in presets.items():
        cells = (
            f"[`{name}`](providers/{name}.md)",
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


def _page(name: str, preset: ProviderConfig, vectors: Sequence[Mapping[str, Any]]) -> str:
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(preset.setup, 1))
    facts = "\n".join(f"- {label}: {text}" for label, text in _facts(preset) if text)
    return (
        f"# {preset.title}\n\n"
        f"Preset `{name}` · [all providers](../providers.md) · "
        f"documentation of the provider: <{preset.docs}>\n\n"
        f"## Set up\n\n{steps}\n\n"
        "Add this source to `gateway.yaml`, with [destinations](../configuration.md#destinations) and\n"
        "[routes](../configuration.md#routes):\n\n"
        f"```yaml\n{source_yaml(name, preset)}```\n\n{_environment(source_yaml(name, preset))}"
        f"## What the preset does\n\n{facts}\n\n"
        f"{_samples(name, preset)}"
        f"## Tested with\n\n{_tested(vectors)}"
    )


def _environment(config: str) -> str:
    """Say how the secrets of a config reach the gateway; nothing if it has none."""
    variables = " and ".join(f"`{variable}`" for variable in re.findall(r"env:(\w+)", config))
    if not variables:
        return ""
    return (
        f"Set {variables} in the environment of the gateway, and restart it. Without the secret,\n"
        "`gatehouse check` fails and the source answers 503.\n\n"
    )


def _samples(name: str, preset: ProviderConfig) -> str:
    """List the event types that have a sample; nothing if the preset has no such samples."""
    raw = providers.samples(name)
    if raw is None:
        return ""
    types = _list([_code(one) for one in json.loads(raw)["samples"]])
    text = (
        f"## Send a sample\n\n`gatehouse send {name} --type TYPE` sends a made-up event with new ids and\n"
        f"the current time. Any type is possible. These types have a sample of their own:\n\n{types}\n"
    )
    if any(isinstance(one, PaypalConfig) for one in preset.verify):
        text += (
            "Only PayPal can sign. To send samples to a local gateway, give the source\n"
            "`verify: {type: none, insecure: true}`. Never do that where the internet can reach it.\n\n"
        )
    return text


def _facts(preset: ProviderConfig) -> Iterator[tuple[str, str]]:
    event = preset.event
    yield "verified by", _code(describe.verification(preset))
    yield "id", _code(describe.template(event.id)) if event.id else ""
    yield "type", _code(describe.template(event.type))
    yield "one event per", _code(describe.template(event.split)) if event.split else ""
    yield "dedupe by", ", ".join(map(_key, preset.dedupe.by))
    yield "refused when older than", "; ".join(_age_limits(preset))
    yield "why there is no age limit", preset.no_max_age
    yield "note", "; ".join(_warnings(preset))
    yield "the source must set", ", ".join(f"`values.{name}`" for name in _blanks(preset))
    yield "handshakes", ", ".join(handshake.name for handshake in preset.handshakes)
    yield "answer within", _documented(preset.answer_deadline)
    yield "retries", preset.retries
    yield "retries for", _documented(preset.retry_horizon)
    yield "each retry has a new signature, according to", preset.retries_resigned
    yield "why two events never have equal signed bytes", preset.unique_bodies
    yield "what the provider disables, and when", preset.disables
    yield "not confirmed by a primary source", "; ".join(preset.unconfirmed)


def _age_limits(preset: ProviderConfig) -> Iterator[str]:
    for entry in all_verifiers(preset):
        if isinstance(entry, SigningConfig) and entry.timestamp and entry.timestamp.tolerance != math.inf:
            yield f"{format_duration(entry.timestamp.tolerance)}, by its timestamp"
            break
        if isinstance(entry, JwtConfig | AwsSnsConfig | TruelayerConfig) and entry.max_age is not None:
            yield f"{format_duration(entry.max_age)}, by its timestamp"
    max_age = effective_max_age(preset)
    if max_age is not None:
        time = describe.template(preset.event.time) if preset.event.time and covers_time(preset) else ""
        stated = "the signed timestamp" if proves_timestamp(preset) else ""
        yield f"{format_duration(max_age)}, by " + " or ".join(
            filter(None, (stated, _code(time) if time else ""))
        )


def _warnings(preset: ProviderConfig) -> Iterator[str]:
    if not signs(preset):
        yield "the provider signs nothing, so anyone who sees one request can forge others"
    elif not all(map(covers_body, preset.verify)):
        yield "the signature does not cover the body"
    elif not resists_replay(preset):
        yield "a captured request can be replayed under another id"


def _tested(vectors: Sequence[Mapping[str, Any]]) -> str:
    """List the requests that the preset accepts and refuses, and where they come from."""
    accepted = [vector["name"] for vector in vectors if not vector.get("refused")]
    refused = [f"{vector['name']} (`{vector['refused']}`)" for vector in vectors if vector.get("refused")]
    # Many requests share a source, which the page names once.
    sources = dict.fromkeys((vector["proof"], vector["source"]) for vector in vectors)
    named = [f"{word}: {text}" for kind, word in _PROOFS.items() for proof, text in sources if proof == kind]
    sections = {
        "Gatehouse accepts:": accepted,
        "Gatehouse refuses:": refused,
        "The requests come from these sources ([Providers](../providers.md) explains the terms):": named,
    }
    return "\n".join(f"{title}\n\n{_list(lines)}" for title, lines in sections.items() if lines)


def _list(lines: Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _documented(seconds: float | None) -> str:
    return "not documented" if seconds is None else format_duration(seconds)


def _key(one: DedupeKeyConfig) -> str:
    own = "" if one.window is None else f" ({describe.duration(one.window)})"
    return _code(describe.template(one.key)) + own


def _code(text: str) -> str:
    return f"`{text}`"


def main() -> None:
    """Write all pages. A page whose preset is gone goes too."""
    folder, file = map(Path, sys.argv[1:3])
    own = file.with_suffix("")
    own.mkdir(exist_ok=True)
    for old in own.glob("*.md"):
        old.unlink()
    for name, text in pages(read_vectors(folder)).items():
        (file.parent / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
