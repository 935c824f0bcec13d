"""The oracle put together: I/O thread, vCPU with its exits, timers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

import simpy
from simpy.events import EventPriority

from validation.oracle import END, TICK, Nic, Ranked
from validation.vm_oracle.cores import (
    DEVICE_VECTOR,
    GUEST_TIMER,
    LOOK,
    RESCHEDULE_VECTOR,
    TICK_VECTOR,
    TIMEOUT_VECTOR,
    Mode,
    Physical,
    Piece,
    Task,
    Virtual,
    Work,
    follow_up,
)
from validation.vm_oracle.drivers import GuestDriver, HostDriver
from validation.vm_oracle.setup import EOI, HLT, ISR_READ, KICK, TIMER_WRITE, Virtqueue, VmResult, VmSetup
from validation.vm_oracle.tap import Mutex, Tap

EXIT_ORDER = (ISR_READ, KICK, TIMER_WRITE, EOI)
LINE_BYTES, FCS_BYTES = 64, 4


class Vm:
    """QEMU with its two tasks: the I/O thread and the vCPU."""

    def __init__(
        self, setup: VmSetup, result: VmResult, tap: Tap, cores: list[Physical], guest: Virtual, virtqueue: Virtqueue
    ) -> None:
        self._setup = setup
        self._result = result
        self._tap = tap
        self._virtqueue = virtqueue
        self._mutex = Mutex(setup, result)
        self._told = self._in_select = self._halted = False
        self._io_core, self._vcpu_core, self._guest = cores[setup.io_core], cores[setup.vcpu_core], guest
        self._vcpu = Task(len(cores), self._vcpu_core, self._run_vcpu())
        self._thread = Task(len(cores) + 2, self._io_core, self._run_thread())
        for task in (self._vcpu, self._thread):
            task.asleep = False

    # The I/O thread

    def _ready(self) -> bool:
        """Say whether the virtqueue has room for any frame; if it has, the guest need not tell of more."""
        ready = self._virtqueue.available >= self._setup.ready_entries
        self._virtqueue.no_notify = ready
        return ready

    def _run_thread(self) -> Work:
        """Wait for frames and for kicks, and bring frames from the tap to the guest."""
        tap, core = self._tap, self._io_core
        while True:
            yield Piece(self._setup.select)
            ready = self._ready()
            if not self._told and not (ready and tap.queue):
                tap.reader = self._thread if ready else None
                self._in_select = True
                core.sleep()
                yield LOOK
                self._in_select = False
            tap.reader = None
            yield LOOK
            yield from self._mutex.take(self._thread)
            self._told = False
            frames = 0
            while tap.queue and (self._setup.drains or not frames) and self._ready():
                yield from self._bring_frame()
                frames += 1
            yield from follow_up(self._mutex.release(core))

    def _bring_frame(self) -> Work:
        """Bring one frame from the tap to the guest."""
        setup, tap, queue = self._setup, self._tap, self._virtqueue
        lines = -(-(tap.queue[0][1] - FCS_BYTES) // LINE_BYTES)
        yield Piece(setup.read + lines * setup.read_line)
        frame = tap.queue.popleft()
        if tap.stopped:
            tap.stopped = False
            self._result.tap_restarts += 1
            self._io_core.raise_net_tx()
            yield from follow_up(self._io_core.wake(self._io_core.ksoftirqd, self._io_core))
        yield Piece(setup.push + lines * setup.push_line, Mode.USER)
        queue.used.append(frame)
        queue.available -= 1
        if (queue.available == 0 or not queue.no_interrupt) and not queue.isr:
            yield Piece(setup.inject)
            queue.isr = not setup.msi_x
            self._result.guest_interrupts += 1
            self._guest.requested.add(DEVICE_VECTOR)
            yield from follow_up(self._kick_vcpu())

    def _kick_vcpu(self) -> int:
        """Let the vCPU notice a request; returns the cost."""
        if self._halted:
            return self._vcpu_core.wake(self._vcpu, self._io_core)
        if self._vcpu.mode is Mode.GUEST and self._vcpu_core is not self._io_core:
            self._vcpu_core.request(RESCHEDULE_VECTOR)
        return 0

    # The vCPU

    def timer(self) -> None:
        """Request a timer interrupt of the guest, unless the guest is idle."""
        if not self._guest.idle:
            self._guest.requested.add(TICK_VECTOR)
            self._vcpu_core.request(TIMEOUT_VECTOR)
            if self._halted:
                self._vcpu_core.wake(self._vcpu, None)

    def _run_vcpu(self) -> Work:
        """Run the guest until it leaves guest mode, see to that, and so on."""
        while True:
            yield LOOK
            yield from self._run_guest()

    def _run_guest(self) -> Work:
        """Run the guest, and see to what it is left for."""
        guest, vcpu = self._guest, self._vcpu
        while True:
            guest.working = work = guest.choose()
            if work is None:
                yield from self._halt()
                return
            if work.left:
                work.begun = True
                yield Piece(work.left, Mode.GUEST)
                work.left = vcpu.left
            if work.left:
                self._result.exits["external_interrupt"] += 1
                yield Piece(self._setup.vm_exit, Mode.ATOMIC)
                return
            work.advance()
            if guest.exits:
                yield from self._exit()
                return

    def _exit(self) -> Work:
        """Leave the guest for what it did."""
        for reason in EXIT_ORDER:
            if reason in self._guest.exits:
                self._guest.exits.remove(reason)
                self._result.exits[reason] += 1
                yield Piece(self._setup.exits[reason])
                if reason in (ISR_READ, KICK):
                    yield from self._exit_to_qemu(reason)

    def _exit_to_qemu(self, reason: str) -> Work:
        """Let QEMU see to an exit, under the mutex."""
        yield LOOK
        yield from self._mutex.take(self._vcpu)
        yield Piece(self._setup.user[reason])
        cost = 0
        if reason == ISR_READ:
            self._virtqueue.isr = False
        else:
            self._told = True
            if self._in_select:
                cost += self._io_core.wake(self._thread, self._vcpu_core)
        yield from follow_up(cost + self._mutex.release(self._vcpu_core))

    def _halt(self) -> Work:
        """Sleep until the guest has something to do."""
        self._result.exits[HLT] += 1
        yield Piece(self._setup.exits[HLT])
        if not self._guest.requested:
            self._halted = True
            self._vcpu_core.sleep()
            yield LOOK
            self._halted = False


def repeat(
    env: simpy.Environment, first: int, period: int, rank: EventPriority, action: Callable[[], None]
) -> Generator[simpy.Event, None, None]:
    """Do something again and again."""
    yield Ranked(env, (first if first >= 0 else first % period) - int(env.now), rank)
    while True:
        action()
        yield Ranked(env, period, rank)


def assemble(env: simpy.Environment, setup: VmSetup, result: VmResult, nic: Nic) -> None:
    """Put host and guest together."""
    cores = [Physical(env, setup.host, result, n) for n in range(1 + max(setup.receive_core, setup.io_core, setup.vcpu_core))]
    virtqueue = Virtqueue(setup.entries, setup.msi_x)
    guest = Virtual(env, setup.guest, result, len(cores) + 1, virtqueue)
    tap = Tap(setup, result)
    vm = Vm(setup, result, tap, cores, guest, virtqueue)
    receiver = cores[setup.receive_core]
    receiver.poll = HostDriver(setup, nic, tap, receiver).poll
    guest.poll = GuestDriver(setup, result, virtqueue, guest).poll
    nic.notify = lambda: receiver.request(DEVICE_VECTOR)

    def tick() -> None:
        for core in cores:
            if not core.idle:
                core.request(TICK_VECTOR)

    def boot(_: simpy.Event) -> None:
        for core in cores:
            core.act_now()

    for core in cores:
        core.transmit = tap.net_tx
    env.process(repeat(env, setup.host.first_tick, setup.host.tick, TICK, tick))
    env.process(repeat(env, setup.guest.first_tick, setup.guest.tick, GUEST_TIMER, vm.timer))
    Ranked(env, -int(env.now), GUEST_TIMER).callbacks.append(boot)


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
    assemble(env, setup, result, nic)
    env.process(nic.source(arrivals))
    env.run(until=Ranked(env, end_ps - start, END))
    result.offered, result.missed, result.interrupts = nic.offered, nic.missed, nic.interrupts
    return result
