"""The pages of the providers are up to date, and each explains how to set up its provider."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatehouse import providers
from gatehouse.config.lint import lint
from gatehouse.config.load import parse
from gatehouse.config.presets import raw_preset, shipped_preset
from gatehouse.reference.providers import pages, read_vectors, source_yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROUTED = """
destinations:
  app: {url: "http://127.0.0.1:9000/events"}
routes:
  - {from: "*", to: app}
"""
each_preset = pytest.mark.parametrize("name", providers.names())


def page_of(name: str) -> str:
    return (DOCS / "providers" / f"{name}.md").read_text()


def shown_yaml(name: str) -> str:
    """Return the config that the page shows."""
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page_of(name), re.DOTALL | re.MULTILINE)
    return str(block)


def test_the_pages_of_the_providers_are_up_to_date() -> None:
    """`make providers` updates them."""
    written = {str(file.relative_to(DOCS)): file.read_text() for file in DOCS.glob("providers/*.md")}
    written["providers.md"] = (DOCS / "providers.md").read_text()

    assert written == pages(read_vectors(ROOT / "tests" / "vectors"))


@each_preset
def test_the_table_links_to_the_page(name: str) -> None:
    assert f"(providers/{name}.md)" in (DOCS / "providers.md").read_text()


@each_preset
def test_the_config_on_the_page_loads_without_problems(name: str) -> None:
    loaded = parse(shown_yaml(name) + ROUTED)
    warnings = {problem.code for problem in lint(loaded.config, loaded.document)}

    # Shopify's own dedupe key is not signed; its preset says why.
    assert warnings == ({"GH05"} if name == "shopify" else set())
    assert loaded.config.sources[name].path is None


@each_preset
def test_the_steps_name_everything_that_the_config_on_the_page_needs(name: str) -> None:
    steps = "\n".join(shipped_preset(name).setup)
    config = shown_yaml(name)
    needed = re.findall(r"env:([A-Z0-9_]+)", config)
    needed += [f"values.{value}" for value in re.findall(r"^ {6}([a-z_]+):", config, re.MULTILINE)]
    needed += re.findall(r"public_url", config)

    # TrueLayer publishes its keys, and nothing else belongs to one account.
    assert needed or name == "truelayer"
    assert [word for word in needed if word not in steps] == []


@each_preset
def test_the_steps_name_the_address_to_register(name: str) -> None:
    address = rf"https://<your gateway>/webhooks/{name}(?![a-z0-9-])"

    assert re.search(address, "\n".join(shipped_preset(name).setup))


@each_preset
def test_the_page_numbers_each_step(name: str) -> None:
    section = page_of(name).partition("## Set up\n\n")[2]

    for number, step in enumerate(shipped_preset(name).setup, 1):
        assert f"{number}. {step}\n" in section


@each_preset
def test_the_steps_are_sentences_and_follow_the_docs_in_the_file(name: str) -> None:
    steps = shipped_preset(name).setup

    assert len(steps) >= 2
    for step in steps:
        assert re.fullmatch(r"[A-Z`*\[].*[.:`]", step), step
    keys = [key for key in raw_preset(name) if key in ("docs", "setup", "verify")]
    assert keys == ["docs", "setup", "verify"]


def test_a_provider_that_signs_the_address_needs_the_public_address_in_the_config() -> None:
    assert "public_url" in source_yaml("twilio", shipped_preset("twilio"))
    assert "public_url" not in source_yaml("stripe", shipped_preset("stripe"))
