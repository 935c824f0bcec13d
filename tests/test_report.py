"""What a run leaves behind: the JSON contract, files, the table for people; and that all of it can be had again."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, cast

import matplotlib.image
import pandas as pd
import pytest

import simnet
from simnet.cli import main
from simnet.experiment.plan import paper_times
from simnet.experiment.replicate import Ensemble, follow_paper_protocol
from simnet.scenario.loading import load
from simnet.scenario.schema import Scenario
from simnet.units import PS_PER_S

BASE = "paper/bare-metal"
SHORT = ("measure.limit_s=0.02", "measure.replications=3")
SMALL_RING = ("capture.method=pf_packet", "capture.cpu=5", "capture.ring_frames=64")
SHARED_CORE = ("capture.method=pf_packet", "host.kernel=3.2", "traffic.source=on_off", "traffic.offered_kpps=900")
MANY_FLOWS = ("capture.monitor=flow", "traffic.flows=multi", "capture.flow_table.period_s=0.001", "capture.flow_table.entries=4096")
SCENARIOS = [
    pytest.param((), id="kernel_module"),
    pytest.param(SHARED_CORE, id="shared core"),
    pytest.param(MANY_FLOWS, id="flow table"),
]

SHARES = ("idle", "hardirq", "softirq", "ksoftirqd", "system", "user", "guest", "exits")
ESTIMATE = {"mean": float, "ci95": float}
RATE = {"kpps": ESTIMATE, "mbps_wire": ESTIMATE, "mbps_frame": ESTIMATE}
CONTRACT = {
    "schema": str,
    "scenario": str,
    "parameters": str,
    "seed": int,
    "engine": str,
    "replications": int,
    "simulated_seconds": float,
    "wall_seconds": float,
    "stop_reason": str,
    "offered": RATE,
    "captured": RATE,
    "packets": {
        "offered": int,
        "captured": int,
        "in_flight": int,
        "dropped": [{"place": str, "reason": str, "counter": str, "packets": int}],
    },
    "cores": [{"cpu": int, **dict.fromkeys(SHARES, float)}],
    "rates": {"interrupts": float, "polls": float, "wakeups": float, "exits": {}},
    "latency_us": {"p50": float, "p99": float, "p999": float},
    "provenance": {"version": str, "parameters": {}, "scenario": {}, "host": {}},
}
"""Names and types that the command line promises (a dict may hold more)."""


@functools.cache
def output(*arguments: str) -> str:
    """What a command prints; it succeeds."""
    with redirect_stdout(io.StringIO()) as text:
        assert main(arguments) == 0
    return text.getvalue()


def command(changes: Sequence[str], *arguments: str) -> tuple[str, ...]:
    """Arguments of a short run with some changes."""
    return ("run", BASE, *arguments, *(argument for change in (*SHORT, *changes) for argument in ("--set", change)))


def run_json(changes: Sequence[str] = (), *arguments: str) -> dict[str, Any]:
    """The object that a short run prints."""
    return cast("dict[str, Any]", json.loads(output(*command(changes, "--json", *arguments))))


def lines_but(text: str, *left_out: str) -> list[str]:
    """The lines of a JSON text without those of some fields."""
    return [line for line in text.splitlines() if not line.lstrip().startswith(tuple(f'"{name}":' for name in left_out))]


def misfits(value: Any, shape: Any, path: str = "") -> list[str]:
    """Where a JSON value is not of the promised shape."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [path]
        return [
            misfit
            for name, inner in shape.items()
            for misfit in (misfits(value[name], inner, f"{path}.{name}") if name in value else [f"{path}.{name}"])
        ]
    if isinstance(shape, list):
        return [misfit for i, item in enumerate(value) for misfit in misfits(item, shape[0], f"{path}[{i}]")] if value else [path]
    return [] if type(value) is shape else [path]


# The contract


@pytest.mark.parametrize("changes", [*SCENARIOS, pytest.param(SMALL_RING, id="small ring")])
def test_json_has_every_promised_field(changes: tuple[str, ...]) -> None:
    result = run_json(changes, "--seed", "7")
    assert misfits(result, CONTRACT) == []
    assert (result["scenario"], result["parameters"]) == (BASE, "e5520-linux-3.2")
    assert (result["seed"], result["engine"], result["replications"]) == (7, "compiled", 3)
    assert [core["cpu"] for core in result["cores"]] == list(range(8))
    assert [set(core) for core in result["cores"]] == [{"cpu", *SHARES}] * 8
    assert 0 < result["latency_us"]["p50"] <= result["latency_us"]["p99"] <= result["latency_us"]["p999"]


@pytest.mark.parametrize("frame_bytes", [64, 1518])
@pytest.mark.parametrize("which", ["offered", "captured"])
@pytest.mark.parametrize("number", ["mean", "ci95"])
def test_bit_rates_count_wire_or_frame_bytes(frame_bytes: int, which: str, number: str) -> None:
    """On the wire a frame takes 8 B of preamble and 12 B of gap more."""
    rate = run_json([f"traffic.frame_bytes={frame_bytes}"])[which]
    kpps = rate["kpps"][number]
    assert rate["mbps_wire"][number] == pytest.approx(kpps * (frame_bytes + 20) * 8 / 1000)
    assert rate["mbps_frame"][number] == pytest.approx(kpps * frame_bytes * 8 / 1000)


@pytest.mark.parametrize(
    ("c_states", "least_us", "most_us"), [pytest.param("false", 1.5, 1.8, id="awake"), pytest.param("true", 126.5, 129, id="C6")]
)
def test_rates_are_per_second_and_latencies_in_microseconds(c_states: str, least_us: float, most_us: float) -> None:
    """A packet a millisecond: an interrupt and a poll each; 2000 + 150 + 200 + 1445 cycles at 2.27 GHz, and the 125 us exit of C6."""
    changes = (
        "traffic.source=cbr",
        "traffic.generators=1",
        "traffic.offered_kpps=1",
        f"host.c_states={c_states}",
        "measure.limit_s=1",
    )
    result = run_json(changes)
    assert result["offered"]["kpps"]["mean"] == pytest.approx(1, rel=0.002)
    assert (result["rates"]["interrupts"], result["rates"]["polls"]) == pytest.approx((1000, 1000), rel=0.002)
    assert least_us < result["latency_us"]["p50"] < most_us
    busy = 1 - next(core for core in result["cores"] if core["cpu"] == 7)["idle"]
    assert 1.5e-3 < busy < 0.3


def test_provenance_names_a_source_for_every_cost() -> None:
    quantities = run_json()["provenance"]["parameters"]
    assert "driver_cycles" in quantities
    for quantity in quantities.values():
        assert quantity["low"] <= quantity["value"] <= quantity["high"]
        assert quantity["unit"]
        assert quantity["kind"] in ("measured", "published", "derived", "assumed", "calibrated")
        assert quantity["source"]


@pytest.mark.parametrize("changes", SCENARIOS)
def test_a_result_can_be_had_again_from_its_provenance(changes: tuple[str, ...], tmp_path: Path) -> None:
    printed = output(*command(changes, "--json"))
    scenario = json.loads(printed)["provenance"]["scenario"]
    assert Scenario.model_validate(scenario) == load(BASE, [*SHORT, *changes])
    (tmp_path / "again.yaml").write_text(json.dumps(scenario))
    again = output("run", str(tmp_path / "again.yaml"), "--json")
    assert lines_but(again, "wall_seconds") == lines_but(printed, "wall_seconds")


# Files


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run has filled."""
    folder = tmp_path_factory.mktemp("out")
    output(*command(SMALL_RING, "--json", "--out", str(folder)))
    return folder


def test_samples_read_back_are_those_of_the_json(written: Path) -> None:
    result = json.loads((written / "result.json").read_text())
    samples = pd.read_parquet(written / "samples.parquet")
    assert list(samples.columns) == ["replication", "time_s", "offered", "captured"]
    start, end = result["warmup_seconds"], result["warmup_seconds"] + result["measured_seconds"]
    for expected in result["by_replication"]:
        own = samples[samples.replication == expected["replication"]].set_index("time_s").rename(index=lambda t: round(t, 9))
        window = own.loc[round(end, 9)] - own.loc[round(start, 9)]
        for name in ("offered", "captured"):
            assert window[name] / (end - start) / 1000 == pytest.approx(expected[f"{name}_kpps"])
            assert (own[name].diff().dropna() >= 0).all()
    last = samples.groupby("replication").last()
    for name in ("offered", "captured"):
        assert last[name].sum() == result["packets"][name]
    assert samples.time_s.max() == result["simulated_seconds"]


def test_plots_show_something(written: Path) -> None:
    plots = sorted(written.glob("*.png"))
    assert len(plots) >= 5
    for plot in plots:
        pixels = matplotlib.image.imread(plot)[..., :3]
        assert pixels.shape[0] > 200
        assert pixels.shape[1] > 200
        assert (pixels < pixels.max()).any(axis=2).mean() > 0.01


def test_frames_for_notebooks_add_up() -> None:
    result = simnet.run(load(BASE, [*SHORT, *SMALL_RING]))
    drops, cores = simnet.drops_frame(result), simnet.cores_frame(result)
    assert drops.packets.sum() == result.packets.offered
    assert drops.share.sum() == pytest.approx(1)
    assert cores.sum(axis=1).tolist() == pytest.approx([1] * 8)
    assert list(cores.columns) == list(SHARES)


# The table


def test_the_table_has_the_rates() -> None:
    text, result = output(*command(())), run_json()
    for which in ("offered", "captured"):
        line = next(line for line in text.splitlines() if line.startswith(which))
        numbers = re.split(r" {2,}| ± ", line)[1:]
        printed = [float(number.replace(" ", "")) for number in numbers]
        expected = [result[which][unit][number] for unit in ("kpps", "mbps_wire", "mbps_frame") for number in ("mean", "ci95")]
        assert printed == pytest.approx(expected, rel=1e-3, abs=5e-4)


@pytest.mark.parametrize(
    ("changes", "counters"),
    [
        pytest.param((), ["rx_missed_errors"], id="packet buffer"),
        pytest.param(("host.nic.drop_en=true",), ["rx_no_dma_resources"], id="descriptors"),
        pytest.param(SMALL_RING, ["rx_missed_errors", "tp_drops"], id="packet socket"),
        pytest.param(("capture.method=recv", "capture.cpu=5"), ["rx_missed_errors", "tp_drops"], id="plain socket"),
        pytest.param(
            ("capture.method=pf_ring", "capture.cpu=5", "capture.slots=128"),
            ["rx_missed_errors", "/proc/net/pf_ring Tot Pkt Lost"],
            id="PF_RING",
        ),
        pytest.param(("traffic.link_gbps=1",), ["output discards"], id="switch"),
    ],
)
def test_the_table_says_where_packets_died_and_which_counter_shows_it(changes: tuple[str, ...], counters: list[str]) -> None:
    lines = output(*command(changes)).splitlines()
    lost = [drop for drop in run_json(changes)["packets"]["dropped"] if drop["packets"]]
    for drop in lost:
        place, packets = drop["place"].replace("_", " "), f"{drop['packets']:,}".replace(",", " ")
        assert any(place in line and packets in line and drop["counter"] in line for line in lines)
    assert len(lost) == len(counters)
    assert all(counter in drop["counter"] for counter, drop in zip(counters, lost, strict=True))


# Again, the same


@pytest.mark.parametrize("changes", SCENARIOS)
def test_the_same_bytes_with_any_number_of_workers(changes: tuple[str, ...]) -> None:
    one, two = (output(*command(changes, "--json", "--workers", workers)) for workers in "12")
    assert lines_but(one, "wall_seconds") == lines_but(two, "wall_seconds")


@pytest.mark.parametrize("changes", SCENARIOS)
def test_the_same_bytes_from_both_engines(changes: tuple[str, ...]) -> None:
    compiled, simpy = (
        output(*command((*changes, "measure.limit_s=0.002"), "--json", "--engine", e)) for e in ("compiled", "simpy")
    )
    assert lines_but(compiled, "wall_seconds", "engine") == lines_but(simpy, "wall_seconds", "engine")
    assert json.loads(simpy)["engine"] == "simpy"


def test_the_same_bytes_from_another_process() -> None:
    arguments = command(SHARED_CORE, "--json")
    done = subprocess.run(
        [sys.executable, "-m", "simnet", *arguments],
        env={**os.environ, "PYTHONHASHSEED": "11"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert lines_but(done.stdout, "wall_seconds") == lines_but(output(*arguments), "wall_seconds")


def test_another_seed_is_another_run() -> None:
    first, second = (run_json((), "--seed", seed)["packets"]["offered"] for seed in "12")
    assert first != second


# One replication


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
@pytest.mark.parametrize("changes", SCENARIOS)
def test_replications_one_by_one_make_up_the_whole_run(changes: tuple[str, ...], engine: str) -> None:
    short = (*changes, "measure.limit_s=0.002")
    whole = run_json(short)
    single = [run_json(short, "--replication", str(k), "--engine", engine) for k in range(3)]
    assert [result["by_replication"] for result in single] == [[rates] for rates in whole["by_replication"]]
    for name in ("warmup_seconds", "measured_seconds", "simulated_seconds", "stop_reason"):
        assert {result[name] for result in single} == {whole[name]}
    for name in ("offered", "captured", "in_flight"):
        assert sum(result["packets"][name] for result in single) == whole["packets"][name]
    for name, mean in whole["flow_table"].items():
        assert sum(result["flow_table"][name] for result in single) / 3 == pytest.approx(mean)
    assert {result["captured"]["kpps"]["ci95"] for result in single} == {None}


def test_a_replication_writes_the_samples_that_it_had_in_the_whole_run(written: Path, tmp_path: Path) -> None:
    output(*command(SMALL_RING, "--replication", "2", "--out", str(tmp_path)))
    whole, alone = (pd.read_parquet(folder / "samples.parquet") for folder in (written, tmp_path))
    pd.testing.assert_frame_equal(alone, whole[whole.replication == 2].reset_index(drop=True))


def test_notes_on_a_replication_are_sense() -> None:
    result = run_json(("measure.precision=1e-9", "traffic.offered_kpps=3000"), "--replication", "1")
    assert result["stop_reason"] == "time_limit"
    assert "inf" not in " ".join(result["notes"]).split("Hypothesis")[-1]


# The paper's protocol: five replications of 240 s, a sample each 10 s, the first and the last two dropped


class Recorder:
    """An ensemble that only writes down when samples are asked for."""

    def __init__(self) -> None:
        self.times_ps: list[int] = []

    def advance(self, doing: str, pilot: Sequence[int], later: Sequence[int] = (), starts: Collection[int] = ()) -> None:
        """Part of `Ensemble`."""
        del doing, starts
        self.times_ps += [*pilot, *later]


def test_the_papers_plan() -> None:
    recorder = Recorder()
    window = follow_paper_protocol(cast(Ensemble, recorder))
    assert recorder.times_ps == paper_times() == [10 * i * PS_PER_S for i in range(1, 25)]
    assert (window.start_ps, window.end_ps) == (20 * PS_PER_S, 220 * PS_PER_S)
    assert window.stop_reason == "paper_protocol"
    assert load(BASE, ["measure.protocol=paper"]).measure.replications == 5


def test_the_papers_protocol_runs() -> None:
    changes = ("measure.protocol=paper", "measure.replications=5", "traffic.offered_kpps=1")
    result = run_json(changes)
    assert (result["warmup_seconds"], result["measured_seconds"], result["simulated_seconds"]) == (20, 200, 240)
    assert (result["replications"], result["stop_reason"]) == (5, "paper_protocol")
    assert result["captured"]["kpps"]["mean"] == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("warmup_ms", [0, 1, 1.4])
def test_a_given_warmup_is_dropped(warmup_ms: float) -> None:
    """With samples every 0.2 ms."""
    result = run_json((f"measure.warmup_s={warmup_ms / 1000}",))
    assert result["warmup_seconds"] == pytest.approx(warmup_ms / 1000)
