"""Write the report of a folder that a run, a sweep or a comparison left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simnet.errors import UserError
from simnet.experiment.again import RESULT_FILE, question
from simnet.experiment.explain import explain_question
from simnet.experiment.load_curve import load_curve
from simnet.experiment.replicate import Progress
from simnet.experiment.store import MANIFEST
from simnet.files import prepare, write_text
from simnet.report.html import comparison, run, sweep
from simnet.report.stored import StoredCell, StoredComparison, StoredDesign, StoredFailure, StoredResult, read_stored

SCHEMA = "simnet-report/1"
COMPARISON_FILE = "comparison.json"
REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Page:
    """A page, what it says first, and what was computed for it."""

    kind: str
    html: str
    answer: list[str]
    found: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A page that was written."""

    source: Path
    out: Path
    page: Page

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "schema": SCHEMA,
            "kind": self.page.kind,
            "source": str(self.source),
            "out": str(self.out),
            "answer": self.page.answer,
            **self.page.found,
        }


def _run_page(file: Path, quick: bool, progress: Progress | None) -> Page:
    """The page of a run: from its file, and from further runs of its scenario."""
    result = read_stored(file, StoredResult, "a result of simnet run")
    asked = question(str(file))
    explanation = explain_question(asked, quick=quick, progress=progress)
    curve = None if quick else load_curve(asked.scenario, explanation.result, progress)
    found = {"load_curve": None if curve is None else curve.as_json(), "explanation": explanation.as_json()}
    return Page("run", run.run_page(result, explanation, curve, quick), run.answer(result, explanation), found)


def read_sweep(file: Path) -> sweep.Sweep:
    """What the folder of a sweep holds.

    Raises
    ------
    UserError
        If something is damaged, or no cell is finished.
    """
    folder, design = file.parent, read_stored(file, StoredDesign, "the design of a sweep")
    cells, failed, missing = [], [], []
    for planned in design.cells:
        done, broken = (folder / name / f"{planned.cell}.json" for name in ("cells", "failed"))
        if done.is_file():
            cells.append(read_stored(done, StoredCell, "a cell of a sweep"))
        elif broken.is_file():
            failed.append(read_stored(broken, StoredFailure, "a failed cell of a sweep"))
        else:
            missing.append(planned.cell)
    if not cells:
        state = f"{len(failed)} failed, {len(missing)} not computed"
        raise UserError(f"{folder}: no cell of design {design.design!r} is finished ({state}); simnet sweep --resume goes on")
    return sweep.Sweep(design, cells, failed, missing)


def _sweep_page(file: Path, quick: bool, progress: Progress | None) -> Page:
    """The page of a sweep: all of it is in the files."""
    del quick, progress
    found = read_sweep(file)
    counts = {"cells": len(found.design.cells), "finished": len(found.cells), "failed": len(found.failed)}
    return Page("sweep", sweep.sweep_page(found), sweep.answer(found, sweep.effects(found)), counts)


def _comparison_page(file: Path, quick: bool, progress: Progress | None) -> Page:
    """The page of a comparison: all of it is in the file."""
    del quick, progress
    found = read_stored(file, StoredComparison, "a result of simnet compare")
    return Page("comparison", comparison.comparison_page(found), comparison.answer(found), {"scenarios": list(found.scenarios)})


PAGES: Mapping[str, tuple[str, Callable[[Path, bool, Progress | None], Page]]] = {
    RESULT_FILE: ("simnet run", _run_page),
    MANIFEST: ("simnet sweep", _sweep_page),
    COMPARISON_FILE: ("simnet compare", _comparison_page),
}
"""What makes a page of a folder, by the file that it must hold; and who writes that."""


def find(source: Path) -> Path:
    """The file that a folder is reported from; a file stands for itself.

    Raises
    ------
    UserError
        If there is nothing to report on, or more than one thing.
    """
    if source.is_file():
        if source.name in PAGES:
            return source
        raise UserError(f"{source}: a report is made of a folder, or of its {', '.join(PAGES)}")
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; simnet run NAME --out {source} writes one")
    there = [source / name for name in PAGES if (source / name).is_file()]
    if not there:
        writers = ", ".join(f"{name} ({writer} --out)" for name, (writer, _) in PAGES.items())
        state = "is empty" if not any(source.iterdir()) else "holds nothing to report on"
        raise UserError(f"{source}: {state}; missing: one of {writers}")
    if len(there) > 1:
        raise UserError(f"{source}: holds more than one thing to report on; say which: {' or '.join(map(str, there))}")
    return there[0]


def report(source: Path | str, *, out: Path | str | None = None, quick: bool = False, progress: Progress | None = None) -> Report:
    """Write one self-contained HTML file about a run, a sweep or a comparison.

    Parameters
    ----------
    source
        The folder that was written.
    out
        The file; `report.html` in the folder if not given.
    quick
        Leave out what needs further runs: the load curve, and what would help. (A run is still repeated once, for its cycles by stage.)
    progress
        Called with what is being done and the share that is done.

    Raises
    ------
    UserError
        If the folder is empty, half-written or of something else, or the file cannot be written.
    """
    file = find(Path(source))
    target = Path(out) if out is not None else file.parent / REPORT_FILE
    if target.is_dir():
        raise UserError(f"--out {target}: a folder; expected the name of a file")
    prepare(target.parent)
    page = PAGES[file.name][1](file, quick, progress)
    write_text(target, page.html)
    return Report(Path(source), target, page)
