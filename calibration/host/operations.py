"""What can be set on a host that captures: where it is read, what it should be for a measurement and why, how it is written.

Each operation has targets (a queue, a CPU, a named parameter) with a value each. Values are what the host says, so that what is written back is what
was there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from calibration.host.access import AbsentError, Host, RefusedError, Value
from calibration.host.drivers import driver_of, vectors

RING: Final = 4096
"""Descriptors of a receive ring, if the NIC has as many."""
IDLE_LATENCY_US: Final = 2
"""Exit latency of the deepest idle state that is left on, microseconds: that of C1 in the tables of the intel_idle driver."""
ONE_FRAME_A_BUFFER: Final = ("rx-lro", "rx-gro-hw", "rx-gro", "rx-gro-list", "rx-udp-gro-forwarding")
"""Offloads that hand over several frames as one (names of `ethtool -k`)."""


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
        return _cpus_of_mask(str(one)) == _cpus_of_mask(str(other))


class Fixed(Files):
    """Files of the host that all get the same text."""

    files: ClassVar[Mapping[str, str]] = {}
    value: str = ""

    def paths(self, host: Host) -> dict[str, str]:  # noqa: ARG002
        return dict(self.files)

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        return dict.fromkeys(now, self.value)


class Ethtool(Operation):
    """Settings that the driver keeps, one kind of ethtool's."""

    kind: str = ""
    targets: Sequence[str] = ()

    def __init__(self, interface: str, wish: Wish) -> None:
        self.interface = interface
        self.wish = wish

    def read(self, host: Host) -> dict[str, Value]:
        now = host.ethtool(self.kind, self.interface)
        found = {target: now[target] for target in self.targets if target in now}
        if not found:
            raise AbsentError(f"the driver has no {self.kind} to choose")
        return found

    def write(self, host: Host, target: str, value: Value) -> None:
        if target not in self.targets:
            raise RefusedError(f"{self.name}: there is no {target}")
        host.set_ethtool(self.kind, self.interface, target, value)


class Channels(Ethtool):
    """Number of queues (`ethtool -l`)."""

    name, kind, targets, resets = "channels", "channels", ("combined", "rx"), True
    why = "one receive queue for each CPU that receives: more queues only share them, fewer leave CPUs idle"

    def read(self, host: Host) -> dict[str, Value]:
        now = host.ethtool(self.kind, self.interface)
        found = {target: now[target] for target in self.targets if now.get(f"{target}-max")}
        if not found:
            raise AbsentError("the driver has no channels to choose")
        return found

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:
        if not self.wish.cpus:
            return {}
        target = "combined" if "combined" in now else "rx"
        most = int(host.ethtool(self.kind, self.interface)[f"{target}-max"])
        return {target: min(len(self.wish.cpus), most)}


class Rings(Ethtool):
    """Descriptors a queue (`ethtool -g`)."""

    name, kind, targets, resets = "rings", "rings", ("rx",), True
    why = "the ring must outlast the time in which the softirq does not run; frames that find no descriptor are lost in the NIC"

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:
        most = int(host.ethtool(self.kind, self.interface).get("rx-max", 0))
        return {"rx": min(self.wish.ring, most)} if most and "rx" in now else {}


class Coalescing(Ethtool):
    """Interrupt moderation (`ethtool -c`)."""

    name, kind = "coalescing", "coalesce"
    targets = ("adaptive-rx", "rx-usecs", "rx-frames")
    why = "adaptive moderation changes the interrupt rate while one measures; a fixed time is a parameter of the model"

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:
        driver = driver_of(host, self.interface)
        usecs = int(now["rx-usecs"])
        adaptive = bool(now["adaptive-rx"]) or usecs == driver.adaptive_usecs
        if self.wish.usecs is not None:
            usecs = self.wish.usecs
        elif adaptive and usecs in (0, driver.adaptive_usecs):
            usecs = driver.usecs
        return {"adaptive-rx": False, "rx-usecs": usecs}

    def order(self, wanted: Mapping[str, Value]) -> list[str]:
        """Adaptive moderation off first and on last: ice refuses a time while it is on."""
        return sorted(wanted, key=lambda target: (target == "adaptive-rx") == bool(wanted.get("adaptive-rx")))


class Offloads(Ethtool):
    """Receive offloads (`ethtool -k`)."""

    name, kind, targets, resets = "offloads", "features", ONE_FRAME_A_BUFFER, True
    why = "merged frames reach the capture as one: it would count fewer, larger frames than the wire carried"

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        return dict.fromkeys(now, False)


class Napi(Files):
    """Where and when the interface's NAPI contexts poll."""

    name = "napi"
    why = "polls belong to the softirq that the interrupt raises: threads, deferral and timers of GRO are other mechanisms with other costs"

    def __init__(self, interface: str) -> None:
        self.interface = interface

    def paths(self, host: Host) -> dict[str, str]:  # noqa: ARG002
        return {
            file: f"/sys/class/net/{self.interface}/{file}" for file in ("threaded", "napi_defer_hard_irqs", "gro_flush_timeout")
        }

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        return dict.fromkeys(now, "0")


class Queues(Files):
    """A file of each queue of the interface."""

    direction: str = "rx"
    file: str = ""

    def __init__(self, interface: str) -> None:
        self.interface = interface

    def paths(self, host: Host) -> dict[str, str]:
        folder = f"/sys/class/net/{self.interface}/queues"
        return {queue: f"{folder}/{queue}/{self.file}" for queue in host.names(folder) if queue.startswith(f"{self.direction}-")}

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        return dict.fromkeys(now, "0")


class Rps(Queues, Masks):
    """Receive packet steering (`rps_cpus`)."""

    name, file = "rps", "rps_cpus"
    why = "steering in software sends each frame to another CPU by an interrupt of its own; the NIC's queues already spread them"


class Rfs(Queues):
    """Receive flow steering (`rps_flow_cnt`); its table of sockets is the host's."""

    name, file = "rfs", "rps_flow_cnt"
    why = "flow steering moves frames to where a socket was read last, so that placement changes while one measures"


class RfsTable(Fixed):
    """Receive flow steering: the table of sockets."""

    name = "rfs-table"
    why = Rfs.why
    files: ClassVar = {"rps_sock_flow_entries": "/proc/sys/net/core/rps_sock_flow_entries"}
    value = "0"


class Irqbalance(Operation):
    """The daemon that moves interrupts."""

    name = "irqbalance"
    why = "irqbalance moves the NIC's vectors to other CPUs every ten seconds"

    def read(self, host: Host) -> dict[str, Value]:
        return {"irqbalance": "running" if _runs(host, "irqbalance") else "stopped"}

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        return {"irqbalance": "stopped"}

    def write(self, host: Host, target: str, value: Value) -> None:
        if target != "irqbalance" or value not in ("running", "stopped"):
            raise RefusedError(f"{self.name}: there is no {target} {value}")
        host.run("systemctl", "start" if value == "running" else "stop", "irqbalance")


class Affinity(Files):
    """The CPU that takes each receive queue's interrupts (`smp_affinity_list`), and with it the softirq."""

    name = "irq-affinity"
    why = "each vector on one CPU of its own, near the NIC: then it is known where the softirq runs, and the NUMA node is the NIC's"
    lacking = "no vectors of receive queues (an interface without interrupts of its own, or one that is down)"

    def __init__(self, interface: str, wish: Wish) -> None:
        self.interface = interface
        self.wish = wish

    def paths(self, host: Host) -> dict[str, str]:
        return {name: f"/proc/irq/{number}/smp_affinity_list" for number, name in vectors(host, self.interface).items()}

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:
        cpus = receiving_cpus(host, self.interface, self.wish)
        return {vector: str(cpus[number % len(cpus)]) for number, vector in enumerate(now)}

    def same(self, one: Value, other: Value) -> bool:
        return parse_cpus(str(one)) == parse_cpus(str(other))


class Xps(Queues, Masks):
    """Transmit packet steering (`xps_cpus`)."""

    name, direction, file = "xps", "tx", "xps_cpus"
    why = "a queue's transmit completions run in the same poll: only the CPU of its vector should fill it"

    def __init__(self, interface: str, wish: Wish) -> None:
        super().__init__(interface)
        self.wish = wish

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:
        shared = len(vectors(host, self.interface))
        cpus = receiving_cpus(host, self.interface, self.wish)
        return {queue: _mask(cpus[number % len(cpus)]) for number, queue in enumerate(now) if number < shared}


class Processors(Files):
    """A file of each CPU that receives."""

    def __init__(self, interface: str, wish: Wish) -> None:
        self.receiver = interface
        self.wish = wish

    def cpus(self, host: Host) -> tuple[int, ...]:
        """The CPUs in question."""
        return receiving_cpus(host, self.receiver, self.wish)


class Governor(Processors):
    """The frequency governor of the CPUs that receive."""

    name = "governor"
    why = "costs are cycles; at a frequency that follows the load they take another time at each load"

    def paths(self, host: Host) -> dict[str, str]:
        return {f"cpu{cpu}": f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor" for cpu in self.cpus(host)}

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        return dict.fromkeys(now, "performance")


class IdleStates(Processors):
    """Idle states of the CPUs that receive, off if they take long to leave.

    Not the latency request of `/dev/cpu_dma_latency`: that slows every CPU of the host down or none, and cannot be read back.
    """

    name = "idle-states"
    why = f"leaving an idle state deeper than C1 ({IDLE_LATENCY_US} µs) delays the interrupt by up to its exit latency, more often at low load"
    lacking = "no idle states are known to the kernel (cpuidle)"

    def paths(self, host: Host) -> dict[str, str]:
        return {f"cpu{cpu}/{state}": f"{folder}/{state}/disable" for cpu, state, folder in self._states(host)}

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:
        deep = {
            f"cpu{cpu}/{state}"
            for cpu, state, folder in self._states(host)
            if _latency(host, f"{folder}/{state}") > IDLE_LATENCY_US
        }
        return {target: "1" for target in now if target in deep}

    def _states(self, host: Host) -> Iterator[tuple[int, str, str]]:
        for cpu in self.cpus(host):
            folder = f"/sys/devices/system/cpu/cpu{cpu}/cpuidle"
            for state in host.names(folder):
                yield cpu, state, folder


class Turbo(Operation):
    """Frequencies above the nominal one; two drivers, two files with opposite senses."""

    name = "turbo"
    why = "how far the frequency rises depends on how many cores are busy, and so on the load"
    off: Final = {"/sys/devices/system/cpu/intel_pstate/no_turbo": "1", "/sys/devices/system/cpu/cpufreq/boost": "0"}

    def read(self, host: Host) -> dict[str, Value]:
        for path in self.off:
            try:
                return {path.rsplit("/", 1)[1]: host.read(path)}
            except AbsentError:
                continue
        raise AbsentError("no cpufreq driver with a switch for it")

    def wanted(self, host: Host, now: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        return {target: value for path, value in self.off.items() for target in now if path.endswith(f"/{target}")}

    def write(self, host: Host, target: str, value: Value) -> None:
        for path in self.off:
            if path.endswith(f"/{target}"):
                return host.write(path, str(value))
        raise RefusedError(f"{self.name}: there is no {target}")


class Autogroup(Fixed):
    """Scheduling groups of sessions (`sched_autogroup_enabled`)."""

    name = "autogroup"
    why = "with it the capture shares its core by session: nice values and the share of kernel threads mean something else"
    files: ClassVar = {"sched_autogroup_enabled": "/proc/sys/kernel/sched_autogroup_enabled"}
    value = "0"


class BusyPoll(Fixed):
    """Sockets that poll the NIC's queues themselves."""

    name = "busy-poll"
    why = "a socket that polls takes frames out of the queue in the process, past the softirq"
    files: ClassVar = {file: f"/proc/sys/net/core/{file}" for file in ("busy_poll", "busy_read")}
    value = "0"


def operations(interface: str, wish: Wish | None = None) -> list[Operation]:
    """All that can be set, in the order in which it is applied and put back: what resets the driver first, interrupts after queues."""
    wish = wish or Wish()
    return [
        Channels(interface, wish),
        Rings(interface, wish),
        Offloads(interface, wish),
        Coalescing(interface, wish),
        Napi(interface),
        Rps(interface),
        Rfs(interface),
        RfsTable(),
        Irqbalance(),
        Affinity(interface, wish),
        Xps(interface, wish),
        Governor(interface, wish),
        IdleStates(interface, wish),
        Turbo(),
        Autogroup(),
        BusyPoll(),
    ]


def receiving_cpus(host: Host, interface: str, wish: Wish) -> tuple[int, ...]:
    """The CPUs that receive: those wished for, or those of the NIC's NUMA node, or all that are online."""
    if wish.cpus:
        return wish.cpus
    online = online_cpus(host)
    try:
        near = parse_cpus(host.read(f"/sys/class/net/{interface}/device/local_cpulist"))
    except (AbsentError, ValueError):
        near = ()
    return tuple(cpu for cpu in online if cpu in near) or online


def online_cpus(host: Host) -> tuple[int, ...]:
    """The host's CPUs."""
    try:
        return parse_cpus(host.read("/sys/devices/system/cpu/online"))
    except AbsentError:
        return (0,)


def parse_cpus(text: str) -> tuple[int, ...]:
    """The CPUs of a list such as 0-3,8.

    Raises
    ------
    ValueError
        If it is not one.
    """
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        if int(last or first) < int(first):
            raise ValueError(part)
        cpus.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cpus))


def _cpus_of_mask(mask: str) -> int:
    return int(mask.replace(",", "") or "0", 16)


def _mask(cpu: int) -> str:
    """The kernel's way to write a mask: groups of 32 bits."""
    groups = [f"{1 << cpu % 32:x}", *["00000000"] * (cpu // 32)]
    return ",".join(groups)


def _latency(host: Host, state: str) -> int:
    try:
        return int(host.read(f"{state}/latency"))
    except (AbsentError, ValueError):
        return 0


def _runs(host: Host, program: str) -> bool:
    """Whether a process of that name runs, by /proc."""
    for process in host.names("/proc"):
        if process.isdecimal():
            try:
                if host.read(f"/proc/{process}/comm") == program:
                    return True
            except AbsentError:
                continue
    return False
