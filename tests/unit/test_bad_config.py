"""One file per rule in tests/bad_config; its first lines say which problems are expected, all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatehouse.config.load import load
from gatehouse.errors import ConfigError, Problem

FILES = sorted((Path(__file__).parents[1] / "bad_config").glob("*.yaml"))
#: `# expect: LINE: PATH: MESSAGE`; the path of a problem with the whole file is empty.
EXPECT = re.compile(r"^# expect: (\d+): (.*?): (.*)$", re.MULTILINE)


def problems_of(file: Path) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return caught.value.problems


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.case("S-56")
def test_reports_exactly_what_is_wrong(file: Path) -> None:
    found = [(str(problem.line), problem.path, problem.message) for problem in problems_of(file)]

    assert found == EXPECT.findall(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.case("S-48")
def test_says_what_would_be_right_and_never_repeats_a_secret(file: Path) -> None:
    """What stands for a secret in these files has the word S3cret in it."""
    problems = problems_of(file)

    assert all(problem.hint for problem in problems)
    assert "S3cret" not in "\n".join(map(str, problems))


def test_no_rule_lost_its_file() -> None:
    assert len(FILES) >= 95
    assert sum("S3cret" in file.read_text() for file in FILES) >= 8
