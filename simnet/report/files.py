"""What `--out DIR` leaves behind: result.json, samples.parquet and the plots. Each file appears whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from simnet.errors import UserError
from simnet.results.result import Result


def prepare(directory: Path) -> None:
    """Make the directory and see that files can be written to it, before any long work.

    Raises
    ------
    UserError
        If it cannot be made or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(f"--out {directory}: cannot be written to: {error.strerror}") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is never half there.

    Raises
    ------
    UserError
        If the disk is full or the file cannot be written; what was there before stays.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def write_result(result: Result, directory: Path) -> None:
    """Write a result's files.

    Raises
    ------
    UserError
        If one cannot be written; those already written stay.
    """
    from simnet.report.plots import write_plots
    from simnet.results.frames import samples_frame

    write_json(directory / "result.json", result.as_json())
    try:
        beside = directory / ".samples.parquet.new"
        samples_frame(result).to_parquet(beside, index=False)
        beside.replace(directory / "samples.parquet")
        write_plots(result, directory)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror or error}") from None
