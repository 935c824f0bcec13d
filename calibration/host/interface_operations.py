"""What is set on an interface: queues, rings, offloads, moderation, NAPI, steering, vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from calibration.host.access import AbsentError, Host, RefusedError, Value
from calibration.host.cpus import mask_of, parse_cpus, receiving_cpus
from calibration.host.drivers import driver_of, vectors
from calibration.host.operation import Files, Masks, Operation, Wish

ONE_FRAME_A_BUFFER: Final = ("rx-lro", "rx-gro-hw", "rx-gro", "rx-gro-list", "rx-udp-gro-forwarding")
"""Offloads that hand over several frames as one (names of `ethtool -k`)."""


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
        cpus = receiving_cpus(host, self.interface, self.wish.cpus)
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
        cpus = receiving_cpus(host, self.interface, self.wish.cpus)
        return {queue: mask_of(cpus[number % len(cpus)]) for number, queue in enumerate(now) if number < shared}
