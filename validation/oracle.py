"""A small, slow and independent model of packet reception, to check a faster one against.

The model is written with SimPy the way one would write it without any thought of speed: every
frame that arrives is an event, and so is every piece of work the processor does.  It knows one
network card with one receive queue and one interrupt vector, and one processor core that runs
hard interrupts, softirqs and ksoftirqd.  Whatever reaches the kernel tap counts as captured.

What is left out: further queues and cores, other tasks, idle states (the core wakes in no time),
the time the card needs to move a frame into memory, and everything behind the tap.

All times are integers, in picoseconds.  Things that happen at the same time take this order:
arrivals, the end of the simulation, the interrupt vector, the timer tick, the core.  When a piece
of softirq work ends, everything in that run which costs nothing follows at once (a look at the
ring, the end of a round, the end of the run).  A hard interrupt that is pending by then is taken
before the next piece of the run, and before the core turns to anything outside the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

import simpy
from simpy.events import EventPriority

__all__ = ["ARRIVAL", "END", "TICK", "VECTOR", "Nic", "OracleResult", "OracleSetup", "Ranked", "receive_path"]

# Ranks among the events of one moment; the core's own events have SimPy's normal rank, behind all of these.
ARRIVAL = EventPriority(-4)
END = EventPriority(-3)
VECTOR = EventPriority(-2)
TICK = EventPriority(-1)

_Work = Generator[simpy.Event, None, None]


@dataclass(frozen=True, kw_only=True)
class OracleSetup:
    """Parameters of the card, the kernel and the core; times and costs are in picoseconds.

    Attributes
    ----------
    descriptors : int
        Size of the receive ring; one descriptor always stays unused.
    refill_batch : int
        Cleaned descriptors that are posted again together.
    buffer_bytes : int
        Size of the packet buffer on the card, in bytes.
    weight : int
        Most frames that one poll call may take.
    budget : int
        Frames that one pass over the poll list may take.
    returns_work_done : bool
        Whether a poll call that completes is charged for its frames.
    moderation_interval : int
        Least time between two device interrupts.
    max_restart : int
        Most rounds in one run of the softirqs.
    tick, first_tick : int
        Period of the timer tick, and the time of one tick.
    boot : int
        Time from which jiffies are counted; it may be negative.
    net_rx_jiffies : int
        Jiffies that one pass over the poll list may take.
    defers_to_ksoftirqd : bool
        Whether no inline run starts while ksoftirqd is runnable.
    device_interrupt, timer_interrupt : int
        Cost of a hard interrupt.
    do_softirq : int
        Cost of starting one round of softirqs.
    timer_softirq : int
        Cost of the timer softirq.
    poll, napi_complete : int
        Cost of entering a poll call, and of leaving polling.
    frame : int
        Cost of one frame from its descriptor until it is captured.
    context_switch, wake_up : int
        Cost of switching to ksoftirqd, and of waking it.
    """

    descriptors: int
    refill_batch: int = 16
    buffer_bytes: int
    weight: int = 64
    budget: int = 300
    returns_work_done: bool = True
    moderation_interval: int
    max_restart: int = 10
    tick: int
    first_tick: int
    boot: int = 0
    net_rx_jiffies: int = 2
    defers_to_ksoftirqd: bool = False
    device_interrupt: int
    timer_interrupt: int
    do_softirq: int
    timer_softirq: int
    poll: int
    napi_complete: int
    frame: int
    context_switch: int
    wake_up: int


@dataclass
class OracleResult:
    """What happened until the end of the simulation.

    Attributes
    ----------
    offered : int
        Frames that arrived up to and including the end.
    captured, missed : int
        Frames that reached the tap, and frames lost because the packet buffer was full.
    in_flight : int
        Frames still in the packet buffer or in the ring.
    interrupts, polls : int
        Device interrupts fired, and poll calls that came to their end.
    latencies : list of int
        For each captured frame, in order, the time from its arrival to its capture.
    """

    offered: int = 0
    captured: int = 0
    missed: int = 0
    in_flight: int = 0
    interrupts: int = 0
    polls: int = 0
    latencies: list[int] = field(default_factory=list)


class Ranked(simpy.Event):
    """A timeout with a rank of its own among the events of its moment."""

    def __init__(self, env: simpy.Environment, delay: int, rank: EventPriority) -> None:
        if delay < 0:
            raise ValueError("an event would lie in the past")
        super().__init__(env)
        self._ok = True
        self._value = None
        env.schedule(self, rank, delay)


class Nic:
    """A network card: a packet buffer, a ring of descriptors and one moderated interrupt vector.

    Transfers take no time.  The card does not know frames of different kinds or filters.

    Parameters
    ----------
    env : simpy.Environment
        The simulation the card is part of.
    descriptors : int
        Size of the receive ring; one descriptor always stays unused.
    buffer_bytes : int
        Size of the packet buffer.
    moderation_interval : int
        Least time between two device interrupts.

    Attributes
    ----------
    ring : deque of (int, int)
        Arrival times and bytes of the frames in the ring.
    offered, missed, interrupts : int
        Frames that arrived, frames lost because the packet buffer was full, interrupts fired.
    notify : callable
        Called when the vector fires.
    """

    def __init__(self, env: simpy.Environment, *, descriptors: int, buffer_bytes: int, moderation_interval: int) -> None:
        self._env = env
        self._buffer_bytes = buffer_bytes
        self._interval = moderation_interval
        self._buffer: deque[tuple[int, int]] = deque()
        self._buffered = 0
        self._posted = descriptors - 1
        self._masked = False
        self._about_to_fire = False
        self._allowed_at = 0
        self.ring: deque[tuple[int, int]] = deque()
        self.offered = self.missed = self.interrupts = 0
        self.notify: Callable[[], None]

    def source(self, arrivals: Iterable[tuple[int, int]]) -> _Work:
        """Let the frames arrive, one event each."""
        before = 0
        yield Ranked(self._env, before - int(self._env.now), ARRIVAL)
        for arrival, frame_bytes in arrivals:
            yield Ranked(self._env, arrival - before, ARRIVAL)
            before = arrival
            self._arrive(arrival, frame_bytes)

    def _arrive(self, arrival: int, frame_bytes: int) -> None:
        """Put a frame into the ring, else into the packet buffer, else drop it."""
        self.offered += 1
        if self._posted and not self._buffer:
            self._posted -= 1
            self.ring.append((arrival, frame_bytes))
            self._check_vector()
        elif self._buffered + frame_bytes <= self._buffer_bytes:
            self._buffer.append((arrival, frame_bytes))
            self._buffered += frame_bytes
        else:
            self.missed += 1

    def post(self, descriptors: int) -> None:
        """Post descriptors again and move waiting frames into the ring."""
        self._posted += descriptors
        while self._posted and self._buffer:
            arrival, frame_bytes = self._buffer.popleft()
            self._buffered -= frame_bytes
            self._posted -= 1
            self.ring.append((arrival, frame_bytes))
        self._check_vector()

    def unmask(self) -> None:
        """Let the vector fire again."""
        self._masked = False
        self._check_vector()

    def _check_vector(self) -> None:
        """Have the vector fire as soon as moderation allows, if there is anything to fire for.

        Once that is settled nothing can prevent it: only polling empties the ring or masks the
        vector, and polling waits for the interrupt.
        """
        if self._masked or self._about_to_fire or not self.ring:
            return
        self._about_to_fire = True
        fire = Ranked(self._env, max(self._allowed_at - int(self._env.now), 0), VECTOR)
        fire.callbacks.append(self._fire)

    def _fire(self, _: simpy.Event) -> None:
        """Raise the device interrupt and mask the vector."""
        self._about_to_fire = False
        self._masked = True
        self._allowed_at = int(self._env.now) + self._interval
        self.interrupts += 1
        self.notify()

    def in_flight(self) -> int:
        """Count the frames that are on the card or in the ring."""
        return len(self.ring) + len(self._buffer)


class _Core:
    """A processor core with its hard interrupts, its softirqs and ksoftirqd.

    The core is one process.  Softirq work can be interrupted by hard interrupts; hard interrupts
    and the context switch cannot be interrupted.  There are two softirqs, the timer's and the
    receive one, and one NAPI context.  No other task competes with ksoftirqd.

    Parameters
    ----------
    env : simpy.Environment
        The simulation the core is part of.
    setup : OracleSetup
        The parameters.
    result : OracleResult
        Where captured frames and poll calls are counted.
    nic : Nic
        The card that the core serves.
    """

    def __init__(self, env: simpy.Environment, setup: OracleSetup, result: OracleResult, nic: Nic) -> None:
        self._env = env
        self._setup = setup
        self._result = result
        self._nic = nic
        nic.notify = self._request_device
        self._timer_requested = False
        self._device_requested = False
        self._timer_pending = False
        self._net_rx_pending = False
        self._on_poll_list = False
        self._ksoftirqd_awake = False
        self._idle = False
        self._doorbell = env.event()
        self._interruptible_until = 0
        self._process = env.process(self._run())
        env.process(self._ticks())

    # Requests for hard interrupts

    def _ticks(self) -> _Work:
        """Request a timer interrupt at every tick that does not find the core idle."""
        env, tick = self._env, self._setup.tick
        first = self._setup.first_tick
        yield Ranked(env, (first if first >= 0 else first % tick) - int(env.now), TICK)
        while True:
            if not self._idle:
                self._alert()
                self._timer_requested = True
            yield Ranked(env, tick, TICK)

    def _request_device(self) -> None:
        """Request a device interrupt."""
        self._alert()
        self._device_requested = True

    def _alert(self) -> None:
        """Tell the core of the first request: wake it, or interrupt softirq work that is not just ending.

        The core hears of it through an event of normal rank, when all requests of the moment are there.
        """
        if self._timer_requested or self._device_requested:
            return
        if self._idle:
            self._idle = False
            self._doorbell.succeed()
        elif self._interruptible_until > self._env.now:
            self._env.timeout(0).callbacks.append(self._preempt)

    def _preempt(self, _: simpy.Event) -> None:
        """Interrupt the softirq work that is under way."""
        self._process.interrupt()

    # What the core does

    def _run(self) -> _Work:
        """Do, for ever, what has the highest priority: hard interrupts, softirqs, ksoftirqd, nothing."""
        setup = self._setup
        current = False
        while True:
            if self._timer_requested or self._device_requested:
                yield from self._hard_interrupts()
                if self._softirq_pending() and not (setup.defers_to_ksoftirqd and self._ksoftirqd_awake):
                    yield from self._run_softirqs(inline=True)
            elif not self._ksoftirqd_awake:
                self._doorbell = self._env.event()
                self._idle = True
                yield self._doorbell
            elif not current:
                yield self._env.timeout(setup.context_switch)
                current = True
            elif self._softirq_pending():
                yield from self._run_softirqs(inline=False)
            else:
                self._ksoftirqd_awake = current = False

    def _softirq_pending(self) -> bool:
        """Say whether any softirq is marked pending."""
        return self._timer_pending or self._net_rx_pending

    def _hard_interrupts(self) -> _Work:
        """Take all hard interrupts that are requested, the timer's first; handlers act when they begin."""
        while True:
            if self._timer_requested:
                self._timer_requested = False
                self._timer_pending = True
                yield self._env.timeout(self._setup.timer_interrupt)
            elif self._device_requested:
                self._device_requested = False
                self._on_poll_list = self._net_rx_pending = True
                yield self._env.timeout(self._setup.device_interrupt)
            else:
                return

    def _softirq_work(self, cost: int) -> _Work:
        """Do one piece of softirq work, with hard interrupts before and in between."""
        env = self._env
        while True:
            if self._timer_requested or self._device_requested:
                yield from self._hard_interrupts()
            self._interruptible_until = int(env.now) + cost
            try:
                yield env.timeout(cost)
                return
            except simpy.Interrupt:
                cost = self._interruptible_until - int(env.now)
                self._interruptible_until = 0

    def _run_softirqs(self, inline: bool) -> _Work:
        """Run the softirqs, in rounds; an inline run that leaves some behind wakes ksoftirqd."""
        setup = self._setup
        rounds = setup.max_restart
        while True:
            timer, net_rx = self._timer_pending, self._net_rx_pending
            self._timer_pending = self._net_rx_pending = False
            yield from self._softirq_work(setup.do_softirq)
            if timer:
                yield from self._softirq_work(setup.timer_softirq)
            if net_rx:
                yield from self._net_rx_action()
            rounds -= 1
            if not self._softirq_pending():
                return
            if rounds <= 0:
                break
        if inline and not self._ksoftirqd_awake:
            self._ksoftirqd_awake = True
            yield from self._softirq_work(setup.wake_up)

    def _net_rx_action(self) -> _Work:
        """Poll until the poll list is empty, the budget is used up or the time is over."""
        setup, env = self._setup, self._env
        budget = setup.budget
        jiffies = (int(env.now) - setup.boot) // setup.tick
        limit = setup.boot + (jiffies + setup.net_rx_jiffies + 1) * setup.tick
        while self._on_poll_list:
            if budget <= 0 or env.now >= limit:
                self._net_rx_pending = True
                return
            budget -= yield from self._poll()

    def _poll(self) -> Generator[simpy.Event, None, int]:
        """Make one poll call.

        Returns
        -------
        int
            What the call takes from the budget.
        """
        setup, nic, env = self._setup, self._nic, self._env
        latencies = self._result.latencies
        yield from self._softirq_work(setup.poll)
        work = cleaned = 0
        while work < setup.weight and nic.ring:
            yield from self._softirq_work(setup.frame)
            latencies.append(int(env.now) - nic.ring.popleft()[0])
            work += 1
            cleaned += 1
            if cleaned >= setup.refill_batch:
                nic.post(cleaned)
                cleaned = 0
        if cleaned:
            nic.post(cleaned)
        if work < setup.weight:
            yield from self._softirq_work(setup.napi_complete)
            self._on_poll_list = False
            nic.unmask()
            taken = work if setup.returns_work_done else 0
        else:
            taken = setup.weight
        self._result.polls += 1
        return taken


def receive_path(setup: OracleSetup, arrivals: Iterable[tuple[int, int]], end_ps: int) -> OracleResult:
    """Simulate one receive queue from time 0 to an end.

    Frames that arrive exactly at the end have arrived; nothing else that falls on the end has
    happened.

    Parameters
    ----------
    setup : OracleSetup
        The parameters.
    arrivals : iterable of (int, int)
        For each frame the time of its arrival and its bytes, in the order of the times, from 0
        on.  They are taken one at a time, up to the first one behind the end.
    end_ps : int
        The end.

    Returns
    -------
    OracleResult
        The counts and latencies.

    Raises
    ------
    ValueError
        If an arrival precedes the one before it or time 0, or if the end precedes time 0.
    """
    if end_ps < 0:
        raise ValueError("the end must not lie before time 0")
    start = -1  # Every process is waiting when time 0 comes, so that the order within a moment holds there, too.
    env = simpy.Environment(initial_time=start)
    result = OracleResult()
    nic = Nic(
        env,
        descriptors=setup.descriptors,
        buffer_bytes=setup.buffer_bytes,
        moderation_interval=setup.moderation_interval,
    )
    _Core(env, setup, result, nic)
    env.process(nic.source(arrivals))
    env.run(until=Ranked(env, end_ps - start, END))
    result.offered, result.missed, result.interrupts = nic.offered, nic.missed, nic.interrupts
    result.captured = len(result.latencies)
    result.in_flight = nic.in_flight()
    return result
