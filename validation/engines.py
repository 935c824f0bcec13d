"""Do all clocks agree, bit for bit, on random scenarios?

Three ways to run the same transitions: the compiled loop, one SimPy event a transition, and the loop under the interpreter (SIMNET_JIT=0, in
a process of its own). Each random scenario is run for a few milliseconds in each way; counters at every sample, histograms and the whole state of
the machine must be the same bytes. That proves the clocks; mechanisms are proved by `validation.oracle` and `validation.theory`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from simnet.engine.simulation import Simulation
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.units import PS_PER_MS
from validation.check import Check

FRAMES = 2000
MOST_MILLISECONDS = 30
SAMPLES = 4
LEFT_OUT = ("fired", "quiet_until_ps", "disturbed")
"""Bookkeeping of the clocks themselves."""
LARGE_BYTES = 1 << 16
CACHE_KEY_LENGTH = 16


def random_settings(number: int) -> dict[str, Any]:
    """Settings of random scenario `number`, as for `simnet.load`."""
    pick = random.Random(number)
    method = pick.choice(["kernel_module", "pf_packet", "pf_ring", "recv", "udp"])
    queues = pick.choice([1, 2, 4, 8])
    settings: dict[str, Any] = {
        "parameters": pick.choice(["e5520-linux-3.2", "e5520-linux-3.2", "l5520-linux-2.6.37"]),
        "host.kernel": pick.choice(["2.6.37", "3.2", "3.2-deferred", "4.9", "6.6", "6.12"]),
        "capture.load_weight": pick.choice([1024, 1024, 512]),
        "host.hz": pick.choice([100, 250, 1000]),
        "host.c_states": pick.random() < 0.5,
        "host.nic.queues": queues,
        "host.nic.irq_cpus": pick.choice([7, [pick.choice([1, 3, 7]) for _ in range(queues)]]),
        "host.nic.ring_descriptors": pick.choice([None, 80, 128, 1024]),
        "host.nic.drop_en": pick.random() < 0.3,
        "host.nic.moderation": pick.choice(["adaptive", "adaptive", "fixed"]),
        "host.nic.moderation_us": pick.choice([0, 10, 125]),
        "host.nic.dca": pick.random() < 0.2,
        "traffic.source": pick.choice(["pktgen", "cbr", "poisson", "on_off"]),
        "traffic.generators": pick.choice([1, 2, 5]),
        "traffic.offered_kpps": pick.choice([20, 150, 600, 900, 1500, 2500]),
        "traffic.frame_bytes": pick.choice([64, 64, 256, 1518, {64: 7, 594: 4, 1518: 1}]),
        "traffic.flows": pick.choice(["single", "multi", 3, 500]),
        "traffic.train_frames": pick.choice([None, 1, 16]),
        "traffic.switch_buffer_kib": pick.choice([16, 1024]),
        "traffic.switch_honours_pause": pick.random() < 0.3,
        "capture.method": method,
        "capture.monitor": pick.choice(["count", "null", "flow"]),
        "capture.cpu": pick.choice([7, 5, 1, 0]),
        "capture.snaplen_bytes": pick.choice([68, 256, 1518]),
        "capture.ring_frames": pick.choice([None, 16, 512]),
        "capture.poll_timeout_ms": pick.choice([1, 500]),
        "capture.transparent_mode": pick.choice([0, 2]),
        "capture.slots": pick.choice([256, 4096]),
        "capture.watermark": pick.choice([1, 128]),
        "capture.flow_table.design": pick.choice(["d_left", "probing"]),
        "capture.flow_table.entries": pick.choice([1024, 4096]),
        "capture.flow_table.period_s": pick.choice([0.001, 10]),
    }
    if settings["parameters"].startswith("l5520"):
        settings["traffic.link_gbps"] = 10
    return settings


def random_guest(number: int) -> dict[str, Any]:
    """Settings that put the capture of random scenario `number` into a guest."""
    pick = random.Random(-1 - number)
    io_cpus = pick.choice([1, 3, 3, 5, 7, 0, [3, 5, 7]])
    backend = pick.choice(["kvm-83", "qemu-kvm-0.12", "vhost-net", "sr-iov"])
    modern = random.Random(-1_000_000 - number)
    if backend == "qemu-kvm-0.12" and modern.random() < 0.6:  # a draw of its own: all other scenarios stay what they were
        backend = "qemu-7.2"
    emulated = {
        "guest.event_index": modern.random() < 0.7,
        "guest.accelerator": modern.choice(["tcg", "tcg", "kvm"]),
        "costs.tcg_slowdown": modern.choice([1, 1.7, 12]),
    }
    assigned: dict[str, Any] = {
        "host.nic.queues": 1,
        "host.nic.irq_cpus": pick.choice([7, 5, 3]),
        "host.iommu": True,
        "pretend": True,
    }
    interrupts = {"guest.interrupts": pick.choice(["msix", "posted"])}
    index: dict[str, Any] = {"guest.event_index": pick.choice([True, True, False])}
    return {
        **{"vhost-net": index, "sr-iov": assigned | interrupts, "qemu-7.2": emulated}.get(backend, {}),
        "parameters": "e5520-linux-3.2",
        "guest.vcpus": [1, 3, 5, 7],
        "guest.irq_vcpu": pick.choice([2, 2, 3, 0]),
        "guest.io_cpus": io_cpus,
        "guest.kernel": pick.choice([None, "3.2", "3.2-deferred"]),
        "guest.hz": pick.choice([100, 250, 1000]),
        "guest.backend": backend,
        "guest.reads": pick.choice(["one", "drain"]),
        "guest.queue_entries": pick.choice([32, 64, 256]),
        "guest.clock": pick.choice(["kvm_clock", "kvm_clock", "acpi_pm"]),
        "guest.tap_queue": pick.choice([20, 100, 500]),
        "guest.one_queue": pick.random() < 0.2,
        "guest.promiscuous_bridge": pick.random() < 0.5,
        "capture.cpu": pick.choice([0, 1, 2, 3]),
        "capture.transparent_mode": 0,
        "costs.wake_up_cycles": pick.choice([0, 1200]),
        "costs.context_switch_cycles": pick.choice([0, 3200]),
    }


def later_method(number: int) -> dict[str, Any]:
    """Settings that give a third of the scenarios without a guest a capture method that came later; the others stay what they were."""
    pick = random.Random(-2_000_000 - number)
    method = pick.choice(["tpacket_v3", "tpacket_v3", "tc_count", "xdp_count"])
    if pick.random() >= 1 / 3:
        return {}
    settings = {"pretend": True, "capture.method": method}
    if method != "tpacket_v3":
        return settings | {"capture.monitor": "count"}
    blocks = {"capture.blocks": pick.choice([1, 2, 32]), "capture.block_bytes": pick.choice([4096, 131_072])}
    return settings | blocks | {"capture.block_timeout_ms": pick.choice([1, 4, 8])}


def random_lab(number: int) -> tuple[str, dict[str, Any]]:
    """Random settings of a host without a NIC, whose packets come by the backlog of a CPU."""
    pick = random.Random(-3_000_000 - number)
    return pick.choice(["lab/veth-rps", "lab/bridge-tap-rps"]), {
        "host.kernel": pick.choice(["5.15", "6.6", "6.15"]),
        "host.hz": pick.choice([100, 250, 1000]),
        "traffic.source": pick.choice(["cbr", "poisson"]),
        "traffic.offered_kpps": pick.choice([20, 90, 300, 900]),
        "traffic.train_frames": pick.choice([None, 1, 5]),
        "capture.load_weight": pick.choice([512, 1024]),
        "costs.ipi_latency_us": pick.choice([0, 3, 20]),
    }


def random_question(number: int) -> tuple[str, dict[str, Any]]:
    """Scenario and settings of random scenario `number`; two of five capture in a guest."""
    if number % 10 == 9:
        return random_lab(number)
    settings = random_settings(number)
    if number % 5 not in (1, 3):
        pick = random.Random(-number)
        threads = {"host.kernel": pick.choice(["5.15", "6.6", "6.15"]), "host.nic.napi_cpus": pick.choice([7, 5, 1])}
        return "paper/bare-metal", settings | later_method(number) | (threads if number % 10 == 4 else {})
    return "paper/vm", settings | random_guest(number)


def _walk(digest: Any, record: Any) -> None:
    """Feed every field of a record to a digest, except the clocks' own; of queues only what is in them, of large tables nothing."""
    names = record.dtype.names
    for name in names:
        if name in LEFT_OUT or (name == "frames" and "filled" in names):
            continue
        value = record[name]
        if getattr(value, "dtype", None) is not None and value.dtype.names:
            for item in value.ravel() if value.ndim else [value]:
                _walk(digest, item)
        elif np.asarray(value).nbytes <= LARGE_BYTES:
            digest.update(np.asarray(value).tobytes())
    if "frames" in names and "filled" in names:
        for i in range(int(record["filled"])):
            digest.update(record["frames"][(int(record["head"]) + i) % int(record["slots"])].tobytes())


def digest_of(number: int, engine: str) -> str:
    """Run random scenario `number` and digest everything it did."""
    scenario = load(*random_question(number))
    simulation = Simulation(scenario, resolve(scenario), number, 0, engine)
    end_ps = round(min(FRAMES / (scenario.traffic.offered_kpps or 1.0), MOST_MILLISECONDS) * PS_PER_MS)
    simulation.run([end_ps * (i + 1) // SAMPLES for i in range(SAMPLES)])
    digest = hashlib.sha256()
    for row in simulation.rows:
        digest.update(row.tobytes())
    for histogram in simulation.histograms_now():
        digest.update(histogram.tobytes())
    _walk(digest, simulation.machine)
    return digest.hexdigest()[:CACHE_KEY_LENGTH]


def _interpreted(numbers: list[int]) -> dict[int, str]:
    """Digests of the compiled clock with the JIT switched off."""
    code = "import sys, json, numpy as np; from validation.engines import digest_of; np.seterr(over='ignore'); print(json.dumps({n: digest_of(n, 'compiled') for n in json.loads(sys.argv[1])}))"
    output = subprocess.run(
        [sys.executable, "-c", code, json.dumps(numbers)],
        env={**os.environ, "SIMNET_JIT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if output.returncode:
        raise RuntimeError(output.stderr)
    return {int(n): digest for n, digest in json.loads(output.stdout).items()}


def check_engines(scenarios: int, progress: Callable[[str, float], None]) -> list[Check]:
    """Compare the clocks on `scenarios` random scenarios."""
    numbers = list(range(scenarios))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        parts = [numbers[i :: pool._max_workers] for i in range(pool._max_workers)]
        interpreted = {n: digest for part in pool.map(_interpreted, parts) for n, digest in part.items()}
    differing: dict[str, list[int]] = {"simpy": [], "interpreted": []}
    for number in numbers:
        progress(f"scenario {number}", number / scenarios)
        compiled = digest_of(number, "compiled")
        if digest_of(number, "simpy") != compiled:
            differing["simpy"].append(number)
        if interpreted[number] != compiled:
            differing["interpreted"].append(number)
    return [
        Check(
            f"{name} against compiled",
            f"{scenarios} random scenarios, counters, histograms and state bit for bit",
            expected=0,
            found=len(different),
            unit="scenarios that differ",
            passed=not different,
            note=f"scenarios {different[:10]}" if different else "",
        )
        for name, different in differing.items()
    ]
