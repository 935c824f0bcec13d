"""Where each packet is: which queues it passes, and what becomes of it.

Packets are known by their arrival at the NIC, which no two share. Each queue of the machine is compared with a copy of itself after every
transition; a packet that has left all queues was captured or lost if a counter says so, and is else in somebody's hands until it comes to the
next queue. Arrivals, which the machine works out lazily, are let in one by one before each transition: `hardware.nic.admit` may be called at
any time.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from simnet.compiled import cold_jit
from simnet.hardware.nic import admit
from simnet.records import dtype_of, find, in_array
from simnet.system.counters import COUNTERS, ROW, fill_row
from simnet.system.machine import Machine
from simnet.traffic.frame import Frame, FrameQueue, copy_frame
from simnet.units import MAX_FRAME_BYTES

WIRE, CAPTURED = "wire", "captured"
QUEUE_NAMES = {
    "nic.port.fifo": "NIC packet buffer",
    "nic.port.queues[].ring": "NIC ring",
    "tun.qdisc": "tap qdisc",
    "tun.readq": "tap queue",
    "virtqueue.used": "virtqueue",
    "sockets[].queue": "socket ring",
}
"""What the machine's queues are called, in the order of a packet's way. One that is not named here goes by its path."""
BEFORE_THE_NIC, SOCKETS = "link.", "sockets["
ARRIVALS_AT_A_TIME = 4096
WORD = 8
FRAME_WORDS = dtype_of(Frame).itemsize // WORD


class Sight(NamedTuple):
    """A packet comes to a place: WIRE (its last bit is at the NIC), a queue, CAPTURED, or the counter of those that are lost there."""

    time_ps: int
    place: str


@dataclass
class Way:
    """A packet's way as far as it was seen. `fate`: CAPTURED, the counter of those lost where it was lost, or '' if it is still on its way.
    `kept`: it has come to where the program reads it (a socket's ring), or was captured without one."""

    arrival_ps: int
    flow: int
    frame_bytes: int
    sights: list[Sight] = field(default_factory=list)
    fate: str = ""
    kept: bool = False


class Stored(NamedTuple):
    """A packet that the capture keeps: when the softirq's work that stamps it ended, and how much of it is kept at most."""

    time_ps: int
    way: Way
    most_bytes: int


@cold_jit
def admit_noting(machines: Any, now_ps: int, arrived: Any) -> int:
    """Let in what has arrived up to `now_ps`, one by one, and write it down until the array is full. Returns how many."""
    m = machines[0]
    count = 0
    while m.link.arriving.arrival_ps <= now_ps and count < len(arrived):
        copy_frame(arrived[count], m.link.arriving)
        admit(m, m.link.arriving.arrival_ps)
        count += 1
    return count


@cold_jit
def count(machines: Any, rows: Any) -> None:
    """Fill a row of zeros with the machine's counters."""
    fill_row(machines[0], rows[0])


class QueueCopy:
    """What is in one of the machine's queues: the arrivals of its packets, and how many there were when that changed."""

    def __init__(self, memory: memoryview, path: str, offset: int) -> None:
        pattern, numbers = re.sub(r"\[\d+\]", "[]", path), re.findall(r"\[(\d+)\]", path)
        self.name = " ".join([QUEUE_NAMES.get(pattern, pattern), *numbers])
        self.rank = list(QUEUE_NAMES).index(pattern) if pattern in QUEUE_NAMES else len(QUEUE_NAMES)
        self.socket = int(numbers[0]) if path.startswith(SOCKETS) else None
        self.arrivals: deque[int] = deque()
        self.levels: list[tuple[int, int]] = []
        self._queue: Any = np.frombuffer(memory, dtype_of(FrameQueue), 1, offset)
        self._frames: Any = self._queue["frames"][0]

    def leave(self, filled: int, first: int) -> list[int]:
        """Take away those before the queue's head; returns their arrivals."""
        gone = []
        while self.arrivals and (filled == 0 or self.arrivals[0] != first):
            gone.append(self.arrivals.popleft())
        return gone

    def enter(self, filled: int) -> list[tuple[int, int, int]]:
        """Add those behind the last known one; returns their arrival, flow and frame bytes."""
        if filled == len(self.arrivals):
            return []
        head, slots = int(self._queue["head"][0]), int(self._queue["slots"][0])
        new = [self._frames[(head + i) % slots].item() for i in range(len(self.arrivals), filled)]
        self.arrivals.extend(frame[0] for frame in new)
        return new

    def note(self, now_ps: int) -> None:
        """Write down how many there are now."""
        self.levels.append((now_ps, len(self.arrivals)))


class PacketWays:
    """The ways of all packets that were in the machine at `start_ps` or came later.

    Parameters
    ----------
    m
        The machine, settled.
    start_ps
        When watching begins.
    losses
        The counters of packets that are lost behind the link (columns of `system.counters.ROW`).

    Attributes
    ----------
    ways
        By arrival. Those of packets that were on their way at the start begin in a queue, others at WIRE.
    stored
        What the capture keeps, in order.
    """

    def __init__(self, m: Machine, start_ps: int, losses: Sequence[str]) -> None:
        memory = memoryview(in_array(m)).cast("B")
        places = [(path, offset) for path, offset in find(FrameQueue, dtype_of(Machine)) if not path.startswith(BEFORE_THE_NIC)]
        self.ways: dict[int, Way] = {}
        self.stored: list[Stored] = []
        self.queues = [QueueCopy(memory, path, offset) for path, offset in places]
        self._machines = in_array(m)
        self._snap_bytes: Any = self._machines["sockets"]["snap_bytes"][0]
        self._fates = (CAPTURED, *losses)
        self._columns = [COUNTERS.index(name) for name in self._fates]
        self._row: Any = np.zeros(ROW.itemsize // WORD, np.int64)
        self._words: Any = np.frombuffer(memory, np.int64)
        self._arrived: Any = np.zeros(ARRIVALS_AT_A_TIME, dtype_of(Frame))
        fields: Any = dtype_of(FrameQueue).fields
        word = np.array([offset for _, offset in places]) // WORD
        self._filled, self._head, self._frames = (word + fields[name][1] // WORD for name in ("filled", "head", "frames"))
        self._was = ([0] * len(places), [0] * len(places))
        self._counts = self._count()
        for i, filled, _ in self._changes():
            for arrival_ps, flow, frame_bytes in self.queues[i].enter(filled):
                sights = [Sight(start_ps, self.queues[i].name)]
                self.ways[arrival_ps] = Way(arrival_ps, flow, frame_bytes, sights, kept=self.queues[i].socket is not None)
        for queue in self.queues:
            queue.note(start_ps)

    def arrive(self, now_ps: int) -> None:
        """Let in what has arrived up to `now_ps`: each is in a queue now, or lost."""
        new = ARRIVALS_AT_A_TIME
        while new == ARRIVALS_AT_A_TIME:
            new = admit_noting(self._machines, now_ps, self._arrived)
            lost = {}
            for arrival_ps, flow, frame_bytes in self._arrived[:new].tolist():
                lost[arrival_ps] = self.ways[arrival_ps] = Way(arrival_ps, flow, frame_bytes, [Sight(arrival_ps, WIRE)])
            for i, filled, _ in self._changes() if new else ():
                queue = self.queues[i]
                level = len(queue.arrivals)
                for arrival_ps, *_ in queue.enter(filled):
                    level += 1
                    queue.levels.append((arrival_ps, level))
                    lost.pop(arrival_ps).sights.append(Sight(arrival_ps, queue.name))
            for arrival_ps in self._end(lost):
                raise AssertionError(f"the packet of {arrival_ps} ps arrived and is nowhere")

    def look(self, now_ps: int) -> None:
        """Something has happened at `now_ps`: packets came to other queues, or to their end."""
        changes = self._changes()
        if not changes:
            return
        gone = {
            arrival_ps: self.ways[arrival_ps] for i, filled, first in changes for arrival_ps in self.queues[i].leave(filled, first)
        }
        for i, filled, _ in changes:
            queue = self.queues[i]
            for arrival_ps, flow, frame_bytes in queue.enter(filled):
                gone.pop(arrival_ps, None)
                way = self.ways.setdefault(arrival_ps, Way(arrival_ps, flow, frame_bytes))
                way.sights.append(Sight(now_ps, queue.name))
                if queue.socket is not None:
                    self._keep(now_ps, way, int(self._snap_bytes[queue.socket]))
            queue.note(now_ps)
        self._end(gone, now_ps)

    def _keep(self, now_ps: int, way: Way, most_bytes: int) -> None:
        way.kept = True
        self.stored.append(Stored(now_ps, way, most_bytes))

    def _changes(self) -> list[tuple[int, int, int]]:
        """Queues whose level or first packet is another now: their numbers, levels and first arrivals."""
        words = self._words
        filled, first = words[self._filled].tolist(), words[self._frames + FRAME_WORDS * words[self._head]].tolist()
        if (filled, first) == self._was:
            return []
        was_filled, was_first = self._was
        self._was = (filled, first)
        return [(i, filled[i], first[i]) for i in range(len(filled)) if filled[i] != was_filled[i] or first[i] != was_first[i]]

    def _count(self) -> dict[str, int]:
        """What ends a way, so far."""
        self._row.fill(0)
        count(self._machines, self._row.view(ROW))
        return dict(zip(self._fates, self._row[self._columns].tolist(), strict=True))

    def _end(self, ways: Mapping[int, Way], now_ps: int | None = None) -> Mapping[int, Way]:
        """Packets that have left all queues (at their arrival, if no time is given): the counters say why. Returns those in somebody's hands."""
        if not ways:
            return ways
        counts = self._count()
        risen = {name: counts[name] - self._counts[name] for name in self._fates if counts[name] != self._counts[name]}
        self._counts = counts
        if not risen:
            return ways
        if len(risen) > 1 or sum(risen.values()) != len(ways):
            raise AssertionError(f"{len(ways)} packets have left the queues and were counted as {risen}")
        fate = next(iter(risen))
        for arrival_ps, way in ways.items():
            way.fate = fate
            way.sights.append(Sight(arrival_ps if now_ps is None else now_ps, fate))
            if fate == CAPTURED and now_ps is not None and not way.kept:
                self._keep(now_ps, way, MAX_FRAME_BYTES)
        return {}
