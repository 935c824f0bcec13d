"""Which CPUs the host has, and which of them a scenario uses."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.agenda import MAX_CPUS
from simnet.params.schema import ParameterSet
from simnet.scenario.schema import Scenario


@dataclass(frozen=True)
class Topology:
    """CPUs of a host by number. Only the CPUs that a scenario puts work on are simulated, as `used`; the others idle."""

    sockets: int
    cpus: int
    interleaved: bool
    irq_cpus: tuple[int, ...]
    reader_cpu: int | None

    @property
    def used(self) -> tuple[int, ...]:
        """CPU numbers with work, ascending: the order of the machine's physical cores."""
        readers = () if self.reader_cpu is None else (self.reader_cpu,)
        return tuple(sorted({*self.irq_cpus, *readers}))

    def core(self, cpu: int) -> int:
        """Index among the simulated cores of a CPU number."""
        return self.used.index(cpu)

    def socket(self, cpu: int) -> int:
        """Socket of a CPU."""
        return cpu % self.sockets if self.interleaved else cpu * self.sockets // self.cpus

    def cfs_factor(self) -> int:
        """Factor of the CFS times: 1 + floor(log2(min(CPUs, 8)))."""
        return min(self.cpus, 8).bit_length()


def topology_of(scenario: Scenario, params: ParameterSet) -> Topology:
    """CPUs of the scenario's host.

    Raises
    ------
    UserError
        If a vector or the process is bound to a CPU that does not exist.
    """
    host, nic = params.host, scenario.host.nic
    cpus = host["sockets"] * host["cores_per_socket"]
    irq_cpus = tuple(nic.irq_cpus) if isinstance(nic.irq_cpus, list) else (nic.irq_cpus,) * nic.queues
    reader = None if scenario.capture.method == "kernel_module" else scenario.capture.cpu
    for name, cpu in [*(("host.nic.irq_cpus", c) for c in irq_cpus), ("capture.cpu", scenario.capture.cpu)]:
        if cpu >= cpus:
            raise scenario.mistake(name, f"there is no CPU {cpu}; {params.name} has CPUs 0 to {cpus - 1}")
    topology = Topology(host["sockets"], cpus, host["numbering"] == "interleaved", irq_cpus, reader)
    if len(topology.used) > MAX_CPUS:
        raise scenario.mistake("host.nic.irq_cpus", f"{len(topology.used)} CPUs have work; at most {MAX_CPUS} can be simulated")
    return topology
