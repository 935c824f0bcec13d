"""What limits the captured rate: a core, the link, what is offered, or waiting.

Behind the last place where many packets get lost stands whoever takes them too slowly. If its core is busy, the core is the bottleneck; if
not, and whatever comes after it is busy, that is; else it waits for something.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from simnet.results.result import Result
from simnet.system.topology import Topology

SATURATED = 0.95
"""Busy share from which a core counts as saturated: what is left are gaps too short to use."""
LOST = 0.005
"""Share of the packets that come to a place which must be lost there to count."""
MANY = 0.05
"""Share from which the place is the one that matters even if nobody behind it is busy."""
NIC, TAP, SWITCH = ("nic_buffer", "nic_ring"), ("tap_qdisc", "tap_queue"), "switch"


@dataclass(frozen=True)
class Bottleneck:
    """What limits.

    Attributes
    ----------
    kind
        *core*, *load* (all that is offered is captured), *link*, or *wait* (packets are lost and no core on their way is saturated).
    place
        The last place where many packets are lost, if there is one.
    cpu, busy, context, share
        The core behind that place, its busy share, and the context that takes most of it, with its share of all time.
    text
        All this in a sentence or two.
    """

    kind: str
    place: str | None
    cpu: int | None
    busy: float | None
    context: str | None
    share: float | None
    text: str

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)


def _losses(result: Result) -> list[tuple[str, float]]:
    """Places that lose many of the packets which get there, and the share that each loses; the last place first."""
    reached, found = result.packets.offered, []
    for drop in result.packets.dropped:
        if drop.packets > LOST * max(reached, 1):
            found.append((drop.place, drop.packets / reached))
        reached -= drop.packets
    return found[::-1]


def busy_share(result: Result, cpu: int) -> float:
    """Share of a CPU's time that is not idle."""
    return 1.0 - next(core.shares["idle"] for core in result.cores if core.cpu == cpu)


def _takers(place: str, result: Result, topology: Topology, io_cpu: int | None) -> list[int]:
    """CPUs that take packets after a place, the one right behind it first."""
    downstream = [topology.carrier(cpu) for cpu in topology.working]
    if place in NIC:
        return [max(set(topology.polling), key=lambda cpu: busy_share(result, cpu))]
    if place in TAP and io_cpu is not None:
        return [io_cpu, *downstream]
    return downstream if topology.reading is None else [topology.carrier(topology.reading)]


def _tenants(cpu: int, topology: Topology, io_cpu: int | None) -> tuple[str, str]:
    """Whose system calls and user code, and which vCPUs, a CPU runs."""
    calls = []
    if cpu == io_cpu:
        calls.append(topology.mover)
    if not topology.has_guest and cpu == topology.reading:
        calls.append("the capturing process")
    vcpus = [f"vCPU {v}" for v in topology.working if topology.has_guest and topology.carrier(v) == cpu]
    return " and ".join(calls), " and ".join(vcpus)


def in_words(context: str, cpu: int, topology: Topology, io_cpu: int | None) -> str:
    """What a CPU does in a context, as a phrase after 'in'."""
    calls, vcpus = _tenants(cpu, topology, io_cpu)
    receives = (
        "received packets" if cpu in (topology.irq_cpus if topology.has_guest else topology.receiving) else "the tap's restarts"
    )
    return {
        "hardirq": "hard interrupts",
        "softirq": f"softirqs ({receives})",
        "ksoftirqd": f"ksoftirqd ({receives})",
        "system": f"system calls of {calls}" if calls else "task switches and wake-ups",
        "user": f"user code of {calls}" if calls else "user code",
        "guest": f"guest code ({vcpus})",
        "exits": f"exits of {vcpus}",
    }[context]


def _core_text(cpu: int, busy: float, shares: dict[str, float], words: list[str]) -> str:
    """The sentence about a core."""
    ordered = [f"{share:.0%} in {phrase}" for share, phrase in zip(shares.values(), words, strict=True) if share >= 0.05]
    return f"cpu{cpu} is busy {busy:.1%} of the time: {', '.join(ordered)}"


def _waiting_text(result: Result, place: str, cpu: int, busy: float, mover: str) -> str:
    """What a taker that is not busy waits for."""
    rates = result.rates
    contended, kicks = rates.get("mutex_contended", 0.0), rates.get("kicks", 0.0)
    mutex = f"QEMU's global mutex, which is found held {contended:,.0f} times a second"
    if place in TAP:
        awaited = [mutex] if contended > 1 else []
        awaited += [f"room in the virtqueue, for which the guest kicks {kicks:,.0f} times a second"] if kicks > 1 else []
        return f"{mover} waits for " + " and ".join(awaited) if awaited else "packets come in bursts"
    if place in NIC:
        return "the ring overflows in bursts, while the core sleeps, changes tasks or waits for moderation"
    kept = [v for v in result.vcpus if v.cpu == cpu and v.shares["stolen"] > 0.5]
    if kept and contended > 1:
        return f"vCPU {kept[0].vcpu} is kept out of the guest {kept[0].shares['stolen']:.0%} of the time and waits for {mutex}"
    return (
        "the process does not get the core, or is woken, too late"
        if busy > 0.5
        else "packets come in bursts, the queue is too short"
    )


def find_bottleneck(result: Result, topology: Topology, io_cpu: int | None) -> Bottleneck:
    """What limits the captured rate of a result.

    Parameters
    ----------
    result
        A run's.
    topology
        The CPUs of its scenario.
    io_cpu
        Where the thread behind the tap is, if there is a tap.
    """
    losses = _losses(result)
    if not losses:
        return Bottleneck("load", None, None, None, None, None, _load_text(result))
    for place, lost in losses:
        cpus = _takers(place, result, topology, io_cpu)
        saturated = [cpu for cpu in cpus if place != SWITCH and busy_share(result, cpu) >= SATURATED]
        if saturated:
            return _at(place, lost, saturated[0], result, topology, io_cpu, True)
        if lost >= MANY:
            break
    else:
        place, lost = max(losses, key=lambda loss: loss[1])
    if place == SWITCH:
        return Bottleneck("link", place, None, None, None, None, f"The link limits: {_flow(place, lost)}, no core does.")
    return _at(place, lost, _takers(place, result, topology, io_cpu)[0], result, topology, io_cpu, False)


def _flow(place: str, lost: float) -> str:
    return f"{lost:.1%} of what gets to the {place.replace('_', ' ')} is lost there"


def _at(place: str, lost: float, cpu: int, result: Result, topology: Topology, io_cpu: int | None, limits: bool) -> Bottleneck:
    """The bottleneck is a core, or it waits."""
    busy, shares = busy_share(result, cpu), _busy_shares(result, cpu)
    context, share = next(iter(shares.items()))
    core = _core_text(cpu, busy, shares, [in_words(name, cpu, topology, io_cpu) for name in shares])
    if limits:
        return Bottleneck("core", place, cpu, busy, context, share, f"{core}; {_flow(place, lost)}, so this core limits.")
    text = f"No core limits: {_flow(place, lost)}, but {core}; {_waiting_text(result, place, cpu, busy, topology.mover)}."
    return Bottleneck("wait", place, cpu, busy, context, share, text)


def _busy_shares(result: Result, cpu: int) -> dict[str, float]:
    """Contexts other than idle of a CPU, largest first."""
    shares = next(core.shares for core in result.cores if core.cpu == cpu)
    return dict(sorted(((c, s) for c, s in shares.items() if c != "idle"), key=lambda item: -item[1]))


def _load_text(result: Result) -> str:
    """All that is offered is captured: how much room is left."""
    busiest = max(result.cores, key=lambda core: 1.0 - core.shares["idle"])
    offered = f"Nothing on the host limits: it captures the {result.offered.kpps.mean:,.0f} kpps that are offered"
    return f"{offered}; its busiest core, cpu{busiest.cpu}, is busy {1.0 - busiest.shares['idle']:.1%} of the time."
