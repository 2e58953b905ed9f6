"""Each file in tests/bad_config breaks one rule. Its first lines list all expected problems."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatehouse.config.load import load
from gatehouse.errors import ConfigError, Problem

FILES = sorted((Path(__file__).parents[1] / "bad_config").glob("*.yaml"))
#: `# expect: LINE: PATH: MESSAGE`. The path is empty for a problem of the whole file.
EXPECT = re.compile(r"^# expect: (\d+): (.*?): (.*)$", re.MULTILINE)


def problems_of(file: Path) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return caught.value.problems


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.case("S-56")
def test_reports_exactly_the_expected_problems(file: Path) -> None:
    found = [(str(problem.line), problem.path, problem.message) for problem in problems_of(file)]

    assert found == EXPECT.findall(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.case("S-48")
def test_every_problem_has_a_hint_and_repeats_no_secret(file: Path) -> None:
    """Secrets in these files contain the word S3cret."""
    problems = problems_of(file)

    assert all(problem.hint for problem in problems)
    assert "S3cret" not in "\n".join(map(str, problems))


def test_the_number_of_files_does_not_shrink() -> None:
    assert len(FILES) >= 95
    assert sum("S3cret" in file.read_text() for file in FILES) >= 8
