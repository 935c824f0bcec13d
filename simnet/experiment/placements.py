"""What can be bound to which CPU, and which placements are the same but for the numbering of the CPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import perm, prod
from typing import Any

from simnet.errors import UserError
from simnet.params.schema import ParameterSet
from simnet.scenario.loading import changed
from simnet.scenario.schema import Scenario
from simnet.system.topology import Topology, topology_of

MASK_BITS = 32
"""Bits between two commas of a CPU mask in /proc."""
MOST_CLASSES = 2000
"""More placements than this that differ by more than numbering are refused: nobody would wait for them."""


@dataclass(frozen=True)
class Movable:
    """Something that runs on a CPU of the host.

    `path` is the field that binds it, or the list of which it is an `item`; `now` the CPUs where it is (several if it is spread, or drawn at boot); `command`
    binds it to a CPU.
    """

    name: str
    path: str
    item: int | None
    now: tuple[int, ...]
    command: Callable[[int], str]


@dataclass(frozen=True)
class Placement:
    """One of several placements that differ only in the numbering of CPUs.

    Attributes
    ----------
    scenario, settings
        The scenario with everything in its place, and the fields that say so.
    cpus
        CPUs by what is there.
    process
        Where in the guest the process runs; None if there is none or no guest.
    stands_for
        Placements that are the same but for the numbering, itself included.
    commands
        What a shell has to do on the host, and in the guest.
    yours
        Is it the scenario's own?
    """

    scenario: Scenario
    settings: Mapping[str, Any]
    cpus: Mapping[str, tuple[int, ...]]
    process: str | None
    stands_for: int
    commands: Sequence[str]
    yours: bool


def cpu_mask(cpu: int) -> str:
    """A CPU as /proc/irq/N/smp_affinity wants it: hexadecimal, a comma every 32 bits (Documentation/IRQ-affinity.txt)."""
    words, bit = divmod(cpu, MASK_BITS)
    return ",".join([f"{1 << bit:x}", *["0" * (MASK_BITS // 4)] * words])


def _bind_vectors(cpu: int) -> str:
    return (
        f'for irq in $(grep "$IFACE" /proc/interrupts | cut -d: -f1); do echo {cpu_mask(cpu)} > /proc/irq/$irq/smp_affinity; done'
    )


def _bind_process(cpu: int) -> str:
    return f'taskset -cp {cpu} "$(pgrep -n -x "$PROGRAM")"'


def _bind_emulator(cpu: int) -> str:
    return f'virsh emulatorpin "$DOMAIN" {cpu}'


def _bind_worker(cpu: int) -> str:
    return f'taskset -cp {cpu} "$(pgrep -x "vhost-$QEMU_PID")"'


def _bind_vcpu(vcpu: int, cpu: int) -> str:
    return f'virsh vcpupin "$DOMAIN" {vcpu} {cpu}'


def movables(scenario: Scenario, topology: Topology) -> list[Movable]:
    """All that has work and can be bound to a CPU of the host. NIC vectors go together."""
    vectors = Movable("NIC vectors", "host.nic.irq_cpus", None, tuple(sorted(set(topology.irq_cpus))), _bind_vectors)
    if scenario.guest is None:
        reading = [] if topology.reading is None else [topology.reading]
        return [vectors, *(Movable("process", "capture.cpu", None, (cpu,), _bind_process) for cpu in reading)]
    name, bind = ("I/O thread", _bind_emulator) if scenario.guest.in_user_space else ("vhost worker", _bind_worker)
    return [
        vectors,
        *(Movable(name, "guest.io_cpus", None, cpus, bind) for cpus in [topology.io_cpus] if cpus),
        *(Movable(f"vCPU {v}", "guest.vcpus", v, (topology.pins[v],), partial(_bind_vcpu, v)) for v in topology.working),
    ]


def canonical(cpus: Sequence[int], topology: Topology) -> tuple[tuple[int, int], ...]:
    """CPUs as (socket, core), both numbered as they come: equal for two placements if renumbering sockets, and cores within them, turns one into the other."""
    sockets: dict[int, int] = {}
    cores: dict[int, int] = {}
    return tuple((sockets.setdefault(topology.socket(cpu), len(sockets)), cores.setdefault(cpu, len(cores))) for cpu in cpus)


def count_alike(cpus: Sequence[int], topology: Topology) -> int:
    """How many placements have the canonical form of this one."""
    used = [topology.socket(cpu) for cpu in set(cpus)]
    per_socket = topology.cpus // topology.sockets
    sockets = set(used)
    return perm(topology.sockets, len(sockets)) * prod(perm(per_socket, used.count(socket)) for socket in sockets)


def representatives(now: Sequence[tuple[int, ...]], topology: Topology) -> list[tuple[int, ...]]:
    """One placement of each class: that which moves the fewest things from where they are `now`, and of those the lowest numbers.

    A class has members on any CPUs, so the lowest few of each socket and those where something is suffice to find it.
    """
    taken, things = {cpu for cpus in now for cpu in cpus}, len(now)
    by_socket = [[cpu for cpu in range(topology.cpus) if topology.socket(cpu) == s] for s in range(topology.sockets)]
    enough = sorted(taken.union(*([cpu for cpu in cpus if cpu not in taken][:things] for cpus in by_socket)))
    best: dict[tuple[tuple[int, int], ...], tuple[int, tuple[int, ...]]] = {}
    for cpus in product(enough, repeat=things):
        moved = sum((cpu,) != where for cpu, where in zip(cpus, now, strict=True))
        form = canonical(cpus, topology)
        best[form] = min(best.get(form, (moved, cpus)), (moved, cpus))
    return sorted(cpus for _, cpus in best.values())


def settings_of(things: Sequence[Movable], cpus: Sequence[int], scenario: Scenario, topology: Topology) -> dict[str, Any]:
    """The fields that put things on CPUs. vCPUs without work get CPUs that are left, their own if they can."""
    settings: dict[str, Any] = {}
    pins = list(topology.pins)
    for thing, cpu in zip(things, cpus, strict=True):
        if thing.item is None:
            settings[thing.path] = cpu
        else:
            pins[thing.item] = cpu
    if scenario.guest is not None:
        left = [cpu for cpu in range(topology.cpus) if cpu not in cpus]
        for v in (v for v in range(len(pins)) if v not in topology.working):
            chosen = pins[v] if pins[v] in left or not left else left[0]
            pins[v] = chosen
            left = [cpu for cpu in left if cpu != chosen]
        settings["guest.vcpus"] = pins
    return settings


def _commands(things: Sequence[Movable], cpus: Sequence[int], settings: Mapping[str, Any], scenario: Scenario) -> list[str]:
    """Everything in its place; vCPUs without work too."""
    done = {thing.item for thing in things}
    commands = [thing.command(cpu) for thing, cpu in zip(things, cpus, strict=True)]
    commands += [_bind_vcpu(v, cpu) for v, cpu in enumerate(settings.get("guest.vcpus", ())) if v not in done]
    if scenario.guest is not None and process_place(scenario) is not None:
        commands.append(f"{_bind_process(scenario.capture.cpu)}  # in the guest")
    return commands


def process_place(scenario: Scenario) -> str | None:
    """Where in a guest the capturing process runs."""
    return None if scenario.guest is None or scenario.capture.in_kernel else f"vCPU {scenario.capture.cpu}"


def _arrangements(scenario: Scenario, topology: Topology) -> Iterator[dict[str, Any]]:
    """What there is to place: as it is, and in a guest the process on the vCPU that takes the interrupts or on another one."""
    yield {}
    guest = scenario.guest
    if guest is not None and topology.reading is not None and len(guest.vcpus) > 1:
        first_other = int(guest.irq_vcpu == 0)
        yield {"capture.cpu": first_other if topology.reading == guest.irq_vcpu else guest.irq_vcpu}


def placements(scenario: Scenario, params: ParameterSet) -> list[Placement]:
    """All placements that differ by more than the numbering of CPUs, and the scenario's own if it spreads something.

    Raises
    ------
    UserError
        If there are too many to simulate.
    """
    found: list[Placement] = []
    for extra in _arrangements(scenario, topology_of(scenario, params)):
        arranged = changed(scenario, extra) if extra else scenario
        topology = topology_of(arranged, params)
        things = movables(arranged, topology)
        now = [thing.now for thing in things]
        process = process_place(arranged)
        if not extra and any(len(cpus) > 1 for cpus in now):
            own = {thing.name: thing.now for thing in things}
            found.append(Placement(scenario, {}, own, process, 1, (), True))
        for cpus in representatives(now, topology):
            settings = {**extra, **settings_of(things, cpus, arranged, topology)}
            found.append(
                Placement(
                    changed(arranged, settings),
                    settings,
                    {thing.name: (cpu,) for thing, cpu in zip(things, cpus, strict=True)},
                    process,
                    count_alike(cpus, topology),
                    _commands(things, cpus, settings, arranged),
                    not extra and [(cpu,) for cpu in cpus] == now,
                )
            )
    if len(found) > MOST_CLASSES:
        raise UserError(f"{scenario.name}: {len(found)} placements that differ; at most {MOST_CLASSES} are simulated")
    return found
