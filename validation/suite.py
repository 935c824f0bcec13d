"""`simnet validate`: which checks there are, and what they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simnet.files import prepare, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from validation.cells import Question

Progress = Callable[[str, float], None]
Outcome = tuple[str, list[dict[str, Any]], bool]
"""What a check prints for people, its rows for programs, and whether it passed."""

RANDOM_SCENARIOS = 200


def _theory(progress: Progress, out: Path | None, scenarios: int | None) -> Outcome:
    from validation.check import table
    from validation.theory import check_theory

    del out, scenarios
    checks = check_theory(progress)
    return table("theory", checks), [check.as_json() for check in checks], all(check.passed for check in checks)


def _engines(progress: Progress, out: Path | None, scenarios: int | None) -> Outcome:
    from validation.check import table
    from validation.engines import check_engines
    from validation.receive_path import check_receive_path
    from validation.vm_path import check_vm_path

    del out
    count = scenarios or RANDOM_SCENARIOS
    checks = [*check_receive_path(count // 4, progress), *check_vm_path(count // 5, progress), *check_engines(count, progress)]
    return table("engines", checks), [check.as_json() for check in checks], all(check.passed for check in checks)


def _paper(progress: Progress, out: Path | None, scenarios: int | None) -> Outcome:
    from validation.backends import backend_questions, backend_verdict
    from validation.cells import run_all
    from validation.claims import table
    from validation.figures import draw_figures
    from validation.paper import (
        alternative_questions,
        alternatives_table,
        ancs_questions,
        ancs_verdicts,
        paper_questions,
        paper_verdicts,
    )
    from validation.summary import factorial_anova, paper_tables
    from validation.vm import guest_cells, ignorance_table, variants_table, vm_questions, vm_verdict

    del scenarios
    groups: dict[str, Mapping[Any, Question]] = {
        "cells": paper_questions(),
        "vm": vm_questions(),
        "ancs": ancs_questions(),
        "alternatives": alternative_questions(),
        "backends": backend_questions(),
    }
    found = run_all(groups, progress)
    cells, vm = found["cells"], found["vm"]
    verdicts = paper_verdicts(cells, lambda row: vm_verdict(row, vm) or backend_verdict(row, found["backends"]))
    earlier = ancs_verdicts(found["ancs"])
    text = "\n\n".join(
        (
            paper_tables(),
            table("claims of the paper (ICCCN 2012)", verdicts),
            factorial_anova(cells, guest_cells(vm)),
            variants_table(vm),
            ignorance_table(vm),
            table("the same group's earlier host (ANCS 2011)", earlier),
            alternatives_table(found["alternatives"]),
        )
    )
    if out is not None:
        draw_figures(cells, guest_cells(vm), out)
    every = [*verdicts, *earlier]
    return text, [verdict.as_json() for verdict in every], not any(verdict.unexpected for verdict in every)


def _published(progress: Progress, out: Path | None, scenarios: int | None) -> Outcome:
    from validation.backends import backend_questions, backend_verdict
    from validation.cells import run_all
    from validation.claims import table
    from validation.paper import ancs_questions, published_verdicts, udp_questions

    del out, scenarios
    groups: dict[str, Mapping[Any, Question]] = {"ancs": ancs_questions(), "udp": udp_questions(), "backends": backend_questions()}
    found = run_all(groups, progress)
    verdicts = published_verdicts(found["ancs"], found["udp"], lambda row: backend_verdict(row, found["backends"]))
    passed = not any(verdict.unexpected for verdict in verdicts)
    return table("published measurements", verdicts), [verdict.as_json() for verdict in verdicts], passed


CHECKS: dict[str, Callable[[Progress, Path | None, int | None], Outcome]] = {
    "theory": _theory,
    "engines": _engines,
    "paper": _paper,
    "published": _published,
}


def _silent(doing: str, share: float) -> None:
    del doing, share


@contextmanager
def _on_terminal(name: str) -> Iterator[Progress]:
    """Progress on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda doing, share: bar.update(task, description=f"{name}: {doing}", completed=share)


def validate(names: Sequence[str], *, as_json: bool, out: Path | None, scenarios: int | None) -> int:
    """Run checks and print their tables, or one JSON object.

    Returns
    -------
    int
        0 if every check came out as the project says it does, else 1. A row that is known not to be reproduced is printed as such and is
        not a failure; one that changes its verdict is.
    """
    if out is not None:
        prepare(out)
    rows: dict[str, Any] = {}
    passed = True
    for name in names:
        with _on_terminal(name) as progress:
            text, entries, ok = CHECKS[name](progress, out, scenarios)
        rows[name] = {"passed": ok, "rows": entries}
        passed = passed and ok
        if out is not None:
            write_text(out / f"{name}.txt", text + "\n")
            write_json(out / f"{name}.json", rows[name])
        if not as_json:
            print(text, end="\n\n", flush=True)
    if as_json:
        json.dump({"schema": "simnet-validation/1", "passed": passed, "checks": rows}, sys.stdout, indent=1)
        print()
    return 0 if passed else 1
