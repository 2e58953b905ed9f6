"""Documentation that can go stale is checked against the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from gatehouse import __version__, providers
from gatehouse.cli import COMMANDS
from gatehouse.config.lint import CODES
from gatehouse.config.load import parse
from gatehouse.config.model import Config
from gatehouse.errors import OUTCOME_REASONS, REASONS, UnavailableReason
from gatehouse.telemetry.log import EVENTS
from gatehouse.telemetry.metrics import OUTCOMES, Metrics, SupervisorMetrics

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "gatehouse"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
CONTRIBUTING = (ROOT / "docs" / "contributing.md").read_text()
SCALING = (ROOT / "docs" / "scaling.md").read_text()
LOCAL_DEVELOPMENT = (ROOT / "docs" / "local-development.md").read_text()
SOURCES = [file.read_text() for file in (ROOT / "src").rglob("*.py")]


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", blocks(README + LOCAL_DEVELOPMENT, "yaml"))
def test_every_yaml_block_of_the_readme_and_of_local_development_loads(block: str) -> None:
    parse(block)


@pytest.mark.parametrize("block", blocks(LOCAL_DEVELOPMENT, "python"))
def test_every_python_block_of_local_development_compiles(block: str) -> None:
    compile(block, "local-development.md", "exec")


def test_the_readme_has_yaml_to_check() -> None:
    assert len(blocks(README, "yaml")) >= 2


def test_the_readme_counts_the_presets() -> None:
    (count,) = re.findall(r"(\d+) providers", README)

    assert int(count) == len(providers.names())
    assert "docs/providers.md" in README


@pytest.mark.parametrize("section", ["server", "store", "operator"])
def test_every_key_that_the_page_on_scaling_names_exists(section: str) -> None:
    """A word that looks like a key may also be a log event."""
    keys = set(Config.model_fields[section].annotation.model_fields)  # type: ignore[union-attr]
    named = set(re.findall(rf"\b{section}\.([a-z_]+)\b", SCALING))
    logged = {event.partition(".")[2] for event in EVENTS if event.startswith(f"{section}.")}

    assert named - logged <= keys


def test_the_page_on_scaling_names_keys_metrics_and_a_config_that_exist() -> None:
    assert re.search(r"`store\.connections`", SCALING)
    tables = {"gatehouse_schema", "gatehouse_copies"}
    metrics = set(re.findall(r"\bgatehouse_[a-z_]+(?=[`\[({) ])", SCALING)) - tables
    assert len(metrics) > 8
    for metric in metrics:
        assert f"`{metric.removesuffix('_bucket')}`" in OPERATIONS
    (block,) = blocks(SCALING, "yaml")
    assert parse(
        block + "sources: {shop: {provider: mando, secrets: env:MANDO_SECRET}}\n"
    ).config.store.password


@pytest.mark.parametrize("code", CODES)
def test_every_warning_is_explained(code: str) -> None:
    subject = CODES[code][0].upper() + CODES[code][1:]

    assert f"\n| `{code}` | {subject} | " in CONFIGURATION


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`gatehouse {command}" in README


@pytest.mark.parametrize(
    "metric",
    sorted({metric.name for one in (Metrics(), SupervisorMetrics(1)) for metric in one.registry.collect()}),
)
def test_every_metric_is_explained(metric: str) -> None:
    if metric.startswith("process_"):
        return
    row = rf"^\| `{metric}(_total)?` \| (counter|gauge|histogram) \|"
    assert re.search(row, OPERATIONS, re.MULTILINE)


@pytest.mark.parametrize("word", [*OUTCOMES, *REASONS, *OUTCOME_REASONS, *get_args(UnavailableReason)])
def test_every_outcome_and_reason_is_named(word: str) -> None:
    assert f"`{word}`" in OPERATIONS


@pytest.mark.parametrize("event", EVENTS)
def test_every_log_event_is_explained_and_used(event: str) -> None:
    assert f"`{event}`" in OPERATIONS
    assert sum(source.count(f'"{event}"') for source in SOURCES) > 1, "the event is never logged"


def test_no_log_event_is_missing_from_the_list() -> None:
    logged = {
        event
        for source in SOURCES
        for event in re.findall(r'(?:\.(?:info|warning|error)\(|log_fields\(.*, )\s*"([a-z_.]+)"', source)
        if "." in event
    }

    assert logged <= set(EVENTS)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page: its headings as GitHub names them, and explicit ids."""
    headings = re.findall(r"^#+ (.*)", page, re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    named = {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}
    return named | set(re.findall(r'id="([^"]+)"', page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_section_names_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]*#[^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        text = (page.parent / file if file else page).read_text()
        assert anchor in anchors(text), target


def test_links_in_the_documentation_lead_somewhere() -> None:
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_file_that_a_page_names_exists(page: Path) -> None:
    """Names in backticks are paths from the root of the repository, or inside the package."""
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text())

    assert [file for file in named if not any((top / file).exists() for top in (ROOT, PACKAGE))] == []


def test_every_step_of_the_request_path_in_contributing_is_a_module_or_a_package() -> None:
    (way,) = [block for block in blocks(CONTRIBUTING, "") if "POST /webhooks" in block]
    steps = re.findall(r" ((?:\w+/)+\w*) {2,}", way)

    assert len(steps) > 12
    assert [step for step in steps if not any(PACKAGE.glob(f"{step.rstrip('/')}*"))] == []


#: What people look for on the page on troubleshooting: parts of messages that the program prints.
MESSAGES = (
    "can't listen on",
    "is in use by another gatehouse",
    "the store can't be opened",
    "the database can't be reached",
    "this gatehouse knows versions up to",
    "the store failed",
    "the operator listener is not on loopback and has no token",
    "changes only after a restart",
    "no answer from",
    "no source is served here",
    "the config's operator listener takes any free port",
    "send an operator token as a bearer token",
    "this needs a token with the role operate",
    "use a loopback address",
    "is locked by another program",
    "changed the body",
    "no route matches",
)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_on_the_page_on_troubleshooting_is_in_the_program(message: str) -> None:
    assert message in (ROOT / "docs" / "troubleshooting.md").read_text()
    assert any(message in source for source in SOURCES)


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 150


def test_the_table_of_contents_names_every_page() -> None:
    contents = (ROOT / "docs" / "README.md").read_text()

    for page in (ROOT / "docs").glob("*.*"):
        assert page.name == "README.md" or f"]({page.name})" in contents, page.name


def test_the_changelog_has_an_unreleased_section() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


@pytest.mark.parametrize("promise", ["exactly once", "exactly-once", "guaranteed delivery", "zero loss"])
def test_no_text_makes_a_promise_that_cannot_be_kept(promise: str) -> None:
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CHANGELOG.md"]:
        assert promise not in file.read_text().lower()
    assert not any(promise in source.lower() for source in SOURCES), "in the source code"


def test_the_top_level_contains_only_the_agreed_files() -> None:
    agreed = {
        *("pyproject.toml", "README.md", "gateway.yaml", "src", "tests", "deploy"),
        *("Makefile", "CHANGELOG.md", "LICENSE", "docs"),
    }
    made = ("gatehouse.db", "dist", "build", "htmlcov")  # created by running or packaging it here
    visible = {item.name for item in ROOT.iterdir() if not item.name.startswith((".", *made))}

    assert visible == agreed
