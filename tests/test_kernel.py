"""Kernel rules on one core of an eight-CPU host: NAPI, softirqs, ksoftirqd, ticks, CFS, C-states.

Expected times are arithmetic from kernel/softirq.c, net/core/dev.c, kernel/sched_fair.c, ixgbe and igb of Linux 3.2 (2.6.37).
Unless a test says otherwise only frames cost time, and jiffies begin at time 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from simnet.agenda import NEVER, NIC, TICKS
from simnet.engine.simulation import Simulation
from simnet.hardware.costs import Costs
from simnet.kernel.core import CONTEXTS, IN_USER, RUNNABLE
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.system.dispatch import HOG
from simnet.system.tasks import add_task
from simnet.system.topology import cfs_factor
from simnet.traffic.switch import REPLAYED, load_replay
from simnet.units import PS_PER_MS, PS_PER_NS, PS_PER_S, PS_PER_US

MS, US, NS = PS_PER_MS, PS_PER_US, PS_PER_NS
WEIGHT, BUDGET_FRAMES, MAX_RESTART = 64, 320, 10
"""ixgbe's weight, the frames of a net_rx_action of full polls (budget 300, looked at before each), MAX_SOFTIRQ_RESTART."""


def host(frame_ns: int = 1000, costs_ns: dict[str, int] | None = None, **changes: Any) -> Simulation:
    """A host without traffic. Frames cost `frame_ns`, the rest what `costs_ns` says; in settings `__` stands for the dots."""
    scenario = load(
        "paper/bare-metal",
        {
            "host.kernel": "3.2",
            "host.c_states": False,
            "host.nic.queues": 1,
            "host.nic.ring_descriptors": 4096,
            "host.nic.moderation": "fixed",
            "host.nic.moderation_us": 0,
            **{path.replace("__", "."): value for path, value in changes.items()},
        },
    )
    made = Simulation(scenario, resolve(scenario), seed=1, replication=0)
    m = made.machine
    for name in Costs.__annotations__:
        setattr(m.costs, name, (costs_ns or {}).get(name.removesuffix("_ps"), 0) * NS)
    m.costs.receive_ps = frame_ns * NS
    m.tap.deliver_ps = m.monitors[0].decode_ps = 0
    for name in ("deliver_ps", "copy_ps", "copy_line_ps", "read_ps", "read_line_ps"):
        setattr(m.sockets[0], name, 0)
    m.boot_ps = 0
    m.agenda.due_ps[TICKS] = m.rules[0].tick_ps
    for c in range(m.physical):
        m.cores[c].next_tick_ps = m.rules[0].tick_ps
    m.link.source, m.link.arriving.arrival_ps, m.agenda.due_ps[NIC] = REPLAYED, NEVER, NEVER
    m.nic.rss.replayed = 1
    for q in range(m.nic.queues):
        m.nic.vectors[q].masked = 0
        m.nic.rss.by_flow[q] = q
    return made


def receive(made: Simulation, arrivals_ps: Sequence[int], flows: Sequence[int] | None = None) -> None:
    """Frames of 64 bytes arrive at these times; flow q goes to queue q."""
    times = np.array(arrivals_ps, dtype=np.int64)
    load_replay(made.machine.link, times, np.full(len(times), 64), np.array(flows or [0] * len(times), dtype=np.int64))
    made.machine.agenda.due_ps[NIC] = min(made.machine.agenda.due_ps[NIC], times[0])


def add_hogs(made: Simulation, count: int, core: int = 0) -> list[Any]:
    """Tasks that never sleep."""
    return [made.machine.tasks[add_task(made.machine, HOG, core, 0, IN_USER, RUNNABLE)] for _ in range(count)]


def row_at(made: Simulation, now_ps: int) -> Any:
    """Counters when everything due before `now_ps` has happened."""
    made.run([now_ps])
    return made.rows[-1]


def spent(made: Simulation, core: int = 0) -> dict[str, int]:
    """Time in ns by context of a core; contexts without any are left out."""
    paid = np.array(made.machine.cores[core].paid_ps) // NS
    return {context: ns for context, ns in zip(CONTEXTS, paid.tolist(), strict=True) if ns and context != "idle"}


# net_rx_action (net/core/dev.c) and the drivers' poll routines.


def test_budget_and_weight() -> None:
    # 640 frames: two net_rx_actions of 5 full polls each end with the budget at 300 - 320 = -20; a third finds the ring empty.
    made = host(costs_ns={"poll": 10, "do_softirq": 7, "napi_complete": 3})
    receive(made, [US] * 640)
    row = row_at(made, 5 * MS)
    assert (row.captured, row.polls, row.time_squeezes) == (640, 11, 2)
    batches = made.histograms_now().batches
    assert (batches[WEIGHT], batches[0]) == (10, 1)
    assert spent(made) == {"softirq": 640 * 1000 + 11 * 10 + 3 * 7 + 3}


@pytest.mark.parametrize(("frames", "polls"), [(63, 1), (64, 2), (65, 2), (128, 3)])
def test_a_poll_that_reaches_its_weight_is_not_complete(frames: int, polls: int) -> None:
    made = host()
    receive(made, [US] * frames)
    assert row_at(made, MS).polls == polls


@pytest.mark.parametrize(
    ("parameters", "squeezes"),
    [
        pytest.param("e5520-linux-3.2", 0, id="ixgbe_poll returns 0 when done"),
        pytest.param("l5520-linux-2.6.37", 1, id="igb_poll returns its work, and 5 * 60 is all of 300"),
    ],
)
def test_what_complete_polls_take_from_the_budget(parameters: str, squeezes: int) -> None:
    made = host(parameters=parameters, host__nic__queues=6)
    receive(made, [US] * 6 * 60, flows=[*range(6)] * 60)
    row = row_at(made, MS)
    assert (row.captured, row.polls, row.time_squeezes) == (6 * 60, 6, squeezes)


def test_full_polls_take_turns() -> None:
    # 128 frames in queue 0, 64 in queue 1: polls 0, 1, 0, and then 1 and 0 find their rings empty.
    made = host(host__nic__queues=2)
    receive(made, [US] * 192, flows=[1] * 128 + [0] * 64)  # ixgbe fills RETA from the end of each register
    polled = []
    for polls in (1, 2, 3):
        row_at(made, US + polls * 64 * US + 1)
        polled.append(tuple(int(made.machine.napis[q].packets) for q in (0, 1)))
    assert polled == [(64, 0), (64, 64), (128, 64)]


@pytest.mark.parametrize(
    ("hz", "arrival_us", "squeezed_us"),
    [
        pytest.param(1000, 1, 1 + 3 * 1280, id="3 ms are over after the third poll"),
        pytest.param(1000, 900, 900 + 2 * 1280, id="jiffies count, not time: 3 ms again"),
        pytest.param(1000, 450, 450 + 2 * 1280, id="3010 us: after the second poll"),
        pytest.param(1000, 430, 430 + 3 * 1280, id="2990 us: a third poll"),
        pytest.param(250, 1, 1 + 5 * 1280, id="the budget is over first"),
    ],
)
def test_the_time_limit_is_two_jiffies_and_what_is_left_of_the_first(hz: int, arrival_us: int, squeezed_us: int) -> None:
    # time_after(jiffies, start + 2), looked at before each poll of 64 * 20 us.
    made = host(frame_ns=20_000, host__hz=hz)
    receive(made, [arrival_us * US] * 1000)
    assert row_at(made, squeezed_us * US).time_squeezes == 0
    assert row_at(made, squeezed_us * US + 1).time_squeezes == 1


# __do_softirq, irq_exit and run_ksoftirqd (kernel/softirq.c).


@pytest.mark.parametrize(("frames", "wakeups"), [(3199, 0), (3200, 1)])
def test_ten_rounds_then_ksoftirqd(frames: int, wakeups: int) -> None:
    # The tenth round of 3199 ends with a poll of 63, which is complete; that of 3200 ends with NET_RX pending.
    made = host(frame_ns=100)
    receive(made, [US] * frames)
    assert row_at(made, MS - 1).wakeups == wakeups


def test_what_ksoftirqd_takes_over() -> None:
    # Inline 10 rounds of 5 polls; then 800 frames in ksoftirqd: rounds of 5, 5 and 3 polls, the last of 32 frames.
    costs = {"poll": 10, "do_softirq": 7, "napi_complete": 3, "wake_up": 500, "context_switch": 1400, "device_interrupt": 880}
    made = host(frame_ns=100, costs_ns=costs, host__hz=100)
    receive(made, [US] * 4000)
    assert row_at(made, 5 * MS).captured == 4000
    assert spent(made) == {
        "hardirq": 880,
        "softirq": 3200 * 100 + 50 * 10 + MAX_RESTART * 7 + 500,
        "system": 1400,
        "ksoftirqd": 800 * 100 + 13 * 10 + 3 * 7 + 3,
    }


@pytest.mark.parametrize(("kernel", "tick"), [("2.6.37", 1), ("3.2", 1), ("3.2-deferred", 13)])
def test_who_serves_softirqs_while_ksoftirqd_waits(kernel: str, tick: int) -> None:
    # A hog runs from 0. ksoftirqd is woken with 64 frames left; it is 0.3 ms behind, too little to preempt (4 ms). irq_exit of the
    # next tick serves them; deferred, they wait until ksoftirqd gets the core: at the first tick after the hog's slice of 24 / 2
    # ms.
    made = host(frame_ns=100, host__kernel=kernel)
    add_hogs(made, 1)
    receive(made, [US] * (MAX_RESTART * BUDGET_FRAMES + WEIGHT))
    assert row_at(made, tick * MS).captured == MAX_RESTART * BUDGET_FRAMES
    assert row_at(made, tick * MS + 7 * US).captured == MAX_RESTART * BUDGET_FRAMES + WEIGHT
    assert spent(made).get("ksoftirqd", 0) == (6400 if kernel == "3.2-deferred" else 0)


def test_an_interrupt_of_ksoftirqd_in_its_softirqs_starts_no_other_run() -> None:
    # 3200 frames inline until 3.201 ms, the next 1000 in ksoftirqd; the tick at 4 ms raises TIMER, which ksoftirqd serves in a
    # later round.
    made = host(costs_ns={"timer_interrupt": 50_000, "timer_softirq": 5000}, host__hz=250)
    receive(made, [US] * 4095 + [3 * MS] * 105)
    row_at(made, 7 * MS)
    assert spent(made) == {"hardirq": 50_000, "softirq": 3_200_000, "ksoftirqd": 1_000_000 + 5000}


def test_ksoftirqd_yields_only_between_its_runs() -> None:
    # 2 Mpps at 1 us a frame: ksoftirqd gets the core at 13 ms, and its slice is over at the tick at 26 ms. Each run takes 3.2 ms:
    # the fifth ends at 29 ms (run_ksoftirqd: __do_softirq, then cond_resched).
    made = host(host__kernel="3.2-deferred")
    add_hogs(made, 1)
    receive(made, [n * US // 2 for n in range(30_000)])
    made.run([14 * MS])
    receive(made, [n * US // 2 for n in range(30_000, 60_000)])
    assert row_at(made, 29 * MS).context_switches == 2
    assert row_at(made, 29 * MS + 1).context_switches == 3


@pytest.mark.parametrize(("kernel", "least", "most"), [("3.2", 0.05, 0.15), ("3.2-deferred", 0.45, 0.55)])
def test_what_overload_leaves_to_a_process(kernel: str, least: float, most: float) -> None:
    # 2 Mpps at 1 us a frame. Deferred, hog and ksoftirqd alternate. Under 3.2 each tick starts 10 rounds of 320 us, which end 0.8
    # ms before a tick: the hog has its turn half of the time, and then a fifth of it.
    made = host(host__kernel=kernel)
    add_hogs(made, 1)
    for start in range(260):
        receive(made, [start * MS + n * US // 2 for n in range(2000)])
        made.run([(start + 1) * MS])
    assert least <= spent(made)["user"] * NS / (260 * MS) <= most


# update_process_times at 1/HZ; no tick on idle cores (NO_HZ).


@pytest.mark.parametrize("hz", [100, 250, 1000])
def test_a_busy_core_is_interrupted_hz_times_a_second(hz: int) -> None:
    made = host(costs_ns={"timer_interrupt": 700, "timer_softirq": 100, "do_softirq": 30}, host__hz=hz)
    add_hogs(made, 1)
    row_at(made, PS_PER_S // 10 + US)
    ticks = hz // 10
    assert made.machine.cpus[0].interrupts == ticks
    assert spent(made) == {"hardirq": ticks * 700, "softirq": ticks * 130, "user": PS_PER_S // 10 // NS + 1000 - ticks * 830}


def test_an_idle_core_has_no_tick() -> None:
    made = host(costs_ns={"timer_interrupt": 700})
    row_at(made, PS_PER_S)
    assert made.machine.cpus[0].interrupts == 0
    assert spent(made) == {}


def test_the_cores_of_2_6_37_and_3_2_tick_together() -> None:
    scenario = load("paper/bare-metal", {"host.nic.queues": 2, "host.nic.irq_cpus": [1, 7]})
    m = Simulation(scenario, resolve(scenario), seed=1, replication=0).machine
    assert m.cores[0].next_tick_ps == m.cores[1].next_tick_ps


# kernel/sched_fair.c: eight CPUs, so latency 24 ms, min_granularity 3 ms, wakeup_granularity 4 ms.


def test_times_scale_with_the_number_of_cpus() -> None:
    factors = {cpus: cfs_factor(cpus) for cpus in (1, 2, 3, 4, 7, 8, 64)}
    assert factors == {1: 1, 2: 2, 3: 2, 4: 3, 7: 3, 8: 4, 64: 4}
    rules = host().machine.rules[0]
    assert (rules.sched_latency_ps, rules.min_granularity_ps, rules.wakeup_granularity_ps) == (24 * MS, 3 * MS, 4 * MS)


@pytest.mark.parametrize(("running", "tick"), [(2, 13), (3, 9), (5, 5), (8, 4), (9, 4), (20, 4)])
def test_a_slice_ends_at_the_first_tick_after_it(running: int, tick: int) -> None:
    # 24 / n ms, not less than 3; check_preempt_tick wants more than the slice. One switch at 0, the second at the end of the slice.
    made = host()
    add_hogs(made, running)
    assert row_at(made, tick * MS).context_switches == 1
    assert row_at(made, tick * MS + 1).context_switches == 2


@pytest.mark.parametrize(("hz", "turn_ms"), [(1000, 13), (250, 16), (100, 20)])
def test_two_hogs_share_half_and_half(hz: int, turn_ms: int) -> None:
    made = host(costs_ns={"context_switch": 1400}, host__hz=hz)
    hogs = add_hogs(made, 2)
    row = row_at(made, 20 * turn_ms * MS + 1)
    assert [int(hog.ran_ps) for hog in hogs] == [10 * turn_ms * MS] * 2
    assert row.context_switches == 21
    row_at(made, 20 * turn_ms * MS + MS)
    assert spent(made) == {"system": 21 * 1400, "user": (20 * turn_ms + 1) * 1_000_000 - 21 * 1400}


def test_time_of_interrupts_counts_as_the_tasks_own() -> None:
    # No CONFIG_IRQ_TIME_ACCOUNTING: 8 ms of frames in the first hog's turn, and it ends at 13 ms all the same.
    made = host(costs_ns={"context_switch": 1})
    hogs = add_hogs(made, 2)
    receive(made, [ms * MS for ms in (1, 4, 7, 10) for _ in range(2000)])
    row_at(made, 13 * MS + 1)
    assert spent(made)["softirq"] == 8_000_000
    assert int(hogs[0].ran_ps) == 13 * MS


@pytest.mark.parametrize(
    ("woken_us", "preempts"),
    [(2000, False), (4000, False), (4001, True), (9000, True), (100_000, True)],
)
def test_a_woken_task_preempts_if_it_is_more_than_4_ms_behind(woken_us: int, preempts: bool) -> None:
    # The reader finds nothing at 0 and sleeps; a hog runs. The frame is in the socket 1 us after its arrival.
    made = host(host__hz=100, capture__method="pf_packet")
    made.machine.sockets[0].read_ps = US
    add_hogs(made, 1)
    receive(made, [(woken_us - 1) * US])
    assert row_at(made, woken_us * US + 1).wakeups == 1
    assert row_at(made, (woken_us + 1) * US + 1).captured == preempts


@pytest.mark.parametrize(("woken_ms", "vruntime_ms"), [(5, 0), (12, 0), (13, 1), (100, 88)])
def test_a_sleeper_is_placed_half_a_latency_behind(woken_ms: int, vruntime_ms: int) -> None:
    # place_entity: max(its own, min_vruntime - 24 / 2 ms); min_vruntime is the hog's, which has run all the time.
    made = host(host__hz=100, capture__method="pf_packet")
    made.machine.sockets[0].read_ps = MS
    add_hogs(made, 1)
    receive(made, [woken_ms * MS - US])
    row_at(made, woken_ms * MS + 1)
    assert made.machine.tasks[made.machine.sockets[0].reader].vruntime_ps == vruntime_ms * MS


@pytest.mark.parametrize(
    ("method", "switched_ms"),
    [pytest.param("pf_packet", 13, id="user mode"), pytest.param("recv", 50, id="in a system call of 50 ms")],
)
def test_kernel_code_yields_only_at_its_end(method: str, switched_ms: int) -> None:
    # PREEMPT_VOLUNTARY. A frame that takes the reader 50 ms waits in the socket; at 13 ms its slice is over.
    made = host(capture__method=method)
    socket = made.machine.sockets[0]
    socket.read_ps = 50 * MS
    socket.queue.filled, socket.queue.filled_bytes, socket.queue.frames[0].frame_bytes = 1, 64, 64
    add_hogs(made, 1)
    assert row_at(made, switched_ms * MS).context_switches == 1
    assert row_at(made, switched_ms * MS + 1).context_switches == 2


# try_to_wake_up from another core: the softirq is on CPU 7, the reader on CPU 5.


def waking(kernel: str, with_hog: bool, wake_ms: int) -> tuple[int, dict[str, int]]:
    """Interrupts of the reader's core, and what it spent, in the 10 us after the wake-up."""
    made = host(
        costs_ns={"reschedule_interrupt": 400}, host__kernel=kernel, host__hz=100, capture__method="pf_packet", capture__cpu=5
    )
    add_hogs(made, int(with_hog))
    receive(made, [wake_ms * MS - US])
    row_at(made, wake_ms * MS)
    before = int(made.machine.cpus[0].interrupts)
    row_at(made, wake_ms * MS + 10 * US)
    return int(made.machine.cpus[0].interrupts) - before, spent(made)


def test_a_core_that_must_reschedule_is_interrupted() -> None:
    interrupts, time = waking("3.2", with_hog=True, wake_ms=5)
    assert interrupts == 1
    assert time["hardirq"] == 400


def test_2_6_37_does_not_interrupt_an_idle_core() -> None:
    # resched_task: an idle core polls TIF_NEED_RESCHED (mwait).
    assert waking("2.6.37", with_hog=False, wake_ms=5) == (0, {})


@pytest.mark.parametrize(
    ("with_hog", "wake_ms"), [pytest.param(False, 5, id="idle"), pytest.param(True, 2, id="busy, no preemption")]
)
def test_3_2_interrupts_for_every_remote_wake_up(with_hog: bool, wake_ms: int) -> None:
    assert waking("3.2", with_hog, wake_ms)[0] == 1


# drivers/idle/intel_idle.c, Nehalem: C1 for sleeps of 6 us, C3 for 80 us, C6 for 800 us, left in at worst 3, 20 and 200 us; the set has the middle of
# what is plausible, 2, 15 and 125 us. The last sleep predicts the next.


SLEEPS_US = (5, 6, 79, 80, 799, 800, 5000, 3, 1)
LATENCIES_US = (0, 0, 2, 2, 15, 15, 125, 125, 0)


@pytest.mark.parametrize("c_states", [True, False])
def test_exit_latency_follows_the_length_of_the_last_sleep(c_states: bool) -> None:
    made = host(host__c_states=c_states, host__hz=100)
    latencies = LATENCIES_US if c_states else (0,) * len(SLEEPS_US)
    arrivals, ends, now = [], [], 0
    for sleep, latency in zip(SLEEPS_US, latencies, strict=True):
        arrivals.append(now + sleep)
        now += sleep + latency + 1  # a frame takes 1 us
        ends.append(now)
    receive(made, [arrival * US for arrival in arrivals])
    for captured, end in enumerate(ends):
        assert row_at(made, end * US).captured == captured
        assert row_at(made, end * US + 1).captured == captured + 1
