"""A small, slow and independent model of packet reception in a KVM guest, to check a faster one against.

It is written with SimPy, from rules, the way `validation.oracle` is: every frame that arrives is an event, and so is every piece of work of
every processor core. A frame goes from the card (one queue, one vector) through the receive softirq of core H, the bridge and a tap, is read
by QEMU's I/O thread on core I, and is captured by the softirq of a virtual core V, which core G carries out as a task. H, I and G may be the
same.

What runs on a core is a generator. It yields the pieces of its work; what a piece changes, it changes when it goes on, that is when the piece
is paid for. A core pays for one piece at a time, that of the highest priority: a handler of a hard interrupt or a task switch, then softirqs,
then the current task. The virtual core is the same kind of core, whose pieces are paid for by the vCPU's task.

Left out: idle states, further queues, tasks other than QEMU's and ksoftirqd, and what happens behind the guest's kernel tap.

All times are integers, in picoseconds. At one moment the order is: arrivals, the end of the simulation, the card's vector, the tick of the
physical cores, the timer of the virtual core, the physical cores by ascending number.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import simpy
from simpy.events import EventPriority

from validation.oracle import END, TICK, Nic, Ranked

__all__ = ["CoreSetup", "VmResult", "VmSetup", "vm_receive_path"]

_GUEST_TIMER = EventPriority(TICK + 1)
_FIRST_CORE = TICK + 2

_TICK_VECTOR, _TIMEOUT_VECTOR, _RESCHEDULE_VECTOR, _DEVICE_VECTOR = range(4)
_TIMER, _NET_TX, _NET_RX = "timer", "net_tx", "net_rx"

_ISR_READ, _KICK, _TIMER_WRITE, _EOI, _HLT = "isr_read", "kick", "timer_write", "eoi", "hlt"
_EXIT_ORDER = (_ISR_READ, _KICK, _TIMER_WRITE, _EOI)

_TAP_QUOTA = 64
_LINE_BYTES, _FCS_BYTES = 64, 4


@dataclass(frozen=True, kw_only=True)
class CoreSetup:
    """Rules and costs of one kernel; times and costs are in picoseconds.

    Attributes
    ----------
    tick, first_tick : int
        Period of the timer tick, and the time of one tick.
    boot : int
        Time from which jiffies are counted; it may be negative.
    defers_to_ksoftirqd : bool
        Whether no inline softirq run starts while ksoftirqd is runnable.
    budget, net_rx_jiffies : int
        Frames and jiffies that one pass over the poll list may take.
    max_restart : int
        Most rounds in one run of the softirqs.
    latency, min_granularity, wakeup_granularity : int
        Times of the scheduler (CFS).
    device_interrupt, timer_interrupt, reschedule_interrupt : int
        Cost of a hard interrupt.
    do_softirq, timer_softirq, net_tx : int
        Cost of starting a round of softirqs, of the timer softirq, and of starting the transmit softirq.
    poll, napi_complete : int
        Cost of entering a poll call, and of leaving polling.
    context_switch, wake_up : int
        Cost of switching to a task, and of waking one.
    """

    tick: int
    first_tick: int
    boot: int
    defers_to_ksoftirqd: bool
    budget: int = 300
    net_rx_jiffies: int = 2
    max_restart: int = 10
    latency: int
    min_granularity: int
    wakeup_granularity: int
    device_interrupt: int
    timer_interrupt: int
    reschedule_interrupt: int
    do_softirq: int
    timer_softirq: int
    net_tx: int
    poll: int
    napi_complete: int
    context_switch: int
    wake_up: int


@dataclass(frozen=True, kw_only=True)
class VmSetup:
    """Parameters of card, host and guest; times and costs are in picoseconds.

    Attributes
    ----------
    host, guest : CoreSetup
        The two kernels.
    receive_core, io_core, vcpu_core : int
        Numbers of the physical cores that take the card's interrupt, run the I/O thread, and carry the vCPU.
    descriptors, buffer_bytes, refill_batch, moderation_interval : int
        Of the card: ring, packet buffer, descriptors posted together, least time between interrupts.
    host_weight, guest_weight : int
        Most frames of one poll call.
    returns_work_done : bool
        Whether a poll call of the card's driver that completes is charged for its frames.
    host_frame : int
        Cost of one frame from its descriptor to the tap.
    tap_xmit, tap_limit, one_queue : int, int, bool
        Cost of moving a frame from the qdisc to the tap, room in either, and whether a full tap drops at once.
    drains, msi_x : bool
        Whether the I/O thread reads more than one frame at a time, and whether an interrupt of the guest's card needs no look at its ISR.
    entries, ready_entries : int
        Size of the virtqueue, and free entries without which the I/O thread does not read.
    select, read, read_line, push, push_line, inject, futex : int
        Costs of the I/O thread's work, those named line per 64 bytes.
    vm_exit : int
        Cost of leaving the guest for an interrupt of the host.
    exits, user : dict of str to int
        Cost of leaving the guest by reason, and of QEMU's part of it.
    guest_frame, refill : int
        Cost of one frame from the virtqueue until it is captured, and of posting one buffer.
    """

    host: CoreSetup
    guest: CoreSetup
    receive_core: int
    io_core: int
    vcpu_core: int
    descriptors: int
    buffer_bytes: int
    refill_batch: int = 16
    moderation_interval: int
    host_weight: int = 64
    guest_weight: int = 128
    returns_work_done: bool
    host_frame: int
    tap_xmit: int
    tap_limit: int = 500
    one_queue: bool
    drains: bool
    msi_x: bool
    entries: int = 256
    ready_entries: int = 17
    select: int
    read: int
    read_line: int
    push: int
    push_line: int
    inject: int
    futex: int
    vm_exit: int
    exits: dict[str, int]
    user: dict[str, int]
    guest_frame: int
    refill: int


@dataclass
class VmResult:
    """What happened until the end of the simulation.

    Attributes
    ----------
    latencies : list of int
        For each captured frame, in order, the time from its arrival at the card to its capture.
    offered, missed, qdisc_dropped, tap_dropped : int
        Frames that arrived, and frames lost on the card, before the tap's qdisc, and before its queue.
    interrupts, guest_interrupts : int
        Interrupts that the card fired, and that the I/O thread injected.
    kicks, tap_restarts, mutex_contended, wakeups, switches, polls : int
        Kicks by the guest, restarts of the tap by its reader, times that the mutex was found held, wake-ups of physical cores' tasks, switches to
        tasks, and poll calls that came to their end, on all cores.
    exits : Counter of str
        Times the guest was left, by reason; "external_interrupt" is the host's.
    """

    latencies: list[int] = field(default_factory=list)
    offered: int = 0
    missed: int = 0
    qdisc_dropped: int = 0
    tap_dropped: int = 0
    interrupts: int = 0
    guest_interrupts: int = 0
    kicks: int = 0
    tap_restarts: int = 0
    mutex_contended: int = 0
    wakeups: int = 0
    switches: int = 0
    polls: int = 0
    exits: Counter[str] = field(default_factory=Counter)


class _Mode(Enum):
    """How a piece of a task can be interrupted."""

    SYSTEM = "by interrupts; other tasks wait for its end"
    USER = "by interrupts and other tasks"
    GUEST = "by interrupts and other tasks, after an exit"
    FOLLOW_UP = "by interrupts; it goes with the piece before, so other tasks wait for its end even if it has not begun"
    ATOMIC = "not at all"


class _Piece(NamedTuple):
    """A piece of work."""

    cost: int = 0
    mode: _Mode = _Mode.SYSTEM


_LOOK = _Piece()
"""Nothing; whatever is more urgent comes first."""

_Work = Generator[_Piece, None, None]
_Poll = Generator[_Piece, None, int]


def _follow_up(cost: int) -> _Work:
    """Pay for what the effect of a piece brought with it, then let whatever is more urgent come first."""
    if cost:
        yield _Piece(cost, _Mode.FOLLOW_UP)
    yield _LOOK


class _Activity:
    """A generator of pieces, and what is left of its present piece."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self.left = 0
        self.mode = _Mode.SYSTEM
        self.begun = False

    def advance(self) -> None:
        """Let the present piece have its effect, and get the next one."""
        self.left, self.mode = next(self._work, _LOOK)
        self.begun = self.mode is _Mode.FOLLOW_UP


class _Task(_Activity):
    """A task of a physical or virtual core; it starts asleep."""

    def __init__(self, number: int, core: _Core, work: _Work) -> None:
        super().__init__(work)
        self.number = number
        self.core = core
        self.asleep = True
        self.vruntime = self.ran = self.charged_at = 0
        core.tasks.append(self)


class _Core:
    """A core: which of its activities comes first, its softirqs, its scheduler.

    Attributes
    ----------
    requested : set of int
        Vectors of hard interrupts that wait to be taken.
    working : _Activity or None
        What the core pays for.
    current : _Task or None
        The task that the core was given to.
    poll, polling : callable, bool
        The poll call of the core's NAPI context, and whether that is on the poll list.
    """

    def __init__(self, env: simpy.Environment, setup: CoreSetup, result: VmResult, number: int) -> None:
        self._env = env
        self._setup = setup
        self._result = result
        self.requested: set[int] = set()
        self.working: _Activity | None = None
        self.current: _Task | None = None
        self.tasks: list[_Task] = []
        self.poll: Callable[[], _Poll]
        self.transmit: Callable[[_Core], _Work]
        self.polling = False
        self._urgent: _Activity | None = None
        self._softirq: _Activity | None = None
        self._after_interrupt = False
        self._pending: set[str] = set()
        self._need_resched = False
        self._min_vruntime = 0
        self.ksoftirqd = _Task(number, self, self._ksoftirqd())

    @property
    def now(self) -> int:
        """The time."""
        return int(self._env.now)

    @property
    def idle(self) -> bool:
        """Whether the core has nothing to do."""
        return self.working is None and not self.requested

    # What comes next

    def choose(self) -> _Activity | None:
        """Find the activity whose turn it is."""
        if self._urgent is None and self.requested:
            vector = min(self.requested)
            self.requested.remove(vector)
            self._urgent = _Activity(self._interrupt(vector))
        if self._urgent is not None:
            return self._urgent
        if self._after_interrupt:
            self._after_interrupt = False
            deferred = self._setup.defers_to_ksoftirqd and not self.ksoftirqd.asleep
            if self._pending and self._softirq is None and not deferred:
                self._softirq = _Activity(self._run_softirqs(inline=True))
        return self._softirq or self._choose_task()

    def _choose_task(self) -> _Activity | None:
        """Find the task whose turn it is, or the switch to it."""
        task = self.current
        if task is None or (self._need_resched and (not task.begun or task.mode in (_Mode.USER, _Mode.GUEST))):
            self._schedule()
        return self._urgent or self.current

    def _interrupt(self, vector: int) -> _Work:
        """Handle a hard interrupt; its effects come first."""
        setup = self._setup
        if vector == _TICK_VECTOR:
            self._pending.add(_TIMER)
            self._scheduler_tick()
            yield _Piece(setup.timer_interrupt)
        elif vector == _TIMEOUT_VECTOR:
            yield _Piece(setup.timer_interrupt)
        elif vector == _RESCHEDULE_VECTOR:
            yield _Piece(setup.reschedule_interrupt)
        else:
            self.device()
            yield _Piece(setup.device_interrupt)
        self.interrupted(vector)
        self._urgent = None
        self._after_interrupt = True

    def device(self) -> None:
        """Put the NAPI context on the poll list, unless it is there."""
        if not self.polling:
            self.polling = True
            self._pending.add(_NET_RX)

    def interrupted(self, vector: int) -> None:
        """Do what else comes with the end of an interrupt."""

    # Softirqs

    def raise_net_tx(self) -> None:
        """Mark the transmit softirq pending."""
        self._pending.add(_NET_TX)

    def _ksoftirqd(self) -> _Work:
        """Run softirqs as a task."""
        while True:
            if self._pending:
                self._softirq = _Activity(self._run_softirqs(inline=False))
            else:
                self.sleep()
            yield _LOOK

    def _run_softirqs(self, inline: bool) -> _Work:
        """Run the softirqs, in rounds; an inline run that leaves some behind wakes ksoftirqd."""
        for _ in range(self._setup.max_restart):
            round_, self._pending = self._pending, set()
            yield _Piece(self._setup.do_softirq)
            if _TIMER in round_:
                yield _Piece(self._setup.timer_softirq)
            if _NET_TX in round_:
                yield _Piece(self._setup.net_tx)
                yield from self.transmit(self)
            if _NET_RX in round_:
                yield from self._net_rx_action()
            if not self._pending:
                break
        if inline and self._pending:
            yield _Piece(self.wake(self.ksoftirqd, self))
        self._softirq = None

    def _net_rx_action(self) -> _Work:
        """Poll until the poll list is empty, the budget is used up or the time is over."""
        setup = self._setup
        budget = setup.budget
        jiffies = (self.now - setup.boot) // setup.tick
        limit = setup.boot + (jiffies + setup.net_rx_jiffies + 1) * setup.tick
        while self.polling:
            if budget <= 0 or self.now >= limit:
                self._pending.add(_NET_RX)
                return
            yield _Piece(setup.poll)
            budget -= yield from self.poll()
            self._result.polls += 1

    # The scheduler

    def _others(self) -> list[_Task]:
        """List the runnable tasks that are not current, the leftmost first."""
        runnable = (task for task in self.tasks if not task.asleep and task is not self.current)
        return sorted(runnable, key=lambda task: (task.vruntime, task.number))

    def _charge(self) -> None:
        """Charge the current task for the time since it was charged last."""
        task = self.current
        if task is not None:
            spent = self.now - task.charged_at
            task.charged_at = self.now
            task.vruntime += spent
            task.ran += spent
        present = [other.vruntime for other in self._others()] + ([] if task is None else [task.vruntime])
        self._min_vruntime = max(self._min_vruntime, min(present, default=0))

    def _scheduler_tick(self) -> None:
        """Ask for another task if the current one had its share."""
        self._charge()
        task, others = self.current, self._others()
        if task is None or not others:
            return
        share = max(self._setup.latency // (1 + len(others)), self._setup.min_granularity)
        behind = task.vruntime - others[0].vruntime
        if task.ran > share or (task.ran >= self._setup.min_granularity and behind > share):
            self._need_resched = True

    def wake(self, task: _Task, waker: _Core | None) -> int:
        """Wake a task of this core.

        Returns
        -------
        int
            What that costs the waker.
        """
        if not task.asleep:
            return 0
        self._result.wakeups += 1
        if waker is self:
            self._enqueue(task)
        else:
            self._wake_from_outside(task, interrupt=waker is not None)
        return self._setup.wake_up

    def _wake_from_outside(self, task: _Task, interrupt: bool) -> None:
        """Have a task woken when this core acts."""
        raise NotImplementedError

    def _enqueue(self, task: _Task) -> None:
        """Make a task runnable."""
        self._charge()
        task.asleep = False
        task.vruntime = max(task.vruntime, self._min_vruntime - self._setup.latency // 2)
        if self.current is not None and self.current.vruntime - task.vruntime > self._setup.wakeup_granularity:
            self._need_resched = True

    def sleep(self) -> None:
        """Put the current task to sleep."""
        assert self.current is not None
        self._charge()
        self.current.asleep = True
        self.current = None

    def _schedule(self) -> None:
        """Give the core to the task whose turn it is."""
        self._charge()
        self._need_resched = False
        others, task = self._others(), self.current
        if not others or (task is not None and task.vruntime < others[0].vruntime):
            return
        self.current = others[0]
        self.current.charged_at = self.now
        self.current.ran = 0
        self._result.switches += 1
        self._urgent = _Activity(self._switch())

    def _switch(self) -> _Work:
        """Switch to the current task."""
        yield _Piece(self._setup.context_switch)
        self._urgent = None


class _Physical(_Core):
    """A core of the host: it acts when its piece is paid for, and when something is posted to it."""

    def __init__(self, env: simpy.Environment, setup: CoreSetup, result: VmResult, number: int) -> None:
        super().__init__(env, setup, result, number)
        self._rank = EventPriority(_FIRST_CORE + number)
        self._woken: list[_Task] = []
        self._since = 0
        self._event: simpy.Event | None = None

    def request(self, vector: int) -> None:
        """Request a hard interrupt."""
        self.requested.add(vector)
        self.act_now()

    def _wake_from_outside(self, task: _Task, interrupt: bool) -> None:
        if task not in self._woken:
            self._woken.append(task)
        if interrupt:
            self.requested.add(_RESCHEDULE_VECTOR)
        self.act_now()

    @property
    def idle(self) -> bool:
        return super().idle and not self._woken

    def act_now(self) -> None:
        """Let the core act at this moment, when it is its turn."""
        self._act_after(0)

    def _act_after(self, delay: int) -> None:
        self._event = Ranked(self._env, delay, self._rank)
        self._event.callbacks.append(self._act)

    def _act(self, event: simpy.Event) -> None:
        """Settle what was paid for, and begin to pay for what comes next."""
        if event is not self._event:
            return
        work = self.working
        for task in self._woken:
            self._enqueue(task)
        self._woken.clear()
        if work is not None:
            work.left -= self.now - self._since
            if not work.left:
                work.advance()
        work = self.choose()
        while work is not None and not work.left:
            work.advance()
            work = self.choose()
        self.working, self._since = work, self.now
        if work is not None:
            work.begun = True
            self._act_after(work.left)

    def choose(self) -> _Activity | None:
        """Find the activity whose turn it is; an interrupt while the guest runs makes the vCPU's task leave it first."""
        task = self.current
        if task is not None and self._urgent is None and self._softirq is None:
            if self.requested and task.mode is _Mode.GUEST:
                task.advance()
            if task.mode is _Mode.ATOMIC:
                return task
        return super().choose()


class _Virtual(_Core):
    """The core of the guest: some of what it does makes the vCPU's task leave the guest.

    Attributes
    ----------
    exits : set of str
        Reasons to leave the guest that were not seen to yet.
    """

    def __init__(self, env: simpy.Environment, setup: CoreSetup, result: VmResult, number: int, virtqueue: _Virtqueue) -> None:
        super().__init__(env, setup, result, number)
        self._virtqueue = virtqueue
        self.exits: set[str] = set()

    def device(self) -> None:
        self._virtqueue.no_interrupt = True
        super().device()

    def interrupted(self, vector: int) -> None:
        self.exits.add(_EOI)
        if vector == _TICK_VECTOR:
            self.exits.add(_TIMER_WRITE)
        elif vector == _DEVICE_VECTOR and not self._virtqueue.msi_x:
            self.exits.add(_ISR_READ)


@dataclass
class _Virtqueue:
    """What host and guest share: entries that the host may fill, filled ones, and flags."""

    available: int
    msi_x: bool
    no_notify: bool = False
    no_interrupt: bool = False
    isr: bool = False
    used: deque[tuple[int, int]] = field(default_factory=deque)


class _Tap:
    """The tap with the qdisc before it.

    Attributes
    ----------
    queue : deque of (int, int)
        Frames to be read.
    stopped : bool
        Whether the tap takes no frames.
    reader : _Task or None
        Who is to be woken by a frame.
    """

    def __init__(self, setup: VmSetup, result: VmResult) -> None:
        self._setup = setup
        self._result = result
        self._qdisc: deque[tuple[int, int]] = deque()
        self.queue: deque[tuple[int, int]] = deque()
        self.stopped = False
        self.reader: _Task | None = None

    def _give(self, frame: tuple[int, int], core: _Core) -> int:
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

    def transmit(self, frame: tuple[int, int], core: _Core) -> int:
        """Send a frame (dev_queue_xmit); returns the cost of what that brings with it."""
        if not self._qdisc and not self.stopped:
            return self._give(frame, core)
        if len(self._qdisc) >= self._setup.tap_limit:
            self._result.qdisc_dropped += 1
        else:
            self._qdisc.append(frame)
        cost = moved = 0
        while self._may_move() and moved < _TAP_QUOTA:
            cost += self._give(self._qdisc.popleft(), core) + (self._setup.tap_xmit if moved else 0)
            moved += 1
        if moved == _TAP_QUOTA and self._may_move():
            core.raise_net_tx()
        return cost

    def net_tx(self, core: _Core) -> _Work:
        """Move frames from the qdisc to the queue, in the transmit softirq."""
        for _ in range(_TAP_QUOTA):
            if not self._may_move():
                return
            yield _Piece(self._setup.tap_xmit)
            if self._may_move():
                cost = self._give(self._qdisc.popleft(), core)
                if cost:
                    yield _Piece(cost)
        if self._may_move():
            core.raise_net_tx()


class _Mutex:
    """QEMU's global mutex."""

    def __init__(self, setup: VmSetup, result: VmResult) -> None:
        self._setup = setup
        self._result = result
        self._holder: _Task | None = None
        self._waiting: list[_Task] = []

    def take(self, task: _Task) -> _Work:
        """Take the mutex, asleep while somebody else has it."""
        while self._holder is not None:
            self._result.mutex_contended += 1
            self._waiting.append(task)
            task.core.sleep()
            yield _LOOK
        self._holder = task

    def release(self, core: _Core) -> int:
        """Release the mutex; returns the cost."""
        self._holder = None
        if not self._waiting:
            return 0
        first = min(self._waiting, key=lambda task: task.number)
        self._waiting.remove(first)
        return self._setup.futex + first.core.wake(first, core)


class _HostDriver:
    """The driver of the physical card, up to the tap."""

    def __init__(self, setup: VmSetup, nic: Nic, tap: _Tap, core: _Physical) -> None:
        self._setup = setup
        self._nic = nic
        self._tap = tap
        self._core = core

    def poll(self) -> _Poll:
        """Make one poll call; returns what it takes from the budget."""
        setup, nic = self._setup, self._nic
        work = cleaned = 0
        while work < setup.host_weight and nic.ring:
            yield _Piece(setup.host_frame)
            cost = self._tap.transmit(nic.ring.popleft(), self._core)
            work += 1
            cleaned += 1
            if cleaned >= setup.refill_batch:
                nic.post(cleaned)
                cleaned = 0
            if cost:
                yield _Piece(cost)
        if cleaned:
            nic.post(cleaned)
        if work >= setup.host_weight:
            return setup.host_weight
        yield _Piece(setup.host.napi_complete)
        self._core.polling = False
        nic.unmask()
        return work if setup.returns_work_done else 0


class _GuestDriver:
    """virtio_net in the guest, up to the capture."""

    def __init__(self, setup: VmSetup, result: VmResult, virtqueue: _Virtqueue, core: _Virtual) -> None:
        self._setup = setup
        self._result = result
        self._virtqueue = virtqueue
        self._core = core
        self._posted = setup.entries

    def poll(self) -> _Poll:
        """Make one poll call; returns the number of frames."""
        setup, queue = self._setup, self._virtqueue
        work = 0
        while True:
            while work < setup.guest_weight and queue.used:
                yield _Piece(setup.guest_frame)
                self._result.latencies.append(self._core.now - queue.used.popleft()[0])
                work += 1
                self._posted -= 1
                if self._posted < setup.entries // 2:
                    yield from self._refill()
            if work >= setup.guest_weight:
                return work
            yield _Piece(setup.guest.napi_complete)
            queue.no_interrupt = False
            if not queue.used:
                self._core.polling = False
                return work
            queue.no_interrupt = True

    def _refill(self) -> _Work:
        """Post all missing buffers and tell the host if it wants to know."""
        missing = self._setup.entries - self._posted
        self._posted = self._setup.entries
        self._virtqueue.available += missing
        kick = not self._virtqueue.no_notify
        self._result.kicks += kick
        yield _Piece(self._setup.refill * missing)
        if kick:
            self._core.exits.add(_KICK)


class _Vm:
    """QEMU with its two tasks: the I/O thread and the vCPU."""

    def __init__(
        self, setup: VmSetup, result: VmResult, tap: _Tap, cores: list[_Physical], guest: _Virtual, virtqueue: _Virtqueue
    ) -> None:
        self._setup = setup
        self._result = result
        self._tap = tap
        self._virtqueue = virtqueue
        self._mutex = _Mutex(setup, result)
        self._told = self._in_select = self._halted = False
        self._io_core, self._vcpu_core, self._guest = cores[setup.io_core], cores[setup.vcpu_core], guest
        self._vcpu = _Task(len(cores), self._vcpu_core, self._run_vcpu())
        self._thread = _Task(len(cores) + 2, self._io_core, self._run_thread())
        for task in (self._vcpu, self._thread):
            task.asleep = False

    # The I/O thread

    def _ready(self) -> bool:
        """Say whether the virtqueue has room for any frame; if it has, the guest need not tell of more."""
        ready = self._virtqueue.available >= self._setup.ready_entries
        self._virtqueue.no_notify = ready
        return ready

    def _run_thread(self) -> _Work:
        """Wait for frames and for kicks, and bring frames from the tap to the guest."""
        tap, core = self._tap, self._io_core
        while True:
            yield _Piece(self._setup.select)
            ready = self._ready()
            if not self._told and not (ready and tap.queue):
                tap.reader = self._thread if ready else None
                self._in_select = True
                core.sleep()
                yield _LOOK
                self._in_select = False
            tap.reader = None
            yield _LOOK
            yield from self._mutex.take(self._thread)
            self._told = False
            frames = 0
            while tap.queue and (self._setup.drains or not frames) and self._ready():
                yield from self._bring_frame()
                frames += 1
            yield from _follow_up(self._mutex.release(core))

    def _bring_frame(self) -> _Work:
        """Bring one frame from the tap to the guest."""
        setup, tap, queue = self._setup, self._tap, self._virtqueue
        lines = -(-(tap.queue[0][1] - _FCS_BYTES) // _LINE_BYTES)
        yield _Piece(setup.read + lines * setup.read_line)
        frame = tap.queue.popleft()
        if tap.stopped:
            tap.stopped = False
            self._result.tap_restarts += 1
            self._io_core.raise_net_tx()
            yield from _follow_up(self._io_core.wake(self._io_core.ksoftirqd, self._io_core))
        yield _Piece(setup.push + lines * setup.push_line, _Mode.USER)
        queue.used.append(frame)
        queue.available -= 1
        if (queue.available == 0 or not queue.no_interrupt) and not queue.isr:
            yield _Piece(setup.inject)
            queue.isr = not setup.msi_x
            self._result.guest_interrupts += 1
            self._guest.requested.add(_DEVICE_VECTOR)
            yield from _follow_up(self._kick_vcpu())

    def _kick_vcpu(self) -> int:
        """Let the vCPU notice a request; returns the cost."""
        if self._halted:
            return self._vcpu_core.wake(self._vcpu, self._io_core)
        if self._vcpu.mode is _Mode.GUEST and self._vcpu_core is not self._io_core:
            self._vcpu_core.request(_RESCHEDULE_VECTOR)
        return 0

    # The vCPU

    def timer(self) -> None:
        """Request a timer interrupt of the guest, unless the guest is idle."""
        if not self._guest.idle:
            self._guest.requested.add(_TICK_VECTOR)
            self._vcpu_core.request(_TIMEOUT_VECTOR)
            if self._halted:
                self._vcpu_core.wake(self._vcpu, None)

    def _run_vcpu(self) -> _Work:
        """Run the guest until it leaves guest mode, see to that, and so on."""
        while True:
            yield _LOOK
            yield from self._run_guest()

    def _run_guest(self) -> _Work:
        """Run the guest, and see to what it is left for."""
        guest, vcpu = self._guest, self._vcpu
        while True:
            guest.working = work = guest.choose()
            if work is None:
                yield from self._halt()
                return
            if work.left:
                work.begun = True
                yield _Piece(work.left, _Mode.GUEST)
                work.left = vcpu.left
            if work.left:
                self._result.exits["external_interrupt"] += 1
                yield _Piece(self._setup.vm_exit, _Mode.ATOMIC)
                return
            work.advance()
            if guest.exits:
                yield from self._exit()
                return

    def _exit(self) -> _Work:
        """Leave the guest for what it did."""
        for reason in _EXIT_ORDER:
            if reason in self._guest.exits:
                self._guest.exits.remove(reason)
                self._result.exits[reason] += 1
                yield _Piece(self._setup.exits[reason])
                if reason in (_ISR_READ, _KICK):
                    yield from self._exit_to_qemu(reason)

    def _exit_to_qemu(self, reason: str) -> _Work:
        """Let QEMU see to an exit, under the mutex."""
        yield _LOOK
        yield from self._mutex.take(self._vcpu)
        yield _Piece(self._setup.user[reason])
        cost = 0
        if reason == _ISR_READ:
            self._virtqueue.isr = False
        else:
            self._told = True
            if self._in_select:
                cost += self._io_core.wake(self._thread, self._vcpu_core)
        yield from _follow_up(cost + self._mutex.release(self._vcpu_core))

    def _halt(self) -> _Work:
        """Sleep until the guest has something to do."""
        self._result.exits[_HLT] += 1
        yield _Piece(self._setup.exits[_HLT])
        if not self._guest.requested:
            self._halted = True
            self._vcpu_core.sleep()
            yield _LOOK
            self._halted = False


def _repeat(
    env: simpy.Environment, first: int, period: int, rank: EventPriority, action: Callable[[], None]
) -> Generator[simpy.Event, None, None]:
    """Do something again and again."""
    yield Ranked(env, (first if first >= 0 else first % period) - int(env.now), rank)
    while True:
        action()
        yield Ranked(env, period, rank)


def _start(env: simpy.Environment, setup: VmSetup, result: VmResult, nic: Nic) -> None:
    """Put host and guest together."""
    cores = [_Physical(env, setup.host, result, n) for n in range(1 + max(setup.receive_core, setup.io_core, setup.vcpu_core))]
    virtqueue = _Virtqueue(setup.entries, setup.msi_x)
    guest = _Virtual(env, setup.guest, result, len(cores) + 1, virtqueue)
    tap = _Tap(setup, result)
    vm = _Vm(setup, result, tap, cores, guest, virtqueue)
    receiver = cores[setup.receive_core]
    receiver.poll = _HostDriver(setup, nic, tap, receiver).poll
    guest.poll = _GuestDriver(setup, result, virtqueue, guest).poll
    nic.notify = lambda: receiver.request(_DEVICE_VECTOR)

    def tick() -> None:
        for core in cores:
            if not core.idle:
                core.request(_TICK_VECTOR)

    def boot(_: simpy.Event) -> None:
        for core in cores:
            core.act_now()

    for core in cores:
        core.transmit = tap.net_tx
    env.process(_repeat(env, setup.host.first_tick, setup.host.tick, TICK, tick))
    env.process(_repeat(env, setup.guest.first_tick, setup.guest.tick, _GUEST_TIMER, vm.timer))
    Ranked(env, -int(env.now), _GUEST_TIMER).callbacks.append(boot)


def vm_receive_path(setup: VmSetup, arrivals: Iterable[tuple[int, int]], end_ps: int) -> VmResult:
    """Simulate reception in a guest from time 0 to an end.

    Frames that arrive exactly at the end have arrived; nothing else that falls on the end has happened.

    Parameters
    ----------
    setup : VmSetup
        The parameters.
    arrivals : iterable of (int, int)
        For each frame the time of its arrival and its bytes, in the order of the times, from 0 on.
    end_ps : int
        The end.

    Returns
    -------
    VmResult
        The counts and latencies.
    """
    start = -1  # Every process is waiting when time 0 comes, so that the order within a moment holds there, too.
    env = simpy.Environment(initial_time=start)
    result = VmResult()
    nic = Nic(env, descriptors=setup.descriptors, buffer_bytes=setup.buffer_bytes, moderation_interval=setup.moderation_interval)
    _start(env, setup, result, nic)
    env.process(nic.source(arrivals))
    env.run(until=Ranked(env, end_ps - start, END))
    result.offered, result.missed, result.interrupts = nic.offered, nic.missed, nic.interrupts
    return result
