"""Whole commands and the 36 cells: how long a person waits."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import product

from validation.cells import run_cells
from validation.paper import FLOWS, METHODS, MONITORS, SIZES

SIMNET = [sys.executable, "-m", "simnet"]
CELL_SETTINGS = {"measure.precision": 0.005, "measure.replications": 3}


def seconds_of(arguments: list[str], repeats: int, cache: str | None = None) -> tuple[float, float]:
    """Least wall time of a command, and the most memory of its process in MB."""
    environment = {**os.environ, **({"SIMNET_CACHE_DIR": cache} if cache else {})}
    best, peak = float("inf"), 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        process = subprocess.Popen([*SIMNET, *arguments], stdout=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        best, peak = min(best, time.perf_counter() - start), max(peak, usage.ru_maxrss / 1024)
        if process.returncode:
            raise RuntimeError(f"{arguments} failed")
    return best, peak


def time_cells() -> float:
    """Wall time of the 36 bare-metal cells at 0.5 %, three replications each."""
    questions = {
        cell: (
            "paper/bare-metal",
            dict(zip(("capture.method", "capture.monitor", "traffic.flows", "traffic.frame_bytes"), cell, strict=True))
            | CELL_SETTINGS,
        )
        for cell in product(METHODS, MONITORS, FLOWS, SIZES)
    }
    start = time.perf_counter()
    run_cells(questions, lambda doing, share: None)  # noqa: ARG005
    return time.perf_counter() - start


def time_commands(repeats: int) -> str:
    """A table of times."""
    seconds_of(["run", "paper/bare-metal"], 1)
    help_s, _ = seconds_of(["--help"], repeats)
    run_s, run_mb = seconds_of(["run", "paper/bare-metal"], repeats)
    vm_s, vm_mb = seconds_of(["run", "paper/vm"], repeats)
    flow_s, flow_mb = seconds_of(["run", "paper/bare-metal", "--set", "capture.monitor=flow", "--set", "traffic.flows=multi"], 1)
    with tempfile.TemporaryDirectory() as cache:
        first_s, first_mb = seconds_of(["run", "paper/bare-metal"], 1, cache)
    cells_s = time_cells()
    rows = [
        ("simnet --help", f"{help_s:.2f} s", "at most 0.2 s"),
        (
            "simnet run paper/bare-metal, five replications to 1 %, warm cache",
            f"{run_s:.2f} s, {run_mb:.0f} MB",
            "at most 1 s, 400 MB",
        ),
        ("simnet run paper/vm, five replications to 1 %, warm cache", f"{vm_s:.2f} s, {vm_mb:.0f} MB", "at most 2 s, 400 MB"),
        (
            "bare metal with the flow monitor and every packet a new flow (10 s periods)",
            f"{flow_s:.1f} s, {flow_mb:.0f} MB",
            "at most 400 MB",
        ),
        ("first ever run, compilation included", f"{first_s:.0f} s, {first_mb:.0f} MB", "at most 90 s"),
        ("the 36 bare-metal cells at 0.5 %, three replications each", f"{cells_s:.1f} s", "at most 20 s"),
        ("memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", ""),
    ]
    return "\n".join(["Waiting", *(f"  {what:<76}{found:<18}{asked}" for what, found, asked in rows)])
