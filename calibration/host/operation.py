"""What an operation is: where a setting is read, what it should be for a measurement and why, how it is written.

An operation has targets (a queue, a CPU, a named parameter) with a value each. Values are what the host says, so that what is written back is what
was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from calibration.host.access import AbsentError, Host, RefusedError, Value
from calibration.host.cpus import bits_of

RING: Final = 4096
"""Descriptors of a receive ring, if the NIC has as many."""


@dataclass(frozen=True)
class Wish:
    """What the user wants of the host.

    Parameters
    ----------
    cpus
        CPUs that receive; without any, those of the NIC's NUMA node, and the number of queues stays as it is.
    ring
        Descriptors of a receive ring.
    usecs
        Interrupt moderation, microseconds; None: as it is, if it is fixed.
    """

    cpus: tuple[int, ...] = ()
    ring: int = RING
    usecs: int | None = None


@dataclass(frozen=True)
class Finding:
    """One target: what it is, what it should be (None: no wish), and why. Nothing that could be read has `missing` say what stands in the way."""

    operation: str
    target: str
    now: Value | None
    wanted: Value | None
    as_wanted: bool
    why: str
    missing: str = ""


class Operation:
    """One kind of setting.

    Attributes
    ----------
    name
        Unique; journals refer to it.
    why
        The reason for what is wanted, one sentence.
    interface
        The interface that it belongs to; empty: the whole host.
    resets
        Whether a change makes the driver set up the interface anew, and so may change the interface's other settings.
    """

    name: str = ""
    why: str = ""
    interface: str = ""
    resets: bool = False

    def read(self, host: Host) -> dict[str, Value]:
        """The value of each target.

        Raises
        ------
        AbsentError
            If this host does not have the setting; says why.
        """
        raise NotImplementedError

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:
        """What the targets should be; those that do not matter are left out."""
        raise NotImplementedError

    def write(self, host: Host, target: str, value: Value) -> None:
        """Set one target.

        Raises
        ------
        RefusedError
            If kernel or driver refuse.
        """
        raise NotImplementedError

    def same(self, one: Value, other: Value) -> bool:
        """Whether two values mean the same."""
        return one == other

    def order(self, wanted: Mapping[str, Value]) -> list[str]:
        """In which order the targets are written."""
        return list(wanted)

    def changes(self, host: Host) -> dict[str, Value]:
        """What has to be written for the wish to hold, in the order in which to write it; nothing where the host lacks the setting."""
        try:
            now = self.read(host)
        except AbsentError:
            return {}
        wanted = self.wanted(host, now)
        return {target: wanted[target] for target in self.order(wanted) if not self.same(now[target], wanted[target])}

    def check(self, host: Host) -> list[Finding]:
        """Each target as it is and as it should be."""
        try:
            now = self.read(host)
        except AbsentError as error:
            return [Finding(self.name, "", None, None, True, self.why, str(error))]
        wanted = self.wanted(host, now)
        return [
            Finding(
                self.name,
                target,
                value,
                wanted.get(target),
                target not in wanted or self.same(value, wanted[target]),
                self.why,
            )
            for target, value in now.items()
        ]


class Files(Operation):
    """Settings that are files of sysfs or procfs, one a target.

    `lacking` says what it means if there are none.
    """

    lacking: str = "this host has no such setting"

    def paths(self, host: Host) -> dict[str, str]:
        """Where each target lives."""
        raise NotImplementedError

    def read(self, host: Host) -> dict[str, Value]:
        found: dict[str, Value] = {}
        paths = self.paths(host)
        for target, path in paths.items():
            try:
                found[target] = host.read(path)
            except AbsentError as error:
                reason = str(error)
        if not found:
            raise AbsentError(reason if paths else self.lacking)
        return found

    def write(self, host: Host, target: str, value: Value) -> None:
        paths = self.paths(host)
        if target not in paths:
            raise RefusedError(f"{self.name}: there is no {target}")
        host.write(paths[target], str(value))


class Masks(Files):
    """Files that hold sets of CPUs as hexadecimal masks."""

    def same(self, one: Value, other: Value) -> bool:
        return bits_of(str(one)) == bits_of(str(other))


class Fixed(Files):
    """Files of the host that all get the same text."""

    files: ClassVar[Mapping[str, str]] = {}
    value: str = ""

    def paths(self, host: Host) -> dict[str, str]:  # noqa: ARG002
        return dict(self.files)

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        return dict.fromkeys(now, self.value)
