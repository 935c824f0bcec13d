"""The oracle's tap with its queueing discipline, and QEMU's mutex."""

from __future__ import annotations

from collections import deque

from validation.vm_oracle.cores import LOOK, Core, Piece, Task, Work
from validation.vm_oracle.setup import VmResult, VmSetup

TAP_QUOTA = 64


class Tap:
    """The tap with the qdisc before it.

    Attributes
    ----------
    queue : deque of (int, int)
        Frames to be read.
    stopped : bool
        Whether the tap takes no frames.
    reader : Task or None
        Who is to be woken by a frame.
    """

    def __init__(self, setup: VmSetup, result: VmResult) -> None:
        self._setup = setup
        self._result = result
        self._qdisc: deque[tuple[int, int]] = deque()
        self.queue: deque[tuple[int, int]] = deque()
        self.stopped = False
        self.reader: Task | None = None

    def _give(self, frame: tuple[int, int], core: Core) -> int:
        """Put a frame into the queue; returns the cost of waking the reader."""
        if len(self.queue) >= self._setup.tap_limit:
            if self._setup.one_queue:
                self._result.tap_dropped += 1
                return 0
            self.stopped = True
        self.queue.append(frame)
        return 0 if self.reader is None else self.reader.core.wake(self.reader, core)

    def _may_move(self) -> bool:
        """Say whether a frame can go from the qdisc to the queue."""
        return bool(self._qdisc) and not self.stopped

    def transmit(self, frame: tuple[int, int], core: Core) -> int:
        """Send a frame (dev_queue_xmit); returns the cost of what that brings with it."""
        if not self._qdisc and not self.stopped:
            return self._give(frame, core)
        if len(self._qdisc) >= self._setup.tap_limit:
            self._result.qdisc_dropped += 1
        else:
            self._qdisc.append(frame)
        cost = moved = 0
        while self._may_move() and moved < TAP_QUOTA:
            cost += self._give(self._qdisc.popleft(), core) + (self._setup.tap_xmit if moved else 0)
            moved += 1
        if moved == TAP_QUOTA and self._may_move():
            core.raise_net_tx()
        return cost

    def net_tx(self, core: Core) -> Work:
        """Move frames from the qdisc to the queue, in the transmit softirq."""
        for _ in range(TAP_QUOTA):
            if not self._may_move():
                return
            yield Piece(self._setup.tap_xmit)
            if self._may_move():
                cost = self._give(self._qdisc.popleft(), core)
                if cost:
                    yield Piece(cost)
        if self._may_move():
            core.raise_net_tx()


class Mutex:
    """QEMU's global mutex."""

    def __init__(self, setup: VmSetup, result: VmResult) -> None:
        self._setup = setup
        self._result = result
        self._holder: Task | None = None
        self._waiting: list[Task] = []

    def take(self, task: Task) -> Work:
        """Take the mutex, asleep while somebody else has it."""
        while self._holder is not None:
            self._result.mutex_contended += 1
            self._waiting.append(task)
            task.core.sleep()
            yield LOOK
        self._holder = task

    def release(self, core: Core) -> int:
        """Release the mutex; returns the cost."""
        self._holder = None
        if not self._waiting:
            return 0
        first = min(self._waiting, key=lambda task: task.number)
        self._waiting.remove(first)
        return self._setup.futex + first.core.wake(first, core)
