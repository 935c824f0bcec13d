"""Whole machines on toy costs of a few picoseconds: every piece of work, worked out by hand, on all three clocks.

A log says `start what` for each piece of work of a core; the pieces of a hog, and of a guest as its host sees it, are one while
nothing comes between. Each clock is looked at every picosecond for the log, and left to itself for the accounts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from simnet.agenda import FIRST_CPU, NEVER, NIC, TICKS
from simnet.capture.monitor import NULL
from simnet.capture.socket import MMAP_RING
from simnet.engine.clocks import CLOCKS
from simnet.hardware.cpu import FIRST_DEVICE_VECTOR, PHYSICAL, RESCHEDULE_VECTOR, TIMER_VECTOR
from simnet.kernel.core import CONTEXTS, IN_GUEST, IN_KSOFTIRQD, IN_USER, NOBODY, RUNNABLE, SLEEPING, SWITCH
from simnet.records import allocate
from simnet.system.counters import new_rows
from simnet.system.dispatch import HOG, KSOFTIRQD_THREAD, READER, VCPU
from simnet.system.machine import Machine
from simnet.system.receive import TO_SOCKET
from simnet.system.tasks import add_task
from simnet.traffic.switch import REPLAYED
from simnet.virt.vcpu import HLT, inject

COSTS = {
    "device_interrupt_ps": 5,
    "timer_interrupt_ps": 4,
    "reschedule_interrupt_ps": 3,
    "do_softirq_ps": 2,
    "timer_softirq_ps": 1,
    "poll_ps": 2,
    "napi_complete_ps": 3,
    "receive_ps": 6,
    "context_switch_ps": 7,
    "wake_up_ps": 2,
    "send_ipi_ps": 0,
    "poll_system_call_ps": 4,
    "vm_exit_ps": 8,
}
DELIVER, COPY, COPY_LINE, READ, READ_LINE, DECODE = 1, 2, 1, 5, 1, 2
"""Of the socket: a 64-byte frame takes receive + deliver + copy + one line = 10, then read + one line + decode = 8."""
CPU0, CPU1, GUEST = 0, 1, 2
"""Two physical cores, and the virtual one behind them."""


def host(tick_ps: int, first_tick_ps: int) -> Machine:
    """Two cores and their ksoftirqd, Linux 3.2 rules, CFS times of toy length, no traffic; ticks of both cores fall together."""
    m = allocate(Machine)
    for name, cost in COSTS.items():
        setattr(m.costs, name, cost)
    m.rules[0].max_restart, m.rules[0].net_rx_ticks, m.rules[0].budget, m.rules[0].tick_ps = 10, 3, 300, tick_ps
    m.rules[0].sched_latency_ps, m.rules[0].min_granularity_ps, m.rules[0].wakeup_granularity_ps = 120, 10, 20
    m.physical = 2
    m.agenda.actors = FIRST_CPU + 2
    m.agenda.due_ps[:] = NEVER
    m.agenda.due_ps[TICKS] = first_tick_ps
    for c in (CPU0, CPU1, GUEST):
        m.cpus[c].carrier = PHYSICAL
        m.cores[c].at = c
        m.cores[c].curr = NOBODY
        m.cores[c].next_tick_ps = first_tick_ps
        m.cores[c].ksoftirqd = add_task(m, KSOFTIRQD_THREAD, c, c, IN_KSOFTIRQD, SLEEPING)
    m.nic.vectors[0].guest, m.napis[0].thread = PHYSICAL, NOBODY
    m.link.source, m.link.arriving.arrival_ps = REPLAYED, NEVER
    return m


def add_hog(m: Machine, core: int) -> None:
    """A task that never sleeps."""
    add_task(m, HOG, core, 0, IN_USER, RUNNABLE)


def add_guest(m: Machine, with_hog: bool) -> None:
    """A vCPU on cpu0, and perhaps something for it to do."""
    m.virtual = 1
    m.cpus[GUEST].carrier = add_task(m, VCPU, CPU0, GUEST, IN_GUEST, RUNNABLE)
    m.vcpus[GUEST].exit_ps[HLT] = COSTS["vm_exit_ps"]  # EOI and timer accesses are free here
    m.vcpus[GUEST].slowdown = 1.0
    if with_hog:
        add_hog(m, GUEST)


def add_capture(m: Machine, arrival_ps: int) -> None:
    """A frame of 64 bytes that arrives once, vector on cpu0, read from a packet socket on cpu1."""
    queue, vector, napi, socket = m.nic.port.queues[0], m.nic.vectors[0], m.napis[0], m.sockets[0]
    m.nic.queues, m.nic.refill_batch = 1, 16
    queue.ring.slots, queue.posted = 8, 7
    vector.cpu, vector.number = CPU0, FIRST_DEVICE_VECTOR
    napi.weight, napi.handler = 64, TO_SOCKET
    socket.kind, socket.limit_bytes, socket.snap_bytes, socket.watermark, socket.queue.slots = MMAP_RING, 1 << 30, 256, 1, 4
    socket.deliver_ps, socket.copy_ps, socket.copy_line_ps = DELIVER, COPY, COPY_LINE
    socket.read_ps, socket.read_line_ps = READ, READ_LINE
    socket.reader = add_task(m, READER, CPU1, 0, 0, RUNNABLE)
    m.monitors[0].kind, m.monitors[0].decode_ps = NULL, DECODE
    m.link.arriving.arrival_ps, m.link.arriving.frame_bytes = arrival_ps, 64
    m.agenda.due_ps[NIC] = arrival_ps


class Story(NamedTuple):
    """A machine, what is done to it from outside (time, action), and when it ends."""

    build: Callable[[], Machine]
    end_ps: int
    outside: tuple[tuple[int, Callable[[Machine], Any]], ...] = ()


def interrupted_guest(first_tick_ps: int) -> Machine:
    m = host(tick_ps=100, first_tick_ps=first_tick_ps)
    add_guest(m, with_hog=True)
    add_capture(m, arrival_ps=30)
    return m


def shared_core() -> Machine:
    m = host(tick_ps=50, first_tick_ps=50)
    add_guest(m, with_hog=True)
    add_hog(m, CPU0)
    return m


def lone_guest(with_hog: bool) -> Machine:
    m = host(tick_ps=1000, first_tick_ps=1000)
    add_guest(m, with_hog)
    return m


def guest_in_softirq() -> Machine:
    m = lone_guest(with_hog=True)
    m.costs.timer_softirq_ps = 30
    m.cpus[GUEST].irr = 1 << TIMER_VECTOR
    return m


def kick(now_ps: int) -> tuple[int, Callable[[Machine], Any]]:
    """cpu1 sends the guest a rescheduling interrupt."""
    return now_ps, lambda m: inject(m, GUEST, RESCHEDULE_VECTOR, CPU1, now_ps)


STORIES = {
    "interrupted guest": Story(lambda: interrupted_guest(first_tick_ps=100), 120),
    "tick as a piece ends": Story(lambda: interrupted_guest(first_tick_ps=57), 80),
    "shared core": Story(shared_core, 340),
    "kicked guest": Story(lambda: lone_guest(with_hog=True), 70, (kick(40),)),
    "halted guest": Story(lambda: lone_guest(with_hog=False), 60, (kick(20),)),
    "guest in softirq": Story(guest_in_softirq, 80, (kick(30),)),
}


def doing(m: Machine, c: int) -> tuple[str, int]:
    """What core `c` does, and until when if that is a piece of its own; "-" for a guest that stands still."""
    physical = CPU0 if c == GUEST else c
    if c == GUEST and m.cores[CPU0].at != GUEST:
        return "-", 0
    what = "switch" if m.cores[c].level == SWITCH else CONTEXTS[m.cores[c].context]
    return what, 0 if what in ("idle", "user", "guest") else int(m.cores[physical].end_ps)


def log_of(story: Story, engine: str) -> list[str]:
    """What each of the three cores did, looked at every picosecond."""
    m = story.build()
    clock = CLOCKS[engine](m)
    logs: list[list[str]] = [[], [], []]
    before: list[tuple[str, int]] = [("", 0)] * 3
    outside = dict(story.outside)
    for now in range(story.end_ps):
        if now in outside:
            clock.sample(np.array([now]), new_rows(1))
            outside[now](m)
        clock.sample(np.array([now + 1]), new_rows(1))
        for c in (CPU0, CPU1, GUEST):
            done = doing(m, c)
            if done != before[c]:
                logs[c].append(f"{now} {done[0]}")
                before[c] = done
    return [", ".join(log) for log in logs]


def paid(story: Story, engine: str) -> list[dict[str, int]]:
    """What each of the three cores has spent its time on at the end, the clock left to itself."""
    m = story.build()
    clock = CLOCKS[engine](m)
    for now, act in story.outside:
        clock.sample(np.array([now]), new_rows(1))
        act(m)
    clock.sample(np.array([story.end_ps]), new_rows(1))
    spent = [dict(zip(CONTEXTS, np.array(m.cores[c].paid_ps).tolist(), strict=True)) for c in (CPU0, CPU1, GUEST)]
    return [{context: ps for context, ps in each.items() if ps} for each in spent]


def tell(names: list[str]) -> dict[str, Any]:
    """Log and accounts of stories on the compiled clock, in the form that JSON gives back."""
    return {name: [log_of(STORIES[name], "compiled"), paid(STORIES[name], "compiled")] for name in names}


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """All stories on the compiled clock with the JIT switched off, which takes a process of its own."""
    code = "import json, test_toy_machine as toy; print(json.dumps(toy.tell(list(toy.STORIES))))"
    environment = {**os.environ, "SIMNET_JIT": "0"}
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


Told = Callable[[str], tuple[list[str], list[dict[str, int]]]]


@pytest.fixture(params=["compiled", "simpy", "interpreted"])
def told(request: pytest.FixtureRequest) -> Told:
    """Log and accounts of a story on one of the clocks."""

    def tell_one(name: str) -> tuple[list[str], list[dict[str, int]]]:
        if request.param == "interpreted":
            log, accounts = request.getfixturevalue("interpreted")[name]
            return log, accounts
        return log_of(STORIES[name], request.param), paid(STORIES[name], request.param)

    return tell_one


def test_an_interrupt_that_arrives_while_a_guest_runs(told: Told) -> None:
    log, accounts = told("interrupted guest")
    assert log == [
        # cpu0 switches to the vCPU (7) and enters the guest. At 30 the frame's interrupt forces an exit (8); then the hard
        # interrupt (5) and the softirq: round (2), poll (2), frame (10), wake-up of the reader (2), napi_complete (3); only then
        # the guest again. At 100 the tick: exit (8), hard interrupt (4), round (2), timer softirq (1).
        "0 switch, 7 guest, 30 exits, 38 hardirq, 43 softirq, 45 softirq, 47 softirq, 57 softirq, 59 softirq, 62 guest, "
        "100 exits, 108 hardirq, 112 softirq, 114 softirq, 115 guest",
        # cpu1 switches to the reader (7), which finds nothing, asks (4) and sleeps. It is woken at 57, when the frame is in its
        # ring: switch (7), frame (8), poll() again (4). The tick at 100 leaves an idle core alone.
        "0 switch, 7 system, 11 idle, 57 switch, 64 user, 72 system, 76 idle",
        # The guest switches to its hog (7) when it is entered, and stands still while the host works.
        "0 -, 7 switch, 14 user, 30 -, 62 user, 100 -, 115 user",
    ]
    assert accounts == [
        {"hardirq": 5 + 4, "softirq": 19 + 3, "system": 7, "guest": 23 + 38 + 5, "exits": 8 + 8},
        {"idle": 46 + 44, "system": 7 + 4 + 7 + 4, "user": 8},
        {"system": 7, "user": 16 + 38 + 5},
    ]


def test_a_tick_just_as_a_piece_ends(told: Told) -> None:
    # The frame's piece ends at 57: the frame is in the reader's ring at 57 and cpu1 woken; the wake-up's cost (2) is paid after the
    # tick (4), then napi_complete (3), and a second round (2) for the timer softirq (1). cpu1, idle until 57, has no tick.
    log, _ = told("tick as a piece ends")
    assert log[CPU0].endswith("47 softirq, 57 hardirq, 61 softirq, 63 softirq, 66 softirq, 68 softirq, 69 guest")
    assert log[CPU1].endswith("11 idle, 57 switch, 64 user, 72 system, 76 idle")


def test_a_guest_shares_its_core_with_a_hog(told: Told) -> None:
    # Two runnable tasks: a slice is 120 / 2 = 60, looked at by ticks at 50, 100, ... when their handler begins. Each tick takes 4 +
    # 2 + 1.
    log, accounts = told("shared core")
    assert log == [
        # 50: exit until 58; the vCPU has run 58, not more than 60. 100: exit until 108; it has run 108, so after the softirqs, at
        # 115, the hog gets the core (vCPU at 115, hog at 0). 150: the hog has run 35. 200: 85, more than 60, but at 207 it stands
        # at 92 and the vCPU at 115: it stays and has a new slice. 250: 43 of it. 300: 93, and at 307 it stands at 192: switch to
        # the vCPU.
        "0 switch, 7 guest, 50 exits, 58 hardirq, 62 softirq, 64 softirq, 65 guest, 100 exits, 108 hardirq, 112 softirq, "
        "114 softirq, 115 switch, 122 user, 150 hardirq, 154 softirq, 156 softirq, 157 user, 200 hardirq, 204 softirq, "
        "206 softirq, 207 user, 250 hardirq, 254 softirq, 256 softirq, 257 user, 300 hardirq, 304 softirq, 306 softirq, "
        "307 switch, 314 guest",
        "0 idle",
        "0 -, 7 switch, 14 user, 50 -, 65 user, 100 -, 314 user",
    ]
    assert accounts == [
        {"hardirq": 6 * 4, "softirq": 6 * 3, "system": 3 * 7, "user": 28 + 43 + 43 + 43, "guest": 43 + 35 + 26, "exits": 2 * 8},
        {"idle": 340},
        {"system": 7, "user": 36 + 35 + 26},
    ]


def test_an_interrupt_for_a_halted_guest_wakes_its_task(told: Told) -> None:
    log, _ = told("halted guest")
    # Entered at 7, the guest has nothing to do and halts. The interrupt at 20 wakes the vCPU: switch (7), then the guest's handler
    # (3).
    assert log[CPU0].startswith("0 switch, 7 ")
    assert "20 switch, 27 guest, 30 " in log[CPU0]
    assert "27 hardirq, 30 -" in log[GUEST]


def test_a_guest_that_halts_pays_an_exit(told: Told) -> None:
    log, _ = told("halted guest")
    assert log[CPU0] == "0 switch, 7 exits, 15 idle, 20 switch, 27 guest, 30 exits, 38 idle"


def test_an_interrupt_for_a_running_guest_kicks_it_out(told: Told) -> None:
    log, _ = told("kicked guest")
    # The IPI at 40 forces an exit (8), its handler runs on the host (3), then the guest is entered with the vector: its own handler
    # (3).
    assert log == [
        "0 switch, 7 guest, 40 exits, 48 hardirq, 51 guest",
        "0 idle",
        "0 -, 7 switch, 14 user, 40 -, 51 hardirq, 54 user",
    ]


def test_a_guest_in_softirq_is_kicked_as_well(told: Told) -> None:
    log, _ = told("guest in softirq")
    # Entered at 7 with its timer's vector: handler (4), round (2), timer softirq (30) from 13. kvm_vcpu_kick at 30 does not ask
    # what the guest does.
    assert log[GUEST].startswith("0 -, 7 hardirq, 11 softirq, 13 softirq, 30 -")


@pytest.mark.parametrize("name", STORIES)
def test_all_clocks_tell_the_same(name: str, interpreted: dict[str, Any]) -> None:
    assert tell([name])[name] == [log_of(STORIES[name], "simpy"), paid(STORIES[name], "simpy")] == interpreted[name]
