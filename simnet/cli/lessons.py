"""The lessons that come with simnet: which there are, and how one is opened with marimo."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from simnet.errors import UserError, nearest
from simnet.files import write_text

SCHEMA = "simnet-lessons/1"
INSTALL = "pip install 'simnet-rx[lessons]'"


@dataclass(frozen=True)
class Lesson:
    """A marimo notebook. `title` and `question` are the two paragraphs of its docstring."""

    name: str
    title: str
    question: str
    file: Path


def lessons() -> list[Lesson]:
    """All lessons, by name."""
    folder = Path(str(resources.files("scenarios"))) / "lessons"
    return [_read(file) for file in sorted(folder.glob("[!_]*.py"))]


def _read(file: Path) -> Lesson:
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    title, _, question = said.partition("\n\n")
    return Lesson(file.stem, title, question, file)


def lesson(name: str) -> Lesson:
    """The lesson of that name.

    Raises
    ------
    UserError
        If there is none.
    """
    known = {each.name: each for each in lessons()}
    if name not in known:
        raise UserError(f"no lesson {name!r}; there are {', '.join(known)}{nearest(name, known)}")
    return known[name]


def as_json(listed: list[Lesson]) -> dict[str, Any]:
    """What `simnet lesson --json` prints."""
    return {"schema": SCHEMA, "lessons": [{**asdict(each), "file": str(each.file)} for each in listed]}


def open_lesson(wanted: Lesson, *, edit: bool, port: int | None, headless: bool) -> NoReturn:
    """Hand this process over to marimo, which shows the lesson until it is told to stop.

    Raises
    ------
    UserError
        If marimo is not installed, or there is no such port.
    """
    if importlib.util.find_spec("marimo") is None:
        raise UserError(f"a lesson is a marimo notebook, and marimo is not installed: {INSTALL}")
    if port is not None and not 1 <= port <= 65535:
        raise UserError(f"--port {port}: a port is 1 to 65535")
    flags = ([] if port is None else ["--port", str(port)]) + (["--headless"] if headless else [])
    file = own_copy(wanted) if edit else wanted.file
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "marimo", "edit" if edit else "run", *flags, str(file)])


def own_copy(of: Lesson) -> Path:
    """The lesson as a file of the user's in the present folder, made if it is not there yet: what is installed is not edited."""
    mine = Path(f"{of.name}.py")
    if not mine.exists():
        write_text(mine, of.file.read_text(encoding="utf-8"))
    return mine
