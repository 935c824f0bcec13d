"""The same one-core receive path in three programs: compiled simnet, a SimPy model with one event a packet, ns-3.

Traffic generation is included for all of them. simnet runs the whole model as it always does; the SimPy oracle (`validation.oracle`) gets the same
arrivals, so that counts and latencies must be equal; ns-3 draws its own from the same distribution.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from simnet.engine.simulation import Simulation
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.traffic.switch import draw
from simnet.units import PS_PER_S
from validation.oracle import OracleSetup, receive_path

RATES_MPPS = (0.1, 0.8, 1.5, 4.5, 14.88)
COSTS_NS = {
    "device_interrupt": 880,
    "timer_interrupt": 1100,
    "do_softirq": 66,
    "timer_softirq": 110,
    "poll": 88,
    "napi_complete": 220,
    "context_switch": 1400,
    "wake_up": 530,
}
FRAME_NS = 636
MODERATION_US = 50
NS3 = Path(__file__).parent / "ns3"


def simulation(mpps: float) -> Simulation:
    """A machine whose receive path costs exactly COSTS_NS and FRAME_NS."""
    settings: dict[str, Any] = {
        "host.kernel": "3.2",
        "host.c_states": False,
        "host.nic.queues": 1,
        "host.nic.moderation": "fixed",
        "host.nic.moderation_us": MODERATION_US,
        "traffic.source": "poisson",
        "traffic.generators": 1,
        "traffic.offered_kpps": mpps * 1000,
        "traffic.link_gbps": 1000,
        "traffic.generator_line_gbps": 1e6,
    }
    scenario = load("paper/bare-metal", settings)
    made = Simulation(scenario, resolve(scenario), 1, 0)
    for name, ns in COSTS_NS.items():
        setattr(made.machine.costs, f"{name}_ps", ns * 1000)
    made.machine.costs.receive_ps = FRAME_NS * 1000
    made.machine.tap.deliver_ps = made.machine.monitors[0].decode_ps = 0
    return made


def oracle_setup(m: Any) -> OracleSetup:
    """The same for the oracle."""
    return OracleSetup(
        descriptors=512,
        buffer_bytes=448 * 1024,
        moderation_interval=MODERATION_US * 1_000_000,
        tick=PS_PER_S // 1000,
        first_tick=int(m.cores[0].next_tick_ps),
        boot=int(m.boot_ps),
        returns_work_done=False,
        frame=FRAME_NS * 1000,
        **{name: ns * 1000 for name, ns in COSTS_NS.items()},
    )


def time_simnet(mpps: float, seconds: float) -> tuple[float, Any]:
    """Offered packets a CPU second, and the last counters."""
    made = simulation(mpps)
    made.run([1])
    start = time.thread_time()
    made.run([round(seconds * PS_PER_S)])
    spent = time.thread_time() - start
    return int(made.rows[-1].offered) / spent, made.rows[-1]


def time_oracle(mpps: float, seconds: float) -> tuple[float, Any]:
    """The same for the oracle; drawing the arrivals (by simnet's compiled generator) counts as its own time."""
    made = simulation(mpps)
    setup = oracle_setup(made.machine)
    end = round(seconds * PS_PER_S)
    frames = round(mpps * 1e6 * seconds * 1.02) + 2000
    arrivals, lengths = np.empty(frames, dtype=np.int64), np.empty(frames, dtype=np.int64)
    draw(made.machine.link, arrivals[:1], lengths[:1])
    made = simulation(mpps)
    start = time.thread_time()
    draw(made.machine.link, arrivals, lengths)
    result = receive_path(setup, zip(arrivals.tolist(), lengths.tolist(), strict=True), end)
    spent = time.thread_time() - start
    return result.offered / spent, result


def build_ns3(directory: str) -> Path | None:
    """The ns-3 program, if it can be built here."""
    done = subprocess.run(["sh", str(NS3 / "build.sh"), directory], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"ns-3 left out: {done.stderr.strip() or done.stdout.strip()}")
        return None
    return next(Path(directory).glob("receive_path*"))


def time_ns3(program: Path, mpps: float, seconds: float) -> float:
    """Offered packets a CPU second."""
    done = subprocess.run(
        [str(program), "--mpps", str(mpps), "--seconds", str(seconds)], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    return float(result["offered"] / result["cpu_seconds"])


def geometric_mean(values: list[float]) -> float:
    """Geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def agree(row: Any, oracle: Any) -> str:
    """Do simnet's counts equal the oracle's?"""
    mine = (int(row.captured), int(row.nic_missed), int(row.interrupts), int(row.polls), int(row.latency_sum_ps))
    theirs = (oracle.captured, oracle.missed, oracle.interrupts, oracle.polls, sum(oracle.latencies))
    return "equal" if mine == theirs else f"DIFFER: {mine} {theirs}"


def compare_receive_path(seconds: float, repeats: int) -> str:
    """A table of packets a CPU second, and the geometric means of the ratios."""
    lines = ["One-core receive path, 64 B Poisson, million offered packets a CPU second (best of repeats, interleaved)"]
    lines.append(
        f"  {'offered Mpps':>12}{'simnet':>10}{'SimPy oracle':>14}{'ratio':>8}{'ns-3':>8}{'ratio':>8}  counts and latencies"
    )
    against_oracle, against_ns3 = [], []
    time_simnet(1.0, 0.001)
    with tempfile.TemporaryDirectory() as directory:
        program = build_ns3(directory)
        for mpps in RATES_MPPS:
            window = max(seconds / mpps, 0.02)
            short = window / 8
            simnet, oracle, ns3 = 0.0, 0.0, 0.0
            equal = agree(time_simnet(mpps, short)[1], time_oracle(mpps, short)[1])
            for _ in range(repeats):
                simnet = max(simnet, time_simnet(mpps, 4 * window)[0])
                oracle = max(oracle, time_oracle(mpps, short)[0])
                ns3 = max(ns3, time_ns3(program, mpps, window)) if program else 0.0
            against_oracle.append(simnet / oracle)
            lines.append(
                f"  {mpps:>12}{simnet / 1e6:>10.1f}{oracle / 1e6:>14.3f}{simnet / oracle:>8.0f}"
                + (f"{ns3 / 1e6:>8.2f}{simnet / ns3:>8.1f}" if ns3 else f"{'':>16}")
                + f"  {equal}"
            )
            if ns3:
                against_ns3.append(simnet / ns3)
    lines.append(f"  geometric mean against the SimPy oracle: {geometric_mean(against_oracle):.0f} (asked: at least 50, aim 150)")
    if against_ns3:
        lines.append(f"  geometric mean against ns-3: {geometric_mean(against_ns3):.1f} (asked: at least 5, aim 15)")
    return "\n".join(lines) + "\n"
