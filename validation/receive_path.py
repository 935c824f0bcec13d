"""Both clocks against the independent oracle: every latency and every count of the one-core receive path.

The oracle (`validation.oracle`) was written from a description of the rules, by someone who had not seen the mechanisms, with one SimPy event a packet. It
gets the same arrivals and the same costs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simnet.engine.clocks import CompiledClock, settle_and_sample, step
from simnet.engine.simulation import Simulation
from simnet.records import in_array
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.system.counters import new_rows
from simnet.traffic.switch import draw
from simnet.units import PS_PER_MS, PS_PER_S, PS_PER_US
from validation.check import Check
from validation.oracle import OracleResult, OracleSetup, receive_path

FRAMES = 6000
DRIVERS = {"e5520-linux-3.2": (512, 448 * 1024, False), "l5520-linux-2.6.37": (256, 64 * 1024, True)}
"""Of ixgbe and igb, written down again from the kernel sources: default ring, packet buffer, whether a poll returns its work."""


def random_settings(number: int) -> dict[str, Any]:
    """Settings of a random one-core receive path."""
    pick = random.Random(1000 + number)
    return {
        "parameters": pick.choice(["e5520-linux-3.2", "l5520-linux-2.6.37"]),
        "host.kernel": pick.choice(["3.2", "3.2-deferred"]),
        "host.hz": pick.choice([100, 250, 1000]),
        "host.c_states": False,
        "host.nic.queues": 1,
        "host.nic.ring_descriptors": pick.choice([None, 80, 128, 1024]),
        "host.nic.moderation": "fixed",
        "host.nic.moderation_us": pick.choice([0, 10, 50, 125]),
        "traffic.source": pick.choice(["pktgen", "cbr", "poisson", "on_off"]),
        "traffic.generators": pick.choice([1, 3]),
        "traffic.offered_kpps": pick.choice([20, 150, 600, 900, 1300, 1600, 3000]),
        "traffic.frame_bytes": pick.choice([64, 256, {64: 7, 594: 4, 1518: 1}]),
        "traffic.link_gbps": 10,
        "costs.do_softirq_cycles": pick.choice([0, 150]),
        "costs.timer_interrupt_cycles": pick.choice([0, 2500, 20000]),
        "costs.driver_cycles": pick.choice([227, 431, 908]),
    }


def simulation_of(settings: dict[str, Any], seed: int) -> Simulation:
    """A fresh machine for some settings."""
    scenario = load("paper/bare-metal", settings)
    return Simulation(scenario, resolve(scenario), seed, 0)


def setup_of(settings: dict[str, Any], m: Any) -> OracleSetup:
    """The oracle's parameters: rules from the kernel sources and the settings, costs and the phase of the tick from a machine."""
    descriptors, buffer_bytes, returns_work_done = DRIVERS[settings["parameters"]]
    return OracleSetup(
        descriptors=settings["host.nic.ring_descriptors"] or descriptors,
        refill_batch=16,
        buffer_bytes=buffer_bytes,
        weight=64,
        budget=300,
        returns_work_done=returns_work_done,
        moderation_interval=settings["host.nic.moderation_us"] * PS_PER_US,
        max_restart=10,
        tick=PS_PER_S // settings["host.hz"],
        first_tick=int(m.cores[0].next_tick_ps),
        boot=int(m.boot_ps),
        net_rx_jiffies=2,
        defers_to_ksoftirqd=settings["host.kernel"] == "3.2-deferred",
        device_interrupt=int(m.costs.device_interrupt_ps),
        timer_interrupt=int(m.costs.timer_interrupt_ps),
        do_softirq=int(m.costs.do_softirq_ps),
        timer_softirq=int(m.costs.timer_softirq_ps),
        poll=int(m.costs.poll_ps),
        napi_complete=int(m.costs.napi_complete_ps),
        frame=int(m.costs.receive_ps + m.tap.deliver_ps + m.monitors[0].decode_ps),
        context_switch=int(m.costs.context_switch_ps),
        wake_up=int(m.costs.wake_up_ps),
    )


def drawn_arrivals(simulation: Simulation, frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Arrival times and lengths of the first frames; uses the simulation's traffic up."""
    arrivals, lengths = np.empty(frames, dtype=np.int64), np.empty(frames, dtype=np.int64)
    draw(simulation.machine.link, arrivals, lengths)
    return arrivals, lengths


def every_latency(simulation: Simulation, end_ps: int) -> list[int]:
    """Run a machine one transition at a time, up to `end_ps`, and write down the latency of every captured frame."""
    m, latencies = simulation.machine, []
    agenda, monitor = m.agenda, m.monitors[0]
    while True:
        due = np.array(agenda.due_ps)[: agenda.actors]
        actor = int(np.argmin(due))
        now = int(due[actor])
        if now >= end_ps:
            break
        before = monitor.captured
        step(in_array(m), actor, now)
        if monitor.captured != before:
            latencies.append(int(monitor.last_latency_ps))
    return latencies


def observe(stepped: Simulation, compiled: Simulation, end_ps: int) -> tuple[list[int], dict[str, Any]]:
    """Run two equal machines up to `end_ps`, one step by step: every latency of that one, and the counters of both by name."""
    latencies = every_latency(stepped, end_ps)
    rows = {"stepped": new_rows(1), "compiled": new_rows(1)}
    settle_and_sample(in_array(stepped.machine), end_ps, rows["stepped"])
    CompiledClock(compiled.machine).sample(np.array([end_ps]), rows["compiled"])
    return latencies, {name: row[0] for name, row in rows.items()}


def compare_latencies(found: list[int], wanted: list[int]) -> list[str]:
    """Which frame is the first whose latency differs, if any."""
    if found == wanted:
        return []
    first = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), -1)
    return [f"latency of frame {first}"]


def differences(number: int) -> list[str]:
    """What the oracle and the model disagree on in random setting `number`."""
    settings = random_settings(number)
    arrivals, lengths = drawn_arrivals(simulation_of(settings, number), FRAMES)
    end = min(int(arrivals[-1]), 30 * PS_PER_MS)
    stepped, compiled = simulation_of(settings, number), simulation_of(settings, number)
    oracle: OracleResult = receive_path(
        setup_of(settings, stepped.machine), zip(arrivals.tolist(), lengths.tolist(), strict=True), end
    )
    latencies, rows = observe(stepped, compiled, end)
    found = compare_latencies(latencies, oracle.latencies)
    for name, row in rows.items():
        counts = (int(row.captured), int(row.nic_missed), int(row.interrupts), int(row.polls), int(row.latency_sum_ps))
        wanted = (len(oracle.latencies), oracle.missed, oracle.interrupts, oracle.polls, sum(oracle.latencies))
        if counts != wanted:
            found.append(f"{name} counts {counts} instead of {wanted}")
    return found


def check_receive_path(settings: int, progress: Callable[[str, float], None]) -> list[Check]:
    """Compare model and oracle on random settings."""
    differing = []
    for number in range(settings):
        progress(f"oracle {number}", number / settings)
        found = differences(number)
        if found:
            differing.append(f"{number}: {'; '.join(found)}")
    return [
        Check(
            "oracle, one event a packet",
            f"{settings} random one-core receive paths: every latency, captured, missed, interrupts, polls",
            0,
            len(differing),
            "paths that differ",
            not differing,
            None,
            "exact",
            " | ".join(differing[:3]),
        )
    ]
