"""The examples of the documentation are programs: they are run here as they are printed."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import simnet
from simnet.cli import main
from simnet.experiment.cells import expand
from simnet.experiment.design import load_design

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ELSEWHERE = ("simnet validate", "simnet sweep", "python -m")
"""Long ones: `validate` and `sweep` have their own tests, and `validate` runs in .ci/run; benchmarks are not for tests."""


def shell_blocks() -> list[Any]:
    """The commands of every block marked as shell, without the long ones."""
    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)):
            lines = [line.partition(" #")[0].strip() for line in block.splitlines() if line.strip()]
            found.append(pytest.param([line for line in lines if not line.startswith(RUN_ELSEWHERE)], id=f"{page.stem} {number}"))
    return found


@pytest.mark.parametrize("lines", shell_blocks())
def test_commands_of_the_documentation_succeed(lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, in one folder."""
    monkeypatch.chdir(tmp_path)
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "simnet"
        assert main(arguments) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_print_what_they_say(page: Path) -> None:
    assert doctest.testfile(str(page), module_relative=False).failed == 0


def test_the_example_of_the_package_is_true() -> None:
    tried = doctest.testmod(simnet)
    assert tried.attempted > 0
    assert tried.failed == 0


def test_scenarios_of_the_documentation_load(tmp_path: Path) -> None:
    blocks = [block for page in PAGES for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)]
    assert blocks
    for block in blocks:
        file = tmp_path / "example.yaml"
        file.write_text(block, encoding="utf-8")
        if "factors:" in block:
            design = load_design(str(file))
            assert design.title
            assert len(expand(design)) == design.count
        else:
            assert simnet.load(str(file)).title
