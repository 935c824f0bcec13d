"""What is set on the host and not on an interface: frequencies, idle states, irqbalance, the scheduler, sockets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from calibration.host.access import AbsentError, Host, RefusedError, Value
from calibration.host.cpus import receiving_cpus
from calibration.host.interface_operations import Rfs
from calibration.host.operation import Files, Fixed, Operation, Wish

IDLE_LATENCY_US: Final = 2
"""Exit latency of the deepest idle state that is left on, microseconds: that of C1 in the tables of the intel_idle driver."""


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


class Processors(Files):
    """A file of each CPU that receives."""

    def __init__(self, interface: str, wish: Wish) -> None:
        self.receiver = interface
        self.wish = wish

    def cpus(self, host: Host) -> tuple[int, ...]:
        """The CPUs in question."""
        return receiving_cpus(host, self.receiver, self.wish.cpus)


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
