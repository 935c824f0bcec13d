"""Which CPUs host and guest have, and which of them a scenario uses."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.agenda import MAX_CPUS
from simnet.params.schema import ParameterSet
from simnet.scenario.schema import Scenario


@dataclass(frozen=True)
class Topology:
    """CPUs of a host by number. Only the CPUs that a scenario puts work on are simulated, as `used`; the others idle.

    A guest has vCPUs, each pinned to a CPU of the host (`pins`); `io_cpus` are those on which the thread between tap and guest, its `mover`, may be at boot, none if the guest drives
    the NIC itself. `irq_cpus` belong to the NIC; on `napi_cpus` threads poll it, if softirqs do not.
    `receiving` and `reading` are the CPUs, the guest's if there is one, that run the receive softirq and the capturing process (None: no process).
    """

    sockets: int
    cpus: int
    interleaved: bool
    irq_cpus: tuple[int, ...]
    receiving: tuple[int, ...]
    reading: int | None
    pins: tuple[int, ...] = ()
    io_cpus: tuple[int, ...] = ()
    mover: str = ""
    napi_cpus: tuple[int, ...] = ()

    @property
    def has_guest(self) -> bool:
        """Is there a guest, which then does the capturing?"""
        return bool(self.pins)

    @property
    def is_assigned(self) -> bool:
        """Does a guest drive the NIC?"""
        return self.has_guest and not self.io_cpus

    @property
    def polling(self) -> tuple[int, ...]:
        """CPUs of the host on which the NIC's receive rings are polled: those of its interrupts, or those below the guests that drive it."""
        return tuple(self.pins[v] for v in self.receiving) if self.is_assigned else self.napi_cpus or self.irq_cpus

    @property
    def working(self) -> tuple[int, ...]:
        """CPUs that receive for the capture or read it, ascending; the guest's if there is one."""
        return tuple(sorted({*self.receiving, *(() if self.reading is None else (self.reading,))}))

    @property
    def used(self) -> tuple[int, ...]:
        """CPU numbers of the host with work, ascending: the order of the machine's physical cores."""
        working = [self.pins[v] for v in self.working] if self.has_guest else self.working
        return tuple(sorted({*self.irq_cpus, *self.napi_cpus, *working, *self.io_cpus}))

    def core(self, cpu: int) -> int:
        """Index among the machine's cores of a CPU of the host."""
        return self.used.index(cpu)

    def working_core(self, cpu: int) -> int:
        """Index among the machine's cores of one of the `working` CPUs: a virtual core if there is a guest."""
        return len(self.used) + self.working.index(cpu) if self.has_guest else self.core(cpu)

    def carrier(self, cpu: int) -> int:
        """The host's CPU below one of the `working` CPUs."""
        return self.pins[cpu] if self.has_guest else cpu

    def socket(self, cpu: int) -> int:
        """Socket of a CPU of the host."""
        return cpu % self.sockets if self.interleaved else cpu * self.sockets // self.cpus


def cfs_factor(cpus: int) -> int:
    """Factor of the CFS times: 1 + floor(log2(min(CPUs, 8)))."""
    return min(cpus, 8).bit_length()


def _of_queues(cpus: int | list[int] | None, queues: int) -> tuple[int, ...]:
    """One CPU for each queue, if there is one."""
    return () if cpus is None else tuple(cpus) if isinstance(cpus, list) else (cpus,) * queues


def topology_of(scenario: Scenario, params: ParameterSet) -> Topology:
    """CPUs of the scenario's host and guest.

    Raises
    ------
    UserError
        If a vector, a vCPU, the thread behind the tap or the process is bound to a CPU that does not exist.
    """
    host, nic, guest = params.host, scenario.host.nic, scenario.guest
    cpus = host["sockets"] * host["cores_per_socket"]
    irq_cpus, napi_cpus = _of_queues(nic.irq_cpus, nic.queues), _of_queues(nic.napi_cpus, nic.queues)
    if guest is None or guest.is_assigned:
        io_cpus: tuple[int, ...] = ()
    else:
        io_cpus = tuple(guest.io_cpus) if isinstance(guest.io_cpus, list) else (guest.io_cpus,)
    pins = () if guest is None else tuple(guest.vcpus)
    reading = None if scenario.capture.in_kernel else scenario.capture.cpu
    bound = (
        [("host.nic.irq_cpus", c) for c in irq_cpus]
        + [("host.nic.napi_cpus", c) for c in napi_cpus]
        + [("guest.vcpus", c) for c in pins]
        + [("guest.io_cpus", c) for c in io_cpus]
    )
    if guest is None:
        bound.append(("capture.cpu", scenario.capture.cpu))
    for name, cpu in bound:
        if cpu >= cpus:
            raise scenario.mistake(name, f"there is no CPU {cpu}; {params.name} has CPUs 0 to {cpus - 1}")
    taking = () if guest is None else range(guest.vms) if guest.vms > 1 else (guest.irq_vcpu,)
    receiving = tuple(taking) or tuple(sorted(set(napi_cpus or irq_cpus)))
    mover = guest.mover if guest is not None and io_cpus else ""
    topology = Topology(
        host["sockets"], cpus, host["numbering"] == "interleaved", irq_cpus, receiving, reading, pins, io_cpus, mover, napi_cpus
    )
    if len(topology.used) > MAX_CPUS:
        raise scenario.mistake("host.nic.irq_cpus", f"{len(topology.used)} CPUs have work; at most {MAX_CPUS} can be simulated")
    return topology
