"""The model against queueing theory, published vectors and exact recursions.

Each check sets up the real mechanisms so that a textbook system remains (costs that the textbook does not have are set to 0) and compares a mean with
its formula: it passes when the formula lies in the 99.9 % interval of the replications. Recursions and vectors must match exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.special import stdtrit

from simnet.agenda import NEVER, NIC
from simnet.capture.flow_table import D_LEFT, SLOTS, FlowTable, count_packet
from simnet.capture.monitor import bin_of
from simnet.engine.simulation import Simulation
from simnet.hardware.memory import Memory
from simnet.hardware.rss import MICROSOFT_KEY, toeplitz
from simnet.records import allocate, int64
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.traffic.flows import HOST_SHIFT
from simnet.traffic.switch import REPLAYED, load_replay
from simnet.units import PS_PER_S
from validation.check import Check

Progress = Callable[[str, float], None]

REPLICATIONS = 12
NO_OVERHEAD = {
    f"costs.{name}": 0
    for name in (
        "device_interrupt_cycles",
        "timer_interrupt_cycles",
        "reschedule_interrupt_cycles",
        "do_softirq_cycles",
        "timer_softirq_cycles",
        "poll_cycles",
        "napi_complete_cycles",
        "context_switch_cycles",
        "wake_up_cycles",
        "poll_call_cycles",
    )
}
ONE_SERVER: dict[str, Any] = {
    **NO_OVERHEAD,
    "host.kernel": "3.2",
    "host.c_states": False,
    "host.nic.queues": 1,
    "host.nic.moderation": "fixed",
    "host.nic.moderation_us": 0,
    "host.nic.ring_descriptors": 4096,
    "traffic.generators": 1,
    "traffic.source": "poisson",
    "traffic.link_gbps": 1000,
    "traffic.generator_line_gbps": 1e6,
}
"""One core that does nothing but serve frames for a constant time, no interrupt cost, no moderation."""


def one_server(replication: int, **settings: Any) -> Simulation:
    """A simulation of ONE_SERVER with further settings (`__` for the dots of a path)."""
    scenario = load("paper/bare-metal", {**ONE_SERVER, **{path.replace("__", "."): value for path, value in settings.items()}})
    return Simulation(scenario, resolve(scenario), 1, replication)


def service_ps(simulation: Simulation) -> int:
    """Constant service time of a frame: driver, tap and monitor."""
    m = simulation.machine
    return int(m.costs.receive_ps + m.tap.deliver_ps + m.monitors[0].decode_ps)


def statistical(name: str, what: str, unit: str, expected: float, values: Sequence[float]) -> Check:
    """Does the 99.9 % t interval of the replications hold the expected value?"""
    array = np.asarray(values)
    error = float(array.std(ddof=1)) / math.sqrt(len(array))
    reach = float(stdtrit(len(array) - 1, 0.9995)) * error
    mean = float(array.mean())
    half = float(stdtrit(len(array) - 1, 0.975)) * error
    return Check(name, what, expected, mean, unit, abs(mean - expected) <= reach, half, "99.9 % interval")


def exact(name: str, what: str, unit: str, expected: float, found: float) -> Check:
    """Must be the same number."""
    return Check(name, what, expected, found, unit, expected == found, None, "exact")


def mean_latencies_ps(seconds: float, warmup_s: float, **settings: Any) -> tuple[list[float], int]:
    """Mean latency of each replication after the warm-up, and the service time."""
    means = []
    for k in range(REPLICATIONS):
        simulation = one_server(k, **settings)
        simulation.run([round(warmup_s * PS_PER_S), round(seconds * PS_PER_S)])
        first, last = (row for row in simulation.rows[1:])
        means.append((int(last.latency_sum_ps) - int(first.latency_sum_ps)) / (int(last.captured) - int(first.captured)))
    return means, service_ps(simulation)


def check_md1() -> list[Check]:
    """M/D/1: mean sojourn D + rho D / (2 (1 - rho)) (Pollaczek-Khinchine)."""
    checks = []
    for load_share in (0.3, 0.7, 0.9):
        service = service_ps(one_server(0, traffic__offered_kpps=100))
        rate = load_share * 1e9 / service
        means, service = mean_latencies_ps(1.0, 0.1, traffic__offered_kpps=rate)
        expected = service + load_share * service / (2 * (1 - load_share))
        checks.append(statistical(f"M/D/1 at {load_share}", "mean sojourn", "ns", expected / 1000, [mean / 1000 for mean in means]))
    return checks


def check_vacations() -> list[Check]:
    """M/D/1 with a starter (the interrupt) and with a single vacation (napi_complete).

    Starter D: (2 E[D] + l E[D^2]) / (2 (1 + l E[D])) on top of M/D/1 (Welch 1964). Single vacation V:
    l E[V^2] / (2 (exp(-l V) + l V)) (Takagi, Queueing Analysis 1, 1991, section 2.2).
    """
    rate_kpps, cycles = 700.0, 3000
    arrival = rate_kpps * 1e-9
    checks = []
    for name, cost in (("starter", "device_interrupt_cycles"), ("vacation", "napi_complete_cycles")):
        settings = {f"costs__{cost}": cycles, "traffic__offered_kpps": rate_kpps}
        means, service = mean_latencies_ps(1.0, 0.1, **settings)
        costs = one_server(0, **settings).machine.costs
        away = int(costs.device_interrupt_ps if name == "starter" else costs.napi_complete_ps)
        rho = arrival * service
        extra = (
            (2 * away + arrival * away**2) / (2 * (1 + arrival * away))
            if name == "starter"
            else arrival * away**2 / (2 * (math.exp(-arrival * away) + arrival * away))
        )
        expected = service + rho * service / (2 * (1 - rho)) + extra
        checks.append(statistical(f"M/D/1 with {name}", "mean sojourn", "ns", expected / 1000, [mean / 1000 for mean in means]))
    return checks


def check_dd1() -> list[Check]:
    """D/D/1 below saturation: every frame takes interrupt, softirq entry, poll and service, and nothing else."""
    simulation = one_server(
        0,
        traffic__source="cbr",
        traffic__offered_kpps=200,
        costs__device_interrupt_cycles=2000,
        costs__do_softirq_cycles=150,
        costs__poll_cycles=200,
        costs__napi_complete_cycles=500,
    )
    simulation.run([PS_PER_S // 20])
    m, row = simulation.machine, simulation.rows[-1]
    alone = int(m.costs.device_interrupt_ps + m.costs.do_softirq_ps + m.costs.poll_ps) + service_ps(simulation)
    histogram = simulation.histograms_now().latency
    return [
        exact("D/D/1 mean", "mean sojourn", "ps", alone, int(row.latency_sum_ps) / int(row.captured)),
        exact("D/D/1 spread", "frames in the one bin", "frames", int(row.captured), int(histogram[bin_of(int64(alone))])),
    ]


def replay(simulation: Simulation, arrivals: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    """Let a machine receive exactly these frames (flow 0)."""
    m = simulation.machine
    m.link.source = REPLAYED
    m.link.arriving.arrival_ps = NEVER
    load_replay(m.link, arrivals, sizes, np.zeros(len(arrivals), dtype=np.int64))
    m.agenda.due_ps[NIC] = m.link.arriving.arrival_ps


def lindley(arrivals: NDArray[np.int64], services: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sojourn times of a single server by Lindley's recursion, exact integers."""
    done, sojourns = 0, np.empty(len(arrivals), dtype=np.int64)
    for i, (arrival, service) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        done = max(done, arrival) + service
        sojourns[i] = done - arrival
    return sojourns


def check_lindley() -> list[Check]:
    """Every sojourn time of random arrivals against Lindley's recursion: the sum and the whole histogram."""
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.gamma(0.4, 1_800_000, 30_000)).astype(np.int64)
    simulation = one_server(0, traffic__offered_kpps=1)
    replay(simulation, arrivals, np.full(len(arrivals), 64))
    simulation.run([int(arrivals[-1]) + PS_PER_S // 100])
    sojourns = lindley(arrivals, np.full(len(arrivals), service_ps(simulation)))
    histogram = np.zeros(len(simulation.histograms_now().latency), dtype=np.int64)
    for sojourn in sojourns:
        histogram[bin_of(sojourn)] += 1
    row = simulation.rows[-1]
    return [
        exact("Lindley sum", "sum of 30 000 sojourn times", "ps", int(sojourns.sum()), int(row.latency_sum_ps)),
        exact("Lindley histogram", "bins that differ", "bins", 0, int((histogram != simulation.histograms_now().latency).sum())),
    ]


def check_mm1k() -> list[Check]:
    """M/M/1/K: loss (1 - r) r^K / (1 - r^(K+1)) of a socket ring of K frames whose reader takes exponential times."""
    checks = []
    mean_gap, line_ps, frames = 1_000_000, 10, 30_000
    for capacity, ratio in ((5, 0.8), (10, 1.0), (4, 1.5)):
        losses = []
        for k in range(REPLICATIONS):
            rng = np.random.default_rng((capacity, k))
            simulation = one_server(
                k,
                traffic__offered_kpps=1,
                capture__method="pf_packet",
                capture__cpu=5,
                capture__ring_frames=capacity,
                capture__monitor="count",
            )
            m, socket = simulation.machine, simulation.machine.sockets[0]
            m.nic.port.buffer_bytes = 1 << 60
            m.costs.receive_ps = socket.deliver_ps = socket.copy_ps = socket.copy_line_ps = socket.read_ps = 0
            socket.snap_bytes = 1 << 60
            socket.read_line_ps = line_ps
            lines = np.maximum(rng.exponential(ratio * mean_gap / line_ps, frames), 1).astype(np.int64)
            arrivals = np.cumsum(rng.exponential(mean_gap, frames)).astype(np.int64)
            replay(simulation, arrivals, lines * 64 + 4)
            simulation.run([int(arrivals[-1]) + PS_PER_S // 1000])
            losses.append(int(simulation.rows[-1].socket_dropped) / frames)
        loss = 1 / (capacity + 1) if ratio == 1 else (1 - ratio) * ratio**capacity / (1 - ratio ** (capacity + 1))
        checks.append(statistical(f"M/M/1/{capacity} at {ratio}", "share lost", "", loss, losses))
    return checks


def check_laws() -> list[Check]:
    """Little's law on the receive path with all its overheads, and the utilisation law on the bare server."""
    rate_kpps, seconds, samples = 900.0, 0.4, 4000
    numbers, expected = [], []
    for k in range(REPLICATIONS):
        scenario = load(
            "paper/bare-metal", {"traffic.source": "poisson", "traffic.offered_kpps": rate_kpps, "host.c_states": False}
        )
        simulation = Simulation(scenario, resolve(scenario), 1, k)
        simulation.run([round(seconds * PS_PER_S * (i + 1) / samples) for i in range(samples)])
        row = simulation.rows[-1]
        expected.append(int(row.latency_sum_ps) / (seconds * PS_PER_S))
        numbers.append(float(np.mean([int(sample.in_flight) for sample in simulation.rows])))  # one frame is still on the link
    difference = [n - e for n, e in zip(numbers, expected, strict=True)]
    little = statistical("Little's law", "mean frames in the host less rate x sojourn", "frames", 0.0, difference)
    simulation = one_server(0, traffic__offered_kpps=rate_kpps)
    simulation.run([round(seconds * PS_PER_S)])
    row, service = simulation.rows[-1], service_ps(simulation)
    unexplained = round(seconds * PS_PER_S) - int(row.paid_ps[0, 0]) - int(row.captured) * service
    utilisation = Check(
        "utilisation law",
        "busy time less frames x service time: at most the frame in service",
        0.0,
        unexplained / service,
        "frames",
        0 <= unexplained < service,
        None,
        "0 to 1",
    )
    return [little, utilisation]


TOEPLITZ_VECTORS = (
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
)
"""Source address and port, destination address and port, hash without and with ports. Source: Microsoft, "Verifying the RSS hash calculation"."""


def check_toeplitz() -> list[Check]:
    """The published verification vectors of the RSS hash."""
    checks = []
    for source, source_port, destination, destination_port, plain, with_ports in TOEPLITZ_VECTORS:
        addresses = bytes(int(part) for address in (source, destination) for part in address.split("."))
        ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
        checks.append(exact(f"Toeplitz {source}", "hash of addresses", "", plain, toeplitz(MICROSOFT_KEY, addresses)))
        checks.append(exact(f"Toeplitz {source}", "hash with ports", "", with_ports, toeplitz(MICROSOFT_KEY, addresses + ports)))
    return checks


def fluid_loads(items_per_bucket: float, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of left and right buckets with at least i entries, by the fluid limit of d-left hashing with d = 2.

    dy_i/dt = (y_{i-1} - y_i) z_{i-1}, dz_i/dt = (z_{i-1} - z_i) y_i: left if it is not fuller (Mitzenmacher & Voecking, Allerton 1999).
    """

    def flow(_: float, state: NDArray[np.float64]) -> NDArray[np.float64]:
        y, z = np.concatenate(([1.0], state[:most])), np.concatenate(([1.0], state[most:]))
        return np.concatenate(((y[:-1] - y[1:]) * z[:-1], (z[:-1] - z[1:]) * y[1:]))

    end = solve_ivp(flow, (0.0, items_per_bucket), np.zeros(2 * most), rtol=1e-9, atol=1e-12).y[:, -1]
    return end[:most], end[most:]


def check_d_left() -> list[Check]:
    """Bucket loads of the real table at its limit against the fluid limit, its false matches, and its fill limit."""
    table, memory = allocate(FlowTable), allocate(Memory)
    table.design, table.bucket_bits, table.sample, table.limit, table.recost_at = D_LEFT, 16, 1, 1 << 18, 1 << 62
    for flow in range((1 << 18) + 1000):
        count_packet(table, memory, int64((flow % 5) << HOST_SHIFT | flow // 5))
    buckets = 1 << 16
    filled = (np.array(table.buckets[: 2 * buckets * SLOTS]).reshape(-1, SLOTS) != 0).sum(axis=1)
    left, right = fluid_loads(4.0, SLOTS)
    checks = [exact("d-left fill", "entries at the limit", "entries", 1 << 18, int(table.entries))]
    checks.append(exact("d-left refusals", "inserts beyond the limit", "inserts", 1000, int(table.refused)))
    for name, loads, expected in (("left", filled[:buckets], left), ("right", filled[buckets:], right)):
        for i in (1, 2, 3):
            found = float((loads >= i).mean())
            reach = 5 * math.sqrt(max(expected[i - 1] * (1 - expected[i - 1]), 1e-9) / buckets)
            checks.append(
                Check(
                    f"d-left {name} >= {i}",
                    "share of buckets",
                    float(expected[i - 1]),
                    found,
                    "",
                    abs(found - expected[i - 1]) <= reach,
                    None,
                    "5 sigma",
                )
            )
    scanned = 2.0  # entries in the two buckets of an insert, on average over the filling: half of the final 2 + 2
    expected_false = scanned * (1 << 18) / 256
    found, reach = int(table.false_matches), 5 * math.sqrt(expected_false) + 0.02 * expected_false
    passed = abs(found - expected_false) <= reach
    checks.append(
        Check(
            "d-left false matches", "fingerprints that match another flow", expected_false, found, "", passed, None, "5 sigma + 2 %"
        )
    )
    return checks


CHECKS: dict[str, Callable[[], list[Check]]] = {
    "Toeplitz": check_toeplitz,
    "D/D/1": check_dd1,
    "Lindley": check_lindley,
    "M/D/1": check_md1,
    "vacations": check_vacations,
    "M/M/1/K": check_mm1k,
    "laws": check_laws,
    "d-left": check_d_left,
}


def check_theory(progress: Progress) -> list[Check]:
    """All of them."""
    checks: list[Check] = []
    for i, (name, check) in enumerate(CHECKS.items()):
        progress(name, i / len(CHECKS))
        checks += check()
    return checks
