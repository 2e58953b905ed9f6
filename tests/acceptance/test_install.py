"""Installing Gatehouse from a clean copy of the tree: `make demo`, `pip install .` and a wheel."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from gatehouse import __version__, providers
from machine import lacking

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = "-c deploy/constraints.txt"
#: The commands of the README, with the programs of a virtual environment first in PATH.
BUILD_WHEEL = "pip wheel --no-deps -w dist ."
INSTALL_WHEEL = f"pip install {CONSTRAINTS} dist/gatehouse_webhooks-*.whl"
INSTALL_FOLDER = f"pip install {CONSTRAINTS} ."
#: Files of a working copy that a clone does not have.
NOT_CLONED = (".*", "__pycache__", "dist", "build", "htmlcov", "gatehouse.db*")
CONFIG = """
sources:
  shop: {provider: mando, secrets: env:SHOP_SECRET}
destinations:
  app: {url: "http://127.0.0.1:8000/events"}
routes:
  - {from: shop, to: app}
"""
UNREACHABLE = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError")

pytestmark = pytest.mark.timeout(600)


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a new user, without paths to this tree or its packages."""
    ours = ("PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS", "COVERAGE", "GATEHOUSE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def run(command: str, folder: Path, **variables: str) -> str:
    """Run a command in a folder. Returns its output."""
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode and any(word in done.stderr for word in UNREACHABLE):
        lacking("the package index can't be reached")
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Venv:
    """A virtual environment."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        (self.packages,) = folder.glob("lib/python*/site-packages")

    @classmethod
    def empty(cls, folder: Path) -> Venv:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        return cls(folder)

    def run(self, command: str, folder: Path, **variables: str) -> str:
        return run(command, folder, PATH=f"{self.bin}{os.pathsep}{os.environ['PATH']}", **variables)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "install"
    folder.mkdir(exist_ok=True)
    return folder


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return a folder that one process of the test run fills while the others wait."""
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished = folder.with_suffix(".finished")
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            finished.touch()
    return folder


@pytest.fixture(scope="session")
def clone(workshop: Path) -> Path:
    """Copy the tree, except files that a clone does not have."""
    ignore = shutil.ignore_patterns(*NOT_CLONED)
    return once(workshop / "clone", lambda folder: shutil.copytree(ROOT, folder, ignore=ignore))


@pytest.fixture(scope="session")
def made(workshop: Path, clone: Path) -> str:
    """Run `make demo` in the clone. Returns its output."""

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "output").write_text(run(f"make demo PYTHON={sys.executable}", clone))

    return (once(workshop / "made", make) / "output").read_text()


@pytest.fixture(scope="session")
def wheel(workshop: Path, clone: Path) -> Path:
    """Build the wheel in an environment that contains only pip."""

    def make(folder: Path) -> None:
        Venv.empty(folder / "venv").run(BUILD_WHEEL, clone)
        (clone / "dist").rename(folder / "dist")

    (built,) = (once(workshop / "built", make) / "dist").iterdir()
    return built


@pytest.fixture(scope="session")
def from_wheel(workshop: Path, clone: Path, wheel: Path) -> Venv:
    """Install the wheel and its dependencies, without the source tree."""

    def make(folder: Path) -> None:
        (folder / "deploy").mkdir(parents=True)
        shutil.copy(clone / "deploy" / "constraints.txt", folder / "deploy")
        (folder / "dist").mkdir()
        shutil.copy(wheel, folder / "dist")
        Venv.empty(folder / "venv").run(INSTALL_WHEEL, folder)

    return Venv(once(workshop / "from-wheel", make) / "venv")


@pytest.fixture(scope="session")
def from_folder(workshop: Path, clone: Path, made: str, wheel: Path) -> Venv:
    """Install the clone itself. `make demo` has installed its dependencies."""

    def make(folder: Path) -> None:
        folder.mkdir()
        # The environment that built the wheel contains no packages.
        (folder / "venv").symlink_to(workshop / "built" / "venv")
        venv = Venv(folder / "venv")
        venv.run(f"{INSTALL_FOLDER} --no-deps", clone)
        (venv.packages / "dependencies.pth").write_text(f"{Venv(clone / '.venv').packages}\n")

    return Venv(once(workshop / "from-folder", make) / "venv")


@pytest.fixture(params=["from_wheel", "from_folder"])
def installed(request: pytest.FixtureRequest) -> Venv:
    """Give each installation in turn."""
    venv: Venv = request.getfixturevalue(request.param)
    return venv


def shipped() -> Iterator[str]:
    """Return the names of all files of the package."""
    for file in (ROOT / "src" / "gatehouse").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield str(file.relative_to(ROOT / "src"))


def megabytes(text: str) -> float:
    """Add up the sizes that pip names in brackets."""
    sizes = re.findall(r"\(([\d.]+) ([kM])B\)", text)
    return sum(float(number) * (1.0 if unit == "M" else 0.001) for number, unit in sizes)


@pytest.mark.parametrize("line", [BUILD_WHEEL, INSTALL_WHEEL, INSTALL_FOLDER])
def test_the_readme_has_the_lines_that_are_tested_here(line: str) -> None:
    assert line in README


def test_make_demo_names_each_package_while_it_installs_and_then_shows_the_demo(made: str) -> None:
    installing, _, demo = made.partition("Installed;")
    named = {line.split()[0] for line in installing.splitlines() if line.startswith("  ")}

    for requirement in PROJECT["dependencies"]:
        assert re.split(r"[<>=]", requirement)[0].replace("-", "_") in named
    assert "200 accepted" in demo
    assert "401 refused" in demo


def test_make_demo_downloads_and_takes_what_it_says(made: str) -> None:
    said = re.search(r"\((\d+) MB to download, (\d+) MB on disk", made)
    taken = re.search(r"takes (\d+)M", made)
    assert said
    assert taken
    download, disk = int(said[1]), int(said[2])

    assert download <= 110
    assert 0 < megabytes(made) <= download
    assert int(taken[1]) <= disk * 1.1
    assert re.search(rf"\b{download} MB\b", README)
    assert re.search(rf"\b{disk} MB\b", README)


def needed_by(requirements: list[str], seen: set[str]) -> set[str]:
    """Return the names of all packages that the requirements install, with their dependencies."""
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        extras = requirement.extras or {""}
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if requirement.name not in seen:
            seen.add(requirement.name)
            inner = metadata.requires(requirement.name) or []
            needed_by([one for one in inner if "extra ==" not in one], seen)
    return seen


def test_make_test_says_how_much_its_tools_take_on_disk() -> None:
    said = re.search(r"test tools \(\d+ MB to download, (\d+) MB on disk", MAKEFILE)
    extras = PROJECT["optional-dependencies"]
    names = needed_by([*PROJECT["dependencies"], *extras["dev"], *extras["judges"]], set())
    files = {Path(str(file.locate())) for name in names for file in metadata.distribution(name).files or ()}
    taken = sum(file.stat().st_size for file in files if file.is_file()) / 1_000_000

    assert said
    # A venv also contains pip, and a disk counts in blocks.
    assert 0.7 * int(said[1]) < taken < 1.05 * int(said[1]), taken


def test_make_demo_installs_no_test_tools(clone: Path, made: str) -> None:
    venv = Venv(clone / ".venv")

    assert not {"pytest", "mypy", "hypothesis"} & {folder.name for folder in venv.packages.iterdir()}
    assert not (venv.bin / "ruff").exists()


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if name.startswith(f"gatehouse_webhooks-{__version__}.dist-info/")}

    assert names - about == set(shipped())
    assert {f"gatehouse/providers/{name}.yaml" for name in providers.names()} <= names
    with_samples = [name for name in providers.names() if providers.samples(name)]
    assert {f"gatehouse/providers/samples/{name}.json" for name in with_samples} <= names
    assert "gatehouse/py.typed" in names
    assert {"sqlite", "postgres"} <= {Path(name).parts[2] for name in names if name.endswith(".sql")}
    page = {".html", ".css", ".js", ".svg"}
    assert {Path(name).suffix for name in names - about} == {".py", ".yaml", ".json", ".sql", ".typed"} | page


def test_the_wheel_says_what_it_depends_on_and_which_command_it_brings(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        folder = f"gatehouse_webhooks-{__version__}.dist-info"
        about = HeaderParser().parsestr(opened.read(f"{folder}/METADATA").decode())
        commands = opened.read(f"{folder}/entry_points.txt").decode()
        names = opened.namelist()

    wanted = {requirement.partition(";")[0] for requirement in about.get_all("Requires-Dist", [])}
    assert (about["Name"], about["Version"]) == ("gatehouse-webhooks", __version__)
    assert {re.split(r"[<>=]", one)[0] for one in PROJECT["dependencies"]} <= {
        re.split(r"[<>=]", one)[0] for one in wanted
    }
    assert about["Requires-Python"] == PROJECT["requires-python"]
    assert "gatehouse = gatehouse.cli:main" in commands
    assert f"{folder}/licenses/LICENSE" in names


def test_the_installed_commands_work_from_an_empty_folder(installed: Venv, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (tmp_path / "gateway.yaml").write_text(CONFIG)

    where = installed.run("python -c 'import gatehouse; print(gatehouse.__file__)'", folder)
    assert Path(where.strip()).parent.samefile(installed.packages / "gatehouse")
    assert installed.run("gatehouse --version", folder) == f"gatehouse, version {__version__}\n"
    schema = (ROOT / "docs" / "gateway.schema.json").read_text()
    assert installed.run("gatehouse schema", folder) == schema
    assert installed.run("gatehouse providers stripe", folder) == providers.text("stripe")
    installed.run("gatehouse check ../gateway.yaml", folder, SHOP_SECRET="0123456789abcdef0123456789abcdef")
    installed.run("gatehouse demo --once --port 0 --operator-port 0", folder)
    assert list(folder.iterdir()) == []
