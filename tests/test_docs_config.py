"""gateway.yaml and docs/configuration.md are checked against the models and the loader."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatehouse.config.document import read_yaml
from gatehouse.config.load import LoadedConfig, load, parse
from gatehouse.gateway.app import Gateway
from gatehouse.language.template import Template, TemplateError
from gatehouse.reference.configuration import TABLES, updated
from gatehouse.reference.schema import model_schema

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "gateway.yaml"
PAGE = (ROOT / "docs" / "configuration.md").read_text()
#: The schema of the models. Creating it takes a tenth of a second.
SCHEMA = model_schema()
#: Every key of every model, as `table.key`.
KEYS = [f"{table}.{key}" for table, model in TABLES.items() for key in SCHEMA["$defs"][model]["properties"]]
#: A block of YAML: its language, the part of a source that it shows (or a whole config), and its text.
BLOCK = re.compile(r"^```yaml(?: fragment=([a-z]+))?\n(.*?)^```", re.DOTALL | re.MULTILINE)


def uncommented() -> str:
    """Return the example with every commented-out option enabled."""
    return re.sub(r"^(\s*)#(?=[a-z_-]+:)", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)


def secrets_of(loaded: LoadedConfig) -> dict[str, str]:
    """Return an environment with every secret that a config names."""
    names = re.findall(r"env:([A-Z_]+)", Path(loaded.document.file).read_text())
    return dict.fromkeys(names, "user:a-secret-of-some-length")


def test_the_example_loads_and_has_every_source_ready() -> None:
    loaded = load(EXAMPLE)
    gateway = Gateway(loaded, environment=secrets_of(loaded))

    assert gateway.not_ready() == []
    first = {"mandato", "mando", "e-invoice-be", "getpeppr", "hisab"}
    assert {source.provider for source in loaded.config.sources.values()} >= first
    assert len(loaded.config.destinations) == 2
    assert loaded.config.routes


def test_the_example_is_safe_to_start() -> None:
    config = load(EXAMPLE).config

    assert config.operator.listen.is_loopback
    assert config.operator.token is None
    assert config.operator.tokens == ()
    assert all(verifier.type != "none" for source in config.sources.values() for verifier in source.verify)


def test_the_example_names_its_schema() -> None:
    first = EXAMPLE.read_text().partition("\n")[0]

    assert first == "# yaml-language-server: $schema=docs/gateway.schema.json"
    assert (ROOT / "docs" / "gateway.schema.json").exists()


def keys_in(described: dict[str, Any], value: Any) -> Iterator[str]:
    """Walk a value along its schema, and name each key of each model as `Model.key`."""
    if "$ref" in described and isinstance(value, dict):
        name = described["$ref"].rpartition("/")[2]
        properties = SCHEMA["$defs"][name]["properties"]
        if value.get("type", "hmac") == properties.get("type", {}).get("const", value.get("type", "hmac")):
            for key in value.keys() & properties.keys():
                yield f"{name}.{key}"
                yield from keys_in(properties[key], value[key])
    for way in described.get("anyOf", ()):
        yield from keys_in(way, value)
    if "items" in described and isinstance(value, tuple):
        for entry in value:
            yield from keys_in(described["items"], entry)
    for way in described.get("patternProperties", {}).values():
        for member in value.values() if isinstance(value, dict) else ():
            yield from keys_in(way, member)


def test_every_key_is_in_the_example() -> None:
    data = read_yaml(uncommented(), "gateway.yaml").data
    sections = SCHEMA["properties"]
    shown = {key for section in sections for key in keys_in(sections[section], data[section])}
    # The example shows the keys that all verifiers share only once.
    shared = {
        f"{model}.{key}"
        for model in SCHEMA["$defs"]
        if "secrets" in SCHEMA["$defs"][model]["properties"] and model != "SourceConfig"
        for key in ("secrets", "min_secret", "each", "id", "timestamp", "signed")
    }

    assert {
        f"{TABLES[table]}.{key}" for table, _, key in (name.partition(".") for name in KEYS)
    } - shared <= shown


def test_the_options_in_comments_load_too() -> None:
    config = parse(uncommented()).config

    optional = set(config.sources) - set(load(EXAMPLE).config.sources)
    assert {"parcels", "gauge", "printer", "webshop", "scanner", "doorbell"} <= optional
    assert config.destinations["billing"].rate == 100.0


def test_the_options_in_comments_are_the_defaults() -> None:
    """Checks the sections in which every option has a default."""
    live, full = load(EXAMPLE).config, parse(uncommented()).config
    examples = {"public_url", "trusted_proxies", "token", "tokens", "path"}

    assert full.server.model_dump(exclude=examples) == live.server.model_dump(exclude=examples)
    assert full.operator.model_dump(exclude=examples) == live.operator.model_dump(exclude=examples)
    of_postgres = {"url", "password"}
    assert full.store.model_dump(exclude=of_postgres) == live.store.model_dump(exclude=of_postgres)
    assert f"By default {live.store.url}." in EXAMPLE.read_text()
    assert full.destinations["billing"].retry == live.destinations["billing"].retry
    exclude = {"secret", "rate", "retry_on"}
    assert full.destinations["billing"].model_dump(exclude=exclude) == (
        live.destinations["billing"].model_dump(exclude=exclude)
    )


def test_the_tables_of_the_reference_are_current() -> None:
    """To update them, run `python -m gatehouse.reference.configuration docs/configuration.md`."""
    assert updated(PAGE) == PAGE


@pytest.mark.parametrize("table", TABLES)
def test_every_model_has_its_table_in_the_reference(table: str) -> None:
    assert PAGE.count(f"<!-- generated:{table} -->") == 1


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_meaning(key: str) -> None:
    table, _, name = key.partition(".")

    assert SCHEMA["$defs"][TABLES[table]]["properties"][name]["description"].endswith(".")


@pytest.mark.parametrize(("fragment", "text"), BLOCK.findall(PAGE))
def test_every_example_of_the_reference_loads(fragment: str, text: str) -> None:
    """A fragment shows one part of a source that has a provider."""
    if fragment:
        start = f"sources:\n  hisab:\n    provider: hisab\n    secrets: env:A\n    {fragment}:\n"
        text = start + textwrap.indent(text, " " * 6)

    assert parse(text).config.sources


def test_the_reference_has_examples() -> None:
    assert len(BLOCK.findall(PAGE)) >= 12


def test_the_reference_lists_every_placeholder() -> None:
    with pytest.raises(TemplateError) as caught:
        Template("{nothing}")
    known = str(caught.value).partition("expected one of: ")[2].split(", ")

    assert len(known) > 8
    for name in known:
        assert re.search(rf"`\{{{name}(:[^}}]+)?\}}`", PAGE)


def test_every_row_of_the_reference_is_one_line() -> None:
    for table in re.findall(r"<!-- generated:.*?-->\n(.*?)<!-- /generated -->", PAGE, re.DOTALL):
        assert all(row.startswith("| ") and row.endswith(" |") for row in table.splitlines())
