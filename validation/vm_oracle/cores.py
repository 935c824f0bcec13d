"""Cores of the oracle: which activity comes first, softirqs, scheduler; physical ones and the virtual one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum
from typing import NamedTuple

import simpy
from simpy.events import EventPriority

from validation.oracle import TICK, Ranked
from validation.vm_oracle.setup import EOI, ISR_READ, TIMER_WRITE, CoreSetup, Virtqueue, VmResult

GUEST_TIMER = EventPriority(TICK + 1)
FIRST_CORE = TICK + 2

TICK_VECTOR, TIMEOUT_VECTOR, RESCHEDULE_VECTOR, DEVICE_VECTOR = range(4)
TIMER, NET_TX, NET_RX = "timer", "net_tx", "net_rx"


class Mode(Enum):
    """How a piece of a task can be interrupted."""

    SYSTEM = "by interrupts; other tasks wait for its end"
    USER = "by interrupts and other tasks"
    GUEST = "by interrupts and other tasks, after an exit"
    FOLLOW_UP = "by interrupts; it goes with the piece before, so other tasks wait for its end even if it has not begun"
    ATOMIC = "not at all"


class Piece(NamedTuple):
    """A piece of work."""

    cost: int = 0
    mode: Mode = Mode.SYSTEM


LOOK = Piece()
"""Nothing; whatever is more urgent comes first."""

Work = Generator[Piece, None, None]
Poll = Generator[Piece, None, int]


def follow_up(cost: int) -> Work:
    """Pay for what the effect of a piece brought with it, then let whatever is more urgent come first."""
    if cost:
        yield Piece(cost, Mode.FOLLOW_UP)
    yield LOOK


class Activity:
    """A generator of pieces, and what is left of its present piece."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.left = 0
        self.mode = Mode.SYSTEM
        self.begun = False

    def advance(self) -> None:
        """Let the present piece have its effect, and get the next one."""
        self.left, self.mode = next(self._work, LOOK)
        self.begun = self.mode is Mode.FOLLOW_UP


class Task(Activity):
    """A task of a physical or virtual core; it starts asleep."""

    def __init__(self, number: int, core: Core, work: Work) -> None:
        super().__init__(work)
        self.number = number
        self.core = core
        self.asleep = True
        self.vruntime = self.ran = self.charged_at = 0
        core.tasks.append(self)


class Core:
    """A core: which of its activities comes first, its softirqs, its scheduler.

    Attributes
    ----------
    requested : set of int
        Vectors of hard interrupts that wait to be taken.
    working : Activity or None
        What the core pays for.
    current : Task or None
        The task that the core was given to.
    poll, polling : callable, bool
        The poll call of the core's NAPI context, and whether that is on the poll list.
    """

    def __init__(self, env: simpy.Environment, setup: CoreSetup, result: VmResult, number: int) -> None:
        self._env = env
        self._setup = setup
        self._result = result
        self.requested: set[int] = set()
        self.working: Activity | None = None
        self.current: Task | None = None
        self.tasks: list[Task] = []
        self.poll: Callable[[], Poll]
        self.transmit: Callable[[Core], Work]
        self.polling = False
        self._urgent: Activity | None = None
        self._softirq: Activity | None = None
        self._after_interrupt = False
        self._pending: set[str] = set()
        self._need_resched = False
        self._min_vruntime = 0
        self.ksoftirqd = Task(number, self, self._ksoftirqd())

    @property
    def now(self) -> int:
        """The time."""
        return int(self._env.now)

    @property
    def idle(self) -> bool:
        """Whether the core has nothing to do."""
        return self.working is None and not self.requested

    # What comes next

    def choose(self) -> Activity | None:
        """Find the activity whose turn it is."""
        if self._urgent is None and self.requested:
            vector = min(self.requested)
            self.requested.remove(vector)
            self._urgent = Activity(self._interrupt(vector))
        if self._urgent is not None:
            return self._urgent
        if self._after_interrupt:
            self._after_interrupt = False
            deferred = self._setup.defers_to_ksoftirqd and not self.ksoftirqd.asleep
            if self._pending and self._softirq is None and not deferred:
                self._softirq = Activity(self._run_softirqs(inline=True))
        return self._softirq or self._choose_task()

    def _choose_task(self) -> Activity | None:
        """Find the task whose turn it is, or the switch to it."""
        task = self.current
        if task is None or (self._need_resched and (not task.begun or task.mode in (Mode.USER, Mode.GUEST))):
            self._schedule()
        return self._urgent or self.current

    def _interrupt(self, vector: int) -> Work:
        """Handle a hard interrupt; its effects come first."""
        setup = self._setup
        if vector == TICK_VECTOR:
            self._pending.add(TIMER)
            self._scheduler_tick()
            yield Piece(setup.timer_interrupt)
        elif vector == TIMEOUT_VECTOR:
            yield Piece(setup.timer_interrupt)
        elif vector == RESCHEDULE_VECTOR:
            yield Piece(setup.reschedule_interrupt)
        else:
            self.device()
            yield Piece(setup.device_interrupt)
        self.interrupted(vector)
        self._urgent = None
        self._after_interrupt = True

    def device(self) -> None:
        """Put the NAPI context on the poll list, unless it is there."""
        if not self.polling:
            self.polling = True
            self._pending.add(NET_RX)

    def interrupted(self, vector: int) -> None:
        """Do what else comes with the end of an interrupt."""

    # Softirqs

    def raise_net_tx(self) -> None:
        """Mark the transmit softirq pending."""
        self._pending.add(NET_TX)

    def _ksoftirqd(self) -> Work:
        """Run softirqs as a task."""
        while True:
            if self._pending:
                self._softirq = Activity(self._run_softirqs(inline=False))
            else:
                self.sleep()
            yield LOOK

    def _run_softirqs(self, inline: bool) -> Work:
        """Run the softirqs, in rounds; an inline run that leaves some behind wakes ksoftirqd."""
        for _ in range(self._setup.max_restart):
            round_, self._pending = self._pending, set()
            yield Piece(self._setup.do_softirq)
            if TIMER in round_:
                yield Piece(self._setup.timer_softirq)
            if NET_TX in round_:
                yield Piece(self._setup.net_tx)
                yield from self.transmit(self)
            if NET_RX in round_:
                yield from self._net_rx_action()
            if not self._pending:
                break
        if inline and self._pending:
            yield Piece(self.wake(self.ksoftirqd, self))
        self._softirq = None

    def _net_rx_action(self) -> Work:
        """Poll until the poll list is empty, the budget is used up or the time is over."""
        setup = self._setup
        budget = setup.budget
        jiffies = (self.now - setup.boot) // setup.tick
        limit = setup.boot + (jiffies + setup.net_rx_jiffies + 1) * setup.tick
        while self.polling:
            if budget <= 0 or self.now >= limit:
                self._pending.add(NET_RX)
                return
            yield Piece(setup.poll)
            budget -= yield from self.poll()
            self._result.polls += 1

    # The scheduler

    def _others(self) -> list[Task]:
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

    def wake(self, task: Task, waker: Core | None) -> int:
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

    def _wake_from_outside(self, task: Task, interrupt: bool) -> None:
        """Have a task woken when this core acts."""
        raise NotImplementedError

    def _enqueue(self, task: Task) -> None:
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
        self._urgent = Activity(self._switch())

    def _switch(self) -> Work:
        """Switch to the current task."""
        yield Piece(self._setup.context_switch)
        self._urgent = None


class Physical(Core):
    """A core of the host: it acts when its piece is paid for, and when something is posted to it."""

    def __init__(self, env: simpy.Environment, setup: CoreSetup, result: VmResult, number: int) -> None:
        super().__init__(env, setup, result, number)
        self._rank = EventPriority(FIRST_CORE + number)
        self._woken: list[Task] = []
        self._since = 0
        self._event: simpy.Event | None = None

    def request(self, vector: int) -> None:
        """Request a hard interrupt."""
        self.requested.add(vector)
        self.act_now()

    def _wake_from_outside(self, task: Task, interrupt: bool) -> None:
        if task not in self._woken:
            self._woken.append(task)
        if interrupt:
            self.requested.add(RESCHEDULE_VECTOR)
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

    def choose(self) -> Activity | None:
        """Find the activity whose turn it is; an interrupt while the guest runs makes the vCPU's task leave it first."""
        task = self.current
        if task is not None and self._urgent is None and self._softirq is None:
            if self.requested and task.mode is Mode.GUEST:
                task.advance()
            if task.mode is Mode.ATOMIC:
                return task
        return super().choose()


class Virtual(Core):
    """The core of the guest: some of what it does makes the vCPU's task leave the guest.

    Attributes
    ----------
    exits : set of str
        Reasons to leave the guest that were not seen to yet.
    """

    def __init__(self, env: simpy.Environment, setup: CoreSetup, result: VmResult, number: int, virtqueue: Virtqueue) -> None:
        super().__init__(env, setup, result, number)
        self._virtqueue = virtqueue
        self.exits: set[str] = set()

    def device(self) -> None:
        self._virtqueue.no_interrupt = True
        super().device()

    def interrupted(self, vector: int) -> None:
        self.exits.add(EOI)
        if vector == TICK_VECTOR:
            self.exits.add(TIMER_WRITE)
        elif vector == DEVICE_VECTOR and not self._virtqueue.msi_x:
            self.exits.add(ISR_READ)
