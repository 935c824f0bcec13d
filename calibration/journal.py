"""The folder of a campaign that is running: what was asked, and a line for each finished window, on disk before the next one begins.

After a crash at any point what is whole counts; a torn last line does not.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.collect.facts import differences
from simnet.errors import UserError
from simnet.files import prepare, write_json

SCHEMA = "simnet-capture-journal/1"
MANIFEST, LINES = "campaign.json", "windows.jsonl"


class Journal:
    """The folder, held by one process at a time.

    Parameters
    ----------
    directory
        Where; made if it is not there.
    campaign
        The campaign as JSON.
    host
        Facts about this host.
    resume
        Whether windows that are there already may be added to.

    Raises
    ------
    UserError
        If the folder holds something else, or windows of another campaign or host, or another process writes there.
    """

    def __init__(self, directory: Path, campaign: dict[str, Any], host: dict[str, Any], resume: bool) -> None:
        prepare(directory)
        self.directory = directory
        self._lock = os.open(directory, os.O_RDONLY)
        try:
            self._hold()
            manifest = {"schema": SCHEMA, "campaign": campaign, "host": host}
            if not self._goes_on(manifest, resume):
                write_json(directory / MANIFEST, manifest)
            self.rows = self._whole_lines()
            self._file = os.open(directory / LINES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except BaseException:
            os.close(self._lock)
            raise

    def _hold(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out {self.directory}: another campaign is writing there") from None

    def _goes_on(self, manifest: Mapping[str, Any], resume: bool) -> bool:
        """Whether there are windows of the same campaign on the same host."""
        where = f"--out {self.directory}"
        try:
            found = json.loads((self.directory / MANIFEST).read_text(encoding="utf-8"))
            if found["schema"] != SCHEMA:
                raise UserError(f"{where}: {MANIFEST} has another form ({found['schema']!r}, not {SCHEMA!r})")
            campaign, host = found["campaign"], found["host"]
        except FileNotFoundError:
            others = [name for name in os.listdir(self.directory) if not name.startswith(".")]
            if others:
                raise UserError(f"{where}: not empty, and no campaign is going on there (it holds {min(others)})") from None
            return False
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{where}: {MANIFEST} cannot be read: {error}") from None
        if campaign != json.loads(json.dumps(manifest["campaign"])):
            raise UserError(f"{where}: holds windows of another campaign or of other settings; choose another folder")
        if unlike := differences(host, manifest["host"]):
            raise UserError(f"{where}: holds windows of another host ({', '.join(unlike)} differ); choose another folder")
        if not resume:
            raise UserError(f"{where}: holds windows of this campaign; --resume goes on with them")
        return True

    def _whole_lines(self) -> list[dict[str, Any]]:
        """The windows that are there; what was being written when the process ended is cut off."""
        path = self.directory / LINES
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise UserError(f"--out {self.directory}: {LINES} cannot be read: {error}") from None

    def add(self, row: dict[str, Any]) -> None:
        """Put a finished window on disk.

        Raises
        ------
        UserError
            If the disk is full.
        """
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        at = os.lseek(self._file, 0, os.SEEK_END)
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(28, os.strerror(28))
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, at)
            raise UserError(f"{self.directory / LINES}: cannot be written: {error.strerror}; finished windows are kept") from None
        self.rows.append(row)

    def remove(self) -> None:
        """The campaign is finished and its record written: the journal has done its work."""
        for name in (LINES, MANIFEST):
            (self.directory / name).unlink()

    def close(self) -> None:
        """Let others in."""
        os.close(self._file)
        os.close(self._lock)
