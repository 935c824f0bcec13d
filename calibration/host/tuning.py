"""Apply what is wanted, and put back what was there: on every exit, and from the journal after one that could not."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from calibration.host import journal as journals
from calibration.host.access import AbsentError, Host, RefusedError, Value
from calibration.host.cpus import online_cpus
from calibration.host.journal import Entry, Identity, Journal
from calibration.host.operation import Operation, Wish
from calibration.host.operations import operations
from calibration.host.routes import why_never
from simnet.errors import UserError

STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PASSES: Final = 3
"""How often what was there is compared and written: a driver that sets itself up anew may undo what was already right."""


@dataclass(frozen=True)
class Outcome:
    """What came of one setting.

    `problem` is empty when it is as it should be. `changed` says whether it had to be written, `gone` that its interface is no longer there and took
    the setting with it.
    """

    operation: str
    interface: str
    target: str
    value: Value
    changed: bool
    problem: str = ""
    gone: bool = False


Report = Callable[[list[Outcome]], None]
"""Told what came of putting things back."""


@contextlib.contextmanager
def tuned(host: Host, wanted: Sequence[Operation], state: Path, report: Report | None = None) -> Iterator[list[Outcome]]:
    """Have the host as wanted for as long as the context lasts; SIGINT, SIGTERM and SIGHUP end it as KeyboardInterrupt, once.

    Parameters
    ----------
    wanted
        From `operations`.
    state
        The directory of the journal.
    report
        Told what came of putting everything back, also when that happens because of an exception.

    Yields
    ------
    list of Outcome
        What came of each change.

    Raises
    ------
    UserError
        Before anything is touched: without root, for an interface that must not be touched, when an earlier journal waits, or when the journal cannot be
        written.
    """
    with journals.locked(state), _stops() as stops:
        check_allowed(host, wanted, state)
        try:
            try:
                yield apply(host, wanted, state)
            finally:
                stops.raising = False
        finally:
            outcomes = put_back(host, state)
            if report is not None:
                report(outcomes)


def check_allowed(host: Host, wanted: Sequence[Operation], state: Path) -> None:
    """See that the host may be changed.

    Raises
    ------
    UserError
        If it may not, or something of an earlier run has to be put back first.
    """
    for interface in dict.fromkeys(operation.interface for operation in wanted if operation.interface):
        if reason := why_never(host, interface):
            raise UserError(f"--interface {interface}: never changed, because {reason}")
    if not host.may_change():
        raise UserError("changing settings of the host needs root; simnet capture check without --apply does not")
    if journals.read(state) is not None:
        raise UserError(
            f"{state / journals.FILE}: an earlier run has left settings changed; put them back first: simnet capture restore"
        )


def apply(host: Host, wanted: Sequence[Operation], state: Path) -> list[Outcome]:
    """Write down what is there, then change what is not as wanted. What is refused is reported and does not stop the rest.

    Raises
    ------
    UserError
        If the journal cannot be written; then nothing has been changed without being written down.
    """
    journal = Journal(
        boot=_text(host, "/proc/sys/kernel/random/boot_id"),
        namespace=host.destination("/proc/self/ns/net") or "",
        process=os.getpid(),
        interfaces={op.interface: identity(host, op.interface) for op in wanted if op.interface},
    )
    changes = [(operation, operation.changes(host)) for operation in wanted]
    reset = {operation.interface for operation, change in changes if operation.resets and change}
    for operation, change in changes:
        if change or operation.interface in reset - {""}:
            _note(host, operation, journal)
    if journal.entries:
        journals.write(state, journal)
    outcomes: list[Outcome] = []
    for operation in wanted:
        change = operation.changes(host)
        if not all(journal.knows(operation.name, operation.interface, target) for target in change):
            _note(host, operation, journal, added=True)
            journals.write(state, journal)
        outcomes += _write(host, operation, change)
    return outcomes


def put_back(host: Host, state: Path) -> list[Outcome]:
    """Put back what the journal says was there, and remove the journal if all of it is there again.

    Returns
    -------
    list of Outcome
        One for each setting in the journal; nothing if there is no journal.

    Raises
    ------
    UserError
        If the journal is damaged, or belongs to another network namespace.
    """
    journal = journals.read(state)
    if journal is None:
        return []
    same_boot = journal.boot == _text(host, "/proc/sys/kernel/random/boot_id")
    namespace = host.destination("/proc/self/ns/net") or ""
    if same_boot and journal.interfaces and namespace != journal.namespace:
        raise UserError(
            f"{state / journals.FILE}: written in another network namespace ({journal.namespace}; this is {namespace}); run simnet capture "
            "restore there (nsenter, ip netns exec). If that namespace is gone, so are its settings: simnet capture restore --forget"
        )
    gone = {name for name, known in journal.interfaces.items() if not _same(identity(host, name), known, same_boot)}
    everywhere = Wish(cpus=online_cpus(host))
    known_operations = {(op.name, op.interface): op for name in journal.interfaces or [""] for op in operations(name, everywhere)}
    outcomes: dict[Entry, Outcome] = {}
    for _ in range(PASSES):
        written = False
        for (name, interface), entries in _grouped(journal.entries).items():
            operation = known_operations.get((name, interface))
            for entry, outcome in _restore(host, operation, entries, interface in gone):
                written |= outcome.changed
                changed = outcome.changed or (entry in outcomes and outcomes[entry].changed)
                outcomes[entry] = replace(outcome, changed=changed)
        if not written:
            break
    if not any(outcome.problem for outcome in outcomes.values()):
        journals.remove(state)
    return list(outcomes.values())


def identity(host: Host, interface: str) -> Identity:
    """What tells this interface from another of the same name."""
    folder = f"/sys/class/net/{interface}"
    return Identity(_text(host, f"{folder}/ifindex"), _text(host, f"{folder}/address"), host.destination(f"{folder}/device") or "")


def _same(now: Identity, known: Identity, same_boot: bool) -> bool:
    """Whether it is the same interface; the kernel numbers them anew at each boot."""
    return (now.address, now.device) == (known.address, known.device) and (not same_boot or now.index == known.index)


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path)
    except AbsentError:
        return ""


def _note(host: Host, operation: Operation, journal: Journal, added: bool = False) -> None:
    """Add what an operation's targets are, unless that is known already."""
    try:
        now = operation.read(host)
    except AbsentError:
        return
    for target, value in now.items():
        if not journal.knows(operation.name, operation.interface, target):
            journal.entries.append(Entry(operation.name, operation.interface, target, value, added))


def _write(host: Host, operation: Operation, change: dict[str, Value]) -> list[Outcome]:
    """Write values and look whether they were taken."""
    problems: dict[str, str] = {}
    for target, value in change.items():
        try:
            operation.write(host, target, value)
        except RefusedError as error:
            problems[target] = f"refused: {error}"
    try:
        now = operation.read(host)
    except AbsentError as error:
        now, problems = {}, {target: str(error) for target in change} | problems
    for target, value in change.items():
        if target not in problems and target in now and not operation.same(now[target], value):
            problems[target] = f"taken as {now[target]}"
    return [Outcome(operation.name, operation.interface, t, v, True, problems.get(t, "")) for t, v in change.items()]


def _restore(host: Host, operation: Operation | None, entries: list[Entry], gone: bool) -> Iterator[tuple[Entry, Outcome]]:
    """One look at the entries of one operation; writes those that differ. What is gone has nothing to be put back."""
    name, interface = entries[0].operation, entries[0].interface

    def outcome(entry: Entry, changed: bool = False, problem: str = "") -> tuple[Entry, Outcome]:
        return entry, Outcome(name, interface, entry.target, entry.before, changed, problem, gone)

    if gone:
        yield from (outcome(entry) for entry in entries)
        return
    if operation is None:
        yield from (outcome(entry, problem="this version of simnet does not know it") for entry in entries)
        return
    try:
        now = operation.read(host)
    except AbsentError as error:
        yield from (outcome(entry, problem=str(error)) for entry in entries)
        return
    before = {entry.target: entry.before for entry in entries if entry.target in now}
    by_target = {entry.target: entry for entry in entries}
    for entry in entries:
        if entry.target not in now:
            yield outcome(entry, problem="" if entry.added else "is not there any more")
        elif operation.same(now[entry.target], entry.before):
            yield outcome(entry)
    ordered = operation.order(before)
    for result in _write(host, operation, {t: before[t] for t in ordered if not operation.same(now[t], before[t])}):
        yield outcome(by_target[result.target], changed=True, problem=result.problem)


def _grouped(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.operation, entry.interface), []).append(entry)
    return groups


@dataclass
class _Stops:
    """Signals that end a process: the first raises KeyboardInterrupt, unless `raising` is off; all are remembered."""

    raising: bool = True
    raised: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.seen.append(signal.Signals(number).name)
        if self.raising and not self.raised:
            self.raised = True
            raise KeyboardInterrupt(self.seen[0])


@contextlib.contextmanager
def _stops() -> Iterator[_Stops]:
    """Take the signals that end a process; one that came while things were put back ends it afterwards."""
    stops = _Stops()
    if threading.current_thread() is not threading.main_thread():
        yield stops  # only the main thread may take signals, and only there they would interrupt
        return
    before: dict[signal.Signals, Any] = {number: signal.signal(number, stops) for number in STOPS}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stops.seen and not stops.raised:
        raise KeyboardInterrupt(stops.seen[0])
