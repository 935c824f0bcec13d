"""Files that appear whole or not at all, and JSON that is read back."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simnet.errors import UserError


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


def prepare_file(path: Path, option: str) -> None:
    """See that a file can be written to its folder, before any long work.

    Raises
    ------
    UserError
        If there is no such folder, it cannot be written to, or the path is a folder itself.
    """
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written: {error.strerror}") from None


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file beside `path`, then put it in its place; what was there before stays if that fails.

    Raises
    ------
    UserError
        If the disk is full or the file cannot be written.
    """
    beside = path.with_name(f".new-{path.name}")
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all (see `write_whole`)."""

    def write(file: Path) -> None:
        file.write_text(text, encoding="utf-8")

    write_whole(path, write)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all (see `write_whole`)."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> tuple[Any, str]:
    """A JSON file's content, and its text.

    Raises
    ------
    UserError
        If it cannot be read or is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text), text
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
