"""No install command in the tree fetches another project's package, such as `gatehouse` from the index.

A command may name a folder, one of our wheels, a requirements file, or a dependency from `pyproject.toml`.
It must not name `gatehouse`, or `gatehouse-webhooks` before we publish it: anyone can register a free name,
and then controls what the command installs.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gatehouse

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_OURS = {".git", ".venv", ".tools", "__pycache__", "dist", "build", "node_modules", "htmlcov"}

#: A program that installs Python packages → the words before the package names.
_INSTALLERS = re.compile(
    r"""\b(?:
        pip[\d.]*(?:\s+--?[\w-]+(?:[= ][^\s-]\S*)?)*?\s+(?:install|wheel|download)
      | uv\s+(?:pip\s+install|add|tool\s+(?:install|run|upgrade))
      | uvx | pipx\s+(?:install|run|upgrade|inject) | (?:poetry|pdm|rye|hatch)\s+add | easy_install
      | (?:conda|mamba)\s+install
    )\s+(?P<rest>[^|;&\n]*)""",
    re.VERBOSE,
)
#: Options that take the next word as their value.
_WITH_VALUE = re.compile(
    r"-[cwdti]|--(constraint|wheel-dir|dest|target|python|only-binary|no-binary|platform|progress-bar|prefix)"
)
_FILE = re.compile(r"-r|--requirements?|-e|--editable|--from|--with|--spec")


def normal(name: str) -> str:
    """Normalize a project's name as the index does (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement(text: str) -> str | None:
    """Return the name that a requirement looks up on the index, or None for a folder, a file or a URL."""
    bare = text.strip("\"'`<>,.:) ") if not text.startswith((".", "/")) else text
    if re.match(r"(\.{1,2}(/|\[|$)|/|~|\$|\{|https?:|git\+|file:)", bare) or bare.partition("[")[0].endswith(
        (".whl", ".tar.gz", ".txt", ".toml")
    ):
        return None
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", bare)
    return normal(found.group()) if found else None


def asked_for(text: str) -> Iterator[str]:
    """Return the names that the install commands in a text look up on the index."""
    for match in _INSTALLERS.finditer(re.sub(r"\\\n\s*", " ", text)):
        rest = re.split(r"`|\s#|\)\s|\s→", match["rest"])[0].strip().rstrip(",.:)")
        try:
            words = shlex.split(rest)
        except ValueError:  # prose with an unpaired quote
            words = rest.split()
        yield from filter(None, map(requirement, _requirements(words)))


def _requirements(words: list[str]) -> Iterator[str]:
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = bool(_WITH_VALUE.fullmatch(word))
            if "=" in word and _FILE.fullmatch(word.partition("=")[0]):
                yield word.partition("=")[2]
        elif word.isidentifier() and word in _PROSE:
            return
        else:
            yield word


#: These words continue the sentence, so the requirements end before them.
_PROSE = {"and", "or", "in", "into", "for", "from", "to", "is", "where", "when", "does", "did", "with", "the"}


def texts() -> Iterator[tuple[Path, str]]:
    """Yield the text of every file in the tree. For a Python file, yield each string in one piece."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS and not name.endswith("_cache")]
        for name in names:
            file = Path(folder, name)
            if file == Path(__file__) or file.is_symlink():
                continue
            try:
                text = file.read_text()
            except UnicodeDecodeError:
                continue
            yield file, text
            if file.suffix == ".py":
                for node in ast.walk(ast.parse(text)):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        yield file, node.value


def own_dependencies() -> set[str]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {name for group in groups for entry in group if (name := requirement(entry))}


@pytest.mark.case("F-50")
def test_no_install_line_in_the_tree_fetches_someone_elses_package() -> None:
    known = own_dependencies()
    asked = {(str(file.relative_to(ROOT)), name) for file, text in texts() for name in asked_for(text)}

    assert {found for found in asked if found[1] not in known} == set()
    assert len(asked) >= 2, "the test no longer finds the install lines"
    assert not any(normal(name).startswith("gatehouse") for name in known)


@pytest.mark.parametrize(
    "line",
    [
        "pip install gatehouse",
        'pip install "gatehouse[postgres]"',
        "hint: pip3.11 install -U 'gatehouse>=0.1'",
        "python -m pip --quiet install --upgrade gatehouse==0.1.0",
        "`pip install gatehouse`, then start",
        "RUN pip --python /opt/x/bin/python install \\\n    --no-cache-dir Gatehouse",
        "uv pip install gatehouse",
        "uv add gatehouse",
        "uv tool install gatehouse",
        "uvx --from gatehouse gatehouse serve",
        "uvx gatehouse check",
        "pipx install gatehouse",
        "pipx run gatehouse serve",
        "poetry add gatehouse",
        "pip install -c deploy/constraints.txt gatehouse",
        "pip download gatehouse_webhooks",
    ],
)
def test_an_install_line_that_asks_the_index_for_gatehouse_is_found(line: str) -> None:
    assert any(name.startswith("gatehouse") for name in asked_for(line))


@pytest.mark.parametrize(
    "line",
    [
        "pip install .",
        "pip install -c deploy/constraints.txt '.[postgres]'",
        "pip install -e .[dev,bench]",
        "pip install dist/gatehouse_webhooks-*.whl",
        "pip install -r requirements.txt",
        "pip wheel --no-deps -w dist .",
        "pipx install ./gatehouse",
        "pip uninstall gatehouse",
        "gatehouse serve",
    ],
)
def test_an_install_line_for_a_folder_a_wheel_or_a_list_is_allowed(line: str) -> None:
    assert list(asked_for(line)) == []


def test_the_distribution_is_named_gatehouse_webhooks_and_the_command_gatehouse() -> None:
    assert PROJECT["name"] == "gatehouse-webhooks"
    assert PROJECT["scripts"] == {"gatehouse": "gatehouse.cli:main"}
    assert PROJECT["version"] == gatehouse.__version__


def test_nothing_asks_for_the_metadata_of_the_distribution() -> None:
    """The distribution has another name in older environments, and `gatehouse` may be the other project."""
    for file in (ROOT / "src").rglob("*.py"):
        assert "importlib.metadata" not in file.read_text(), file


def test_the_gateway_imports_nothing_that_only_tests_or_the_benchmark_install() -> None:
    """The gateway runs with what `make demo` installs: its dependencies and the database driver."""
    imports = {
        (name.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
        for file in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
        for name in node.names
    }
    installed = {normal(name) for name in (*PROJECT["dependencies"], "asyncpg")}
    names = {requirement(entry) for entry in installed}
    modules = {"yaml": "pyyaml", "prometheus_client": "prometheus-client", "pydantic_core": "pydantic"}
    brought = {"yarl": "aiohttp", "aiosignal": "aiohttp", "markupsafe": "jinja2"}
    third = imports - set(sys.stdlib_module_names) - {"gatehouse", "__future__"}

    assert {
        module for module in third if (modules | brought).get(module, normal(module)) not in names
    } == set()
