"""What the host was set to before anything was touched, on disk.

A journal is a text file: a line about the host, a line for each setting, a line with the checksum. It is written whole and synchronised before the
first setting is changed, so that a process killed at any moment leaves either no journal and nothing changed, or all that is needed to go back.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from calibration.host.access import Value
from simnet.errors import UserError
from simnet.files import write_text

SCHEMA: Final = "simnet-host-journal/1"
FILE: Final = "host.journal"


class DamagedError(UserError):
    """A journal that does not hold what was written into it."""


@dataclass(frozen=True)
class Identity:
    """What tells an interface from another one of the same name."""

    index: str
    address: str
    device: str


@dataclass(frozen=True)
class Entry:
    """One setting as it was.

    `interface` is empty for one of the host. `added` marks what appeared only while settings were applied, such as the vectors of new queues: it may
    be gone once the rest is back.
    """

    operation: str
    interface: str
    target: str
    before: Value
    added: bool = False


@dataclass
class Journal:
    """What is needed to go back.

    Parameters
    ----------
    boot
        The kernel's boot id.
    namespace
        The network namespace.
    process
        Who wrote it.
    interfaces
        Identities by name.
    entries
        What was there, in the order in which it is put back.
    """

    boot: str
    namespace: str
    process: int
    interfaces: dict[str, Identity]
    entries: list[Entry] = field(default_factory=list)

    def knows(self, operation: str, interface: str, target: str) -> bool:
        """Whether it is written down what this was."""
        return any((e.operation, e.interface, e.target) == (operation, interface, target) for e in self.entries)


def default_state() -> Path:
    """Where the journal lives: /var/lib/simnet for root, the user's state directory otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/simnet")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "simnet"


def write(state: Path, journal: Journal) -> None:
    """Write the journal whole and make sure that it survives a crash of the machine.

    Raises
    ------
    UserError
        If it cannot be written; then nothing may be touched.
    """
    head = {"schema": SCHEMA, **{name: value for name, value in asdict(journal).items() if name != "entries"}}
    lines = [json.dumps(head), *(json.dumps(asdict(entry)) for entry in journal.entries)]
    write_text(
        state / FILE,
        "".join(f"{line}\n" for line in [*lines, json.dumps({"settings": len(journal.entries), "sha256": _sum(lines)})]),
    )
    _synchronise(state)


def read(state: Path) -> Journal | None:
    """The journal, or None if there is none.

    Raises
    ------
    DamagedError
        If it is cut off, was changed, or is of another version; says which settings its readable lines name.
    """
    try:
        text = (state / FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{state / FILE}: {error.strerror}") from None
    lines = text.splitlines()
    parsed = [_object(line) for line in lines]
    head, end = (parsed[0], parsed[-1]) if parsed else ({}, {})
    if str(head.get("schema", "")).startswith("simnet-host-journal/") and head["schema"] != SCHEMA:
        raise DamagedError(f"{state / FILE}: written by another version of simnet ({head['schema']}; this one reads {SCHEMA})")
    known = [line for line in parsed if {"operation", "target", "before"} <= line.keys()]
    if "sha256" not in end:
        raise DamagedError(_damage(state, "it is cut off: the line with the checksum is missing", known))
    if end["sha256"] != _sum(lines[:-1]):
        raise DamagedError(_damage(state, "its checksum does not hold: somebody or something has changed it", known))
    try:
        return Journal(
            boot=head["boot"],
            namespace=head["namespace"],
            process=head["process"],
            interfaces={name: Identity(**identity) for name, identity in head["interfaces"].items()},
            entries=[Entry(**line) for line in known],
        )
    except (KeyError, TypeError, AttributeError):
        raise DamagedError(_damage(state, "it does not have the fields of a journal", known)) from None


def remove(state: Path) -> None:
    """Forget what was there; for when it is there again."""
    (state / FILE).unlink(missing_ok=True)
    _synchronise(state)


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Be the only one who tunes or restores from this directory, until the end of the process at the latest.

    Raises
    ------
    UserError
        If another process is, or the directory cannot be made.
    """
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"--state {state}: {error.strerror}") from None
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: a child that outlives a killed parent would keep it
        except OSError:
            raise UserError(f"--state {state}: another simnet is at work on this host and will put back what it changed") from None
        yield
    finally:
        os.close(file)


def _sum(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _object(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _damage(state: Path, what: str, known: list[dict[str, Any]]) -> str:
    listed = "".join(f"\n  {e.get('interface') or 'host'}: {e['operation']} {e['target']} was {e['before']}" for e in known)
    return (
        f"{state / FILE}: {what}. Nothing is put back from it, since a wrong value may be worse than none. "
        f"Set it right by hand, then simnet capture restore --forget. "
        + (f"Its readable lines, not to be relied on, say:{listed}" if known else "None of its lines can be read.")
    )


def _synchronise(directory: Path) -> None:
    """Make the names in a directory survive a crash."""
    try:
        file = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"--state {directory}: {error.strerror}") from None
    try:
        os.fsync(file)
    finally:
        os.close(file)
