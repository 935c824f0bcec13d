"""The same path into a guest in two programs: compiled simnet, and a SimPy model with one event a piece of work.

From the card over tap, I/O thread and virtqueue to a kernel module on one vCPU, with all feedback: full rings, stopped tap, kicks, and in one setting
the I/O thread and the vCPU on one core. Traffic generation is included; the oracle (`validation.vm_oracle`) gets the same arrivals, so counts must be equal.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.receive_path import geometric_mean
from simnet.traffic.switch import draw
from simnet.units import PS_PER_S
from validation.vm_oracle import VmResult, vm_receive_path
from validation.vm_path import expected_counts, found_counts, random_settings, setup_of, simulation_of

LOADS_KPPS = (70, 150, 300, 1000)
OWN_CORE, SHARED_CORE = 3, 5
"""CPU of the I/O thread: one of its own, or the vCPU's."""
MICROSECONDS = 50


def settings_of(kpps: float, io_cpu: int) -> dict[str, Any]:
    """The built-in guest at its own costs, with one queue and moderation that the oracle knows."""
    costs = {name: value for name, value in random_settings(0).items() if not name.startswith("costs.")}
    return costs | {
        "host.kernel": "3.2",
        "host.hz": 1000,
        "host.nic.moderation_us": MICROSECONDS,
        "guest.irq_vcpu": 2,
        "guest.io_cpus": io_cpu,
        "guest.hz": 1000,
        "guest.backend": "kvm-83",
        "guest.reads": "one",
        "guest.one_queue": False,
        "guest.queue_entries": 256,
        "guest.tap_queue": 500,
        "traffic.source": "poisson",
        "traffic.generators": 1,
        "traffic.offered_kpps": kpps,
        "traffic.frame_bytes": 64,
        "traffic.train_frames": None,
    }


def time_simnet(settings: dict[str, Any], seconds: float) -> tuple[float, dict[str, int]]:
    """Simulated seconds a CPU second, and the counts."""
    made = simulation_of(settings, 1)
    made.run([1])
    start = time.thread_time()
    made.run([round(seconds * PS_PER_S)])
    return seconds / (time.thread_time() - start), found_counts(made.rows[-1])


def time_oracle(settings: dict[str, Any], seconds: float) -> tuple[float, dict[str, int]]:
    """The same for the oracle; drawing the arrivals (by simnet's compiled generator) counts as its own time."""
    frames = round(settings["traffic.offered_kpps"] * 1000 * seconds * 1.1) + 2000
    arrivals, lengths = np.empty(frames, dtype=np.int64), np.empty(frames, dtype=np.int64)
    setup = setup_of(settings, simulation_of(settings, 1).machine)
    link = simulation_of(settings, 1).machine.link
    start = time.thread_time()
    draw(link, arrivals, lengths)
    result: VmResult = vm_receive_path(setup, zip(arrivals.tolist(), lengths.tolist(), strict=True), round(seconds * PS_PER_S))
    return seconds / (time.thread_time() - start), expected_counts(result)


def compare_guest_path(seconds: float, repeats: int) -> str:
    """A table of simulated time a CPU second, and the geometric mean of the ratios."""
    lines = ["Path into a guest, 64 B Poisson, simulated ms a CPU second (best of repeats, interleaved)"]
    lines.append(f"  {'offered kpps':>12}{'I/O thread':>16}{'simnet':>10}{'SimPy oracle':>14}{'ratio':>8}  counts")
    ratios = []
    time_oracle(settings_of(LOADS_KPPS[0], OWN_CORE), 1e-3)
    for io_cpu, where in ((OWN_CORE, "own core"), (SHARED_CORE, "vCPU's core")):
        for kpps in LOADS_KPPS:
            settings = settings_of(kpps, io_cpu)
            equal = time_simnet(settings, seconds / 8)[1] == time_oracle(settings, seconds / 8)[1]
            mine, oracle = 0.0, 0.0
            for _ in range(repeats):
                mine = max(mine, time_simnet(settings, 4 * seconds)[0])
                oracle = max(oracle, time_oracle(settings, seconds / 8)[0])
            ratios.append(mine / oracle)
            lines.append(
                f"  {kpps:>12}{where:>16}{mine * 1000:>10.0f}{oracle * 1000:>14.1f}{mine / oracle:>8.0f}  {'equal' if equal else 'DIFFER'}"
            )
    lines.append(f"  geometric mean against the SimPy oracle: {geometric_mean(ratios):.0f} (asked: at least 50, aim 200)")
    return "\n".join(lines) + "\n"
