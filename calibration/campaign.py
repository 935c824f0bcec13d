"""What is measured: a YAML file becomes an interleaved list of windows."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calibration.link.settings import Link
from simnet.kinds import Kind
from simnet.scenario.loading import validated

CAMPAIGNS = Kind("campaign", "offered_kpps, methods, placements", "scenarios", folder="campaigns")
SOFTIRQ = {
    "inline": "received packets are worked on in the sender's softirq, on its CPU",
    "rps": "NAPI on the sender's CPU, the stack in a softirq on softirq_cpu (rps_cpus of the lab's interface)",
    "threaded": "NAPI in a kernel thread on softirq_cpu (threaded of the lab's interface, sched_setaffinity of its thread)",
    "irq": "in the softirq of the CPU that the NIC interrupts, softirq_cpu (on a link; simnet capture check --apply puts it there)",
}
SETUP_S, LINK_UP_S, BOOT_S, PROGRAM_S = 0.75, 1.0, 5.0, 2.5
"""What a window takes besides its own time: wiring, processes, reference benchmarks, draining; until a bridge forwards; until a guest is up; until a program is
ready, and has read everything."""
REMOTE_S = 1.0
"""What a generator on another host takes to start, to answer and to stop."""

Count = Annotated[int, Field(ge=1)]
Kpps = Annotated[float, Field(gt=0, le=20_000)]
LAB_ONLY = frozenset({"tap_reader", "guest", "xdp_count", "af_xdp"})
"""Methods that need a wiring of the lab's, or (XDP) make a NIC's driver set up its rings anew at every window."""
Method = Literal["recv", "recvmmsg", "tpacket_v3", "libpcap", "af_xdp", "tap_reader", "guest", "xdp_count", "tc_count", "program"]
BEFORE_RPS = ("xdp_count", "af_xdp")
"""Methods that take frames out of the driver's poll."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Placement(_Section):
    """Which CPU does what."""

    softirq: Literal["inline", "rps", "threaded", "irq"] = "inline"
    load_cpu: Annotated[int, Field(ge=0)] = 0
    softirq_cpu: Annotated[int, Field(ge=0)] | None = None
    reader_cpu: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _cpu_of_the_softirq(self) -> Self:
        if (self.softirq == "inline") != (self.softirq_cpu is None):
            raise ValueError("softirq_cpu: needed with softirq rps or threaded (irq on a link), and only then")
        if self.softirq == "irq" and "load_cpu" in self.model_fields_set:
            raise ValueError("load_cpu: on a link the generator is on the other host")
        return self

    @property
    def cpus(self) -> tuple[int, ...]:
        """All CPUs it uses."""
        return tuple(sorted({self.busy_cpu, self.reader_cpu, *(() if self.softirq_cpu is None else (self.softirq_cpu,))}))

    @property
    def busy_cpu(self) -> int:
        """The CPU where packets come from: the generator's, or on a link the one that the NIC interrupts."""
        return self.softirq_cpu if self.softirq == "irq" and self.softirq_cpu is not None else self.load_cpu

    @property
    def cpus_of_irq(self) -> tuple[int, ...]:
        """The CPU that the NIC must interrupt, on a link."""
        return (self.softirq_cpu,) if self.softirq == "irq" and self.softirq_cpu is not None else ()

    @property
    def softirq_runs_on(self) -> int | None:
        """The CPU whose NET_RX softirqs bring packets to the reader; None if a NAPI thread does."""
        return {"inline": self.load_cpu, "rps": self.softirq_cpu, "irq": self.softirq_cpu, "threaded": None}[self.softirq]

    @property
    def load_is_alone(self) -> bool:
        """Whether nothing else of the lab's needs the sender's CPU."""
        return self.load_cpu not in (self.softirq_cpu, self.reader_cpu)


class Window(_Section):
    """How long to look, in seconds."""

    seconds: Annotated[float, Field(gt=0, le=600)] = 1.0
    warm_up_seconds: Annotated[float, Field(ge=0, le=60)] = 0.3
    poll_trace_seconds: Annotated[float, Field(ge=0, le=1)] = 0.1


class Reject(_Section):
    """When a window does not count, how often it is then measured again, and how long each time a quiet moment is waited for."""

    foreign_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    steal_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    retries: Annotated[int, Field(ge=0, le=20)] = 2
    wait_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0


class CampaignFile(_Section):
    """What a campaign file says: every load with every size, number of flows, method and placement, `repeats` times."""

    name: str
    title: str = ""
    link: Link | None = None
    generator: Literal["auto", "xdp", "sendmmsg"] = "auto"
    offered_kpps: Annotated[list[Kpps], Field(min_length=1)]
    frame_bytes: Annotated[list[Annotated[int, Field(ge=64, le=1518)]], Field(min_length=1)] = [64]
    flows: Annotated[list[Annotated[int, Field(ge=1, le=32768)]], Field(min_length=1)] = [1]
    methods: Annotated[list[Method], Field(min_length=1)]
    placements: Annotated[dict[str, Placement], Field(min_length=1)]
    receive_buffer_bytes: Annotated[int, Field(ge=4096)] | None = None
    program: Annotated[list[str], Field(min_length=1)] | None = None
    captured_pattern: str | None = None
    dropped_pattern: str | None = None
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    seed: int = 1
    window: Window = Window()
    reject: Reject = Reject()

    @model_validator(mode="after")
    def _that_go_together(self) -> Self:
        for flows in self.flows:
            if flows & (flows - 1):
                raise ValueError(f"flows: a power of two, not {flows}")
        for method in set(BEFORE_RPS) & {*self.methods}:
            for name, placement in self.placements.items():
                if placement.softirq == "rps":
                    raise ValueError(f"methods: {method} takes frames before RPS, so it does not go with placement {name}")
        self._check_program()
        self._that_fit_the_link()
        for field in ("offered_kpps", "frame_bytes", "flows", "methods"):
            levels = getattr(self, field)
            if len(set(levels)) < len(levels):
                raise ValueError(f"{field}: a level is given twice")
        return self

    def _check_program(self) -> None:
        if ("program" in self.methods) != (self.program is not None):
            raise ValueError("program: a command line, needed with the method program, and only then")
        if self.captured_pattern is not None and self.program is None:
            raise ValueError("captured_pattern: only with a program")
        if self.dropped_pattern is not None and self.captured_pattern is None:
            raise ValueError("dropped_pattern: only with captured_pattern; without both, the program's packet sockets are asked")
        for field in ("captured_pattern", "dropped_pattern"):
            try:
                re.compile(getattr(self, field) or "")
            except re.error as error:
                raise ValueError(f"{field}: not a regular expression: {error}") from None

    def _that_fit_the_link(self) -> None:
        """A link has placements of its own, and the lab has the others."""
        for name, placement in self.placements.items():
            if (self.link is None) == (placement.softirq == "irq"):
                allowed = (
                    "inline, rps or threaded; irq needs a link" if self.link is None else "irq, because nothing is moved on a link"
                )
                raise ValueError(f"placements: {name} has softirq {placement.softirq}; allowed here: {allowed}")
        if self.link is None:
            return
        if len({placement.softirq_cpu for placement in self.placements.values()}) > 1:
            raise ValueError(
                "placements: on a link all have the same softirq_cpu, because the campaign does not move the NIC's interrupts"
            )
        if lab_only := sorted({*self.methods} & LAB_ONLY):
            raise ValueError(f"methods: {lab_only[0]} is for the lab only")
        if "generator" in self.model_fields_set:
            raise ValueError("generator: the lab's; on a link it is link.generator")


@dataclass(frozen=True)
class Point:
    """One combination of the factors."""

    method: str
    placement_name: str
    placement: Placement
    frame_bytes: int
    flows: int
    offered_kpps: float

    @property
    def label(self) -> str:
        """In a few words."""
        return f"{self.method}, {self.placement_name}, {self.offered_kpps:g} kpps of {self.frame_bytes} bytes"


@dataclass(frozen=True)
class Planned:
    """A window to be measured: its point, and which repetition it is. `key` names it in a record."""

    key: str
    point: Point
    repeat: int


class Campaign:
    """A campaign as it was read."""

    def __init__(self, content: CampaignFile) -> None:
        self.content = content
        self.points = [
            Point(method, name, placement, size, flows, kpps)
            for method, (name, placement), size, flows, kpps in product(
                content.methods, content.placements.items(), content.frame_bytes, content.flows, content.offered_kpps
            )
        ]

    @property
    def cpus(self) -> tuple[int, ...]:
        """All CPUs that any placement uses."""
        return tuple(sorted({cpu for placement in self.content.placements.values() for cpu in placement.cpus}))

    def blocks(self) -> Iterator[list[Planned]]:
        """All windows, a block a repetition; each block has every point once, in an order of its own drawn from the seed.

        Conditions that drift with time then fall on all points alike.
        """
        width = len(str(len(self.points) - 1))
        for repeat in range(self.content.repeats):
            block = [Planned(f"{number:0{width}}-{repeat}", point, repeat) for number, point in enumerate(self.points)]
            random.Random(f"{self.content.seed}/{repeat}").shuffle(block)
            yield block

    @property
    def windows(self) -> int:
        """How many windows, without those that are measured again."""
        return len(self.points) * self.content.repeats

    def seconds(self, point: Point) -> float:
        """About how long a window of a point takes."""
        window = self.content.window
        return (
            window.seconds
            + window.warm_up_seconds
            + window.poll_trace_seconds
            + SETUP_S
            + (LINK_UP_S if point.method in ("tap_reader", "guest") else 0.0)
            + (BOOT_S if point.method == "guest" else 0.0)
            + (PROGRAM_S if point.method == "program" else 0.0)
            + (REMOTE_S if self.content.link is not None else 0.0)
        )

    @property
    def whole_seconds(self) -> float:
        """About how long everything takes if no window is rejected."""
        return self.content.repeats * math.fsum(map(self.seconds, self.points))

    def as_json(self) -> dict[str, Any]:
        """The campaign in full."""
        return self.content.model_dump(mode="json")

    def for_record(self) -> dict[str, Any]:
        """The campaign as it stands in a record: how the other host is reached, its addresses and its command are left out."""
        content = self.as_json()
        if self.content.link is not None:
            for private in ("ssh", "reach", "destination", "command"):
                del content["link"]["generator"][private]
        return content


def built_in_campaigns() -> list[str]:
    """Names of the campaigns that come with simnet, as 'folder/name'."""
    return CAMPAIGNS.names()


def load_campaign(name_or_path: str) -> Campaign:
    """Read a campaign and check it.

    Parameters
    ----------
    name_or_path
        A built-in name (see `built_in_campaigns`) or the path of a .yaml file.

    Raises
    ------
    UserError
        With file:line, what was given, what is allowed, and the nearest name.
    """
    document = CAMPAIGNS.open(name_or_path)
    return Campaign(validated(CampaignFile, document, CAMPAIGNS.name_of(name_or_path)))
