"""`simnet compare`: the same packets for all, differences replication by replication, and every stage accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simnet
from simnet.cli import main
from simnet.experiment.plan import Plan, side_by_side
from simnet.report.compare import comparison_text
from simnet.results.statistics import t_quantile
from simnet.scenario.variants import load_variants, split_variant

SHORT: dict[str, Any] = {"measure.limit_s": 0.1, "measure.precision": 0.5, "measure.replications": 4}
SETS = [f"--set={path}={value}" for path, value in SHORT.items()]


def load(name: str, **settings: Any) -> simnet.Scenario:
    return simnet.load(name, {**SHORT, **{path.replace("__", "."): value for path, value in settings.items()}})


@pytest.fixture(scope="module")
def guests() -> simnet.Comparison:
    """The paper's two pinnings, and bare metal."""
    return simnet.compare([load("paper/vm"), load("paper/vm-shared-core"), load("paper/bare-metal")])


def captured(result: simnet.Result) -> np.ndarray[Any, Any]:
    return np.array([replication.captured_kpps for replication in result.replications])


def test_the_same_packets_come_whatever_the_host_does(guests: simnet.Comparison) -> None:
    results = [explanation.result for explanation in guests.explanations]
    offered = [[replication.offered_kpps for replication in result.replications] for result in results]
    assert offered[0] == offered[1] == offered[2]
    assert len(set(offered[0])) > 1  # and each replication has its own
    for difference in guests.differences:
        assert difference.paired
        assert not difference.traffic
        assert (difference.offered.mean, difference.offered.ci95) == (0.0, 0.0)


def test_differences_are_paired_replication_by_replication(guests: simnet.Comparison) -> None:
    """By hand: least squares of the differences on the offered rate, at its known mean."""
    first, other = (guests.explanations[i].result for i in (0, 1))
    gaps = captured(other) - captured(first)
    offered = np.array([replication.offered_kpps for replication in first.replications])
    nominal = 5 * 600e6 / (84 * 8) / 1000  # 600 Mbit/s a generator, 84 bytes a frame on the wire
    slope, at_mean = np.polyfit(offered - nominal, gaps, 1)
    found = guests.differences[0].captured
    assert found.mean == pytest.approx(at_mean, abs=1e-4)
    rest = gaps - at_mean - slope * (offered - nominal)
    spread = ((offered - offered.mean()) ** 2).sum()
    error = np.sqrt((rest**2).sum() / (len(gaps) - 2) * (1 / len(gaps) + (offered.mean() - nominal) ** 2 / spread))
    assert found.ci95 == pytest.approx(t_quantile(len(gaps) - 2) * error, rel=1e-3)
    assert found.mean == pytest.approx(other.captured.kpps.mean - first.captured.kpps.mean, abs=1e-9)


def test_what_is_not_captured_is_lost_somewhere_or_waits(guests: simnet.Comparison) -> None:
    for difference in guests.differences:
        moved = difference.captured.mean + sum(lost.mean for lost in difference.dropped.values())
        assert abs(moved) < 0.05 * guests.explanations[0].result.offered.kpps.mean
    assert guests.differences[1].dropped["tap_qdisc"].mean < 0  # bare metal has no tap
    assert [loss.kpps[2] for loss in guests.losses if loss.place == "tap_qdisc"] == [None]


def test_a_scenario_compared_with_itself_does_not_differ() -> None:
    difference = simnet.compare([load("paper/vm"), load("paper/vm")]).differences[0]
    for estimate in (difference.captured, difference.offered, *difference.dropped.values()):
        assert (estimate.mean, estimate.ci95) == (0.0, 0.0)
    assert difference.changed == ()


def test_results_are_those_of_simnet_run() -> None:
    """Where both stop warming up at the same time, comparing changes nothing."""
    scenarios = [load("paper/vm", measure__warmup_s=0.02), load("paper/vm-shared-core", measure__warmup_s=0.02)]
    for explanation, scenario in zip(simnet.compare(scenarios, seed=3).explanations, scenarios, strict=True):
        alone, together = simnet.run(scenario, seed=3).as_json(), explanation.result.as_json()
        assert {**alone, "wall_seconds": 0} == {**together, "wall_seconds": 0}


def test_each_goes_on_until_it_is_known() -> None:
    settings = {"measure.limit_s": 2.5, "measure.warmup_s": 0.02, "measure.precision": 0.001, "capture.method": "pf_packet"}
    scenarios = [simnet.load("paper/bare-metal", {**settings, "capture.cpu": cpu}) for cpu in (5, 7)]
    comparison = simnet.compare(scenarios)
    first, other = (explanation.result for explanation in comparison.explanations)
    assert other.measured_seconds > first.measured_seconds  # sharing a core takes longer to know
    assert first.warmup_seconds == other.warmup_seconds
    assert comparison.differences[0].seconds == first.measured_seconds
    assert first.stop_reason == "precision"
    assert first.captured.kpps.relative <= 0.001


def test_replays_drain_together() -> None:
    """PF_RING holds back less than a watermark of packets for its poll timeout; who has none waits as long, so that the rates can be compared."""
    settings = {"traffic.speed": 1000, "measure.replications": 2}
    replays = [simnet.load("replay/web-and-dns", {**settings, "capture.method": method}) for method in ("pf_packet", "pf_ring")]
    comparison = simnet.compare(replays)
    first, other = (explanation.result for explanation in comparison.explanations)
    assert first.measured_seconds == other.measured_seconds
    assert first.packets.in_flight == other.packets.in_flight == 0
    seconds = first.measured_seconds * len(first.replications)
    behind = (other.packets.captured - first.packets.captured) / seconds / 1000
    assert comparison.differences[0].captured.mean == pytest.approx(behind, abs=1e-9)


def test_workers_do_not_matter(guests: simnet.Comparison) -> None:
    again = simnet.compare([load("paper/vm"), load("paper/vm-shared-core"), load("paper/bare-metal")], workers=1)
    for a, b in zip(guests.explanations, again.explanations, strict=True):
        assert {**a.result.as_json(), "wall_seconds": 0} == {**b.result.as_json(), "wall_seconds": 0}


def test_other_traffic_is_said_and_not_paired() -> None:
    comparison = simnet.compare([load("paper/bare-metal"), load("paper/bare-metal", traffic__frame_bytes=256, traffic__jitter=0.2)])
    difference = comparison.differences[0]
    assert not difference.paired
    assert [(c.field, c.first, c.value) for c in difference.traffic] == [
        ("traffic.frame_bytes", 64, 256),
        ("traffic.jitter", 0.5, 0.2),
    ]
    first, other = (explanation.result.captured.kpps for explanation in comparison.explanations)
    assert first.ci95 is not None
    assert other.ci95 is not None
    assert difference.captured.mean == pytest.approx(other.mean - first.mean)
    assert difference.captured.ci95 == pytest.approx((first.ci95**2 + other.ci95**2) ** 0.5)
    text = comparison_text(comparison)
    assert "B has other traffic than A" in text
    assert "traffic.frame_bytes 64 -> 256" in text


def test_another_nics_link_is_other_traffic() -> None:
    comparison = simnet.compare([load("paper/bare-metal"), load("paper/bare-metal", host__nic__model="82576")])
    assert [c.field for c in comparison.differences[0].traffic] == ["traffic.link_gbps"]
    assert not comparison.differences[0].paired


def test_all_are_measured_as_the_first() -> None:
    comparison = simnet.compare([load("paper/vm"), load("paper/vm", measure__replications=7)])
    assert [len(explanation.result.replications) for explanation in comparison.explanations] == [4, 4]
    assert "measured as paper/vm says" in comparison.notes[0]


def test_stages_are_those_of_an_explanation(guests: simnet.Comparison) -> None:
    rows = guests.stages()
    for i, explanation in enumerate(guests.explanations):
        busy = explanation.busy_cycles()
        assert busy is not None
        assert sum(row[i].cycles or 0.0 for row in rows) == pytest.approx(busy, rel=0.01)
    bridge = next(row for row in rows if row[0].key == "bridge")
    assert bridge[2].cycles == 0


def test_side_by_side_is_enough_for_each() -> None:
    both = side_by_side([Plan(5, 100, 0), Plan(50, 100, 40), Plan(9, 100, 60)])
    assert both == Plan(50, 100, 120)
    assert side_by_side([Plan(5, 100, 0)]) == Plan(5, 100, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("paper/vm", ("paper/vm", [])),
        ("paper/vm:guest.io_cpus=7", ("paper/vm", ["guest.io_cpus=7"])),
        ("a.yaml:guest.vcpus=[1, 3],capture.cpu=0", ("a.yaml", ["guest.vcpus=[1, 3]", "capture.cpu=0"])),
        (
            "x:traffic.frame_bytes={64: 7, 1518: 1},capture.method=recv",
            ("x", ["traffic.frame_bytes={64: 7, 1518: 1}", "capture.method=recv"]),
        ),
        (":guest.reads=drain", ("", ["guest.reads=drain"])),
        ("/a:b/c.yaml", ("/a:b/c.yaml", [])),
        ("x:traffic.pcap=a=b,c.pcap", ("x", ["traffic.pcap=a=b,c.pcap"])),
    ],
)
def test_variants(text: str, expected: tuple[str, list[str]]) -> None:
    assert split_variant(text) == expected


def test_a_variant_of_the_first_keeps_its_changes() -> None:
    loaded = load_variants(["paper/vm:guest.reads=drain", ":guest.io_cpus=[1, 3]"], ["guest.reads=one", "traffic.jitter=0.1"])
    (_, first), (label, second) = loaded
    assert label == "paper/vm:guest.reads=drain,guest.io_cpus=[1, 3]"
    assert first.guest is not None
    assert second.guest is not None
    assert (first.guest.reads, second.guest.reads, second.guest.io_cpus) == ("drain", "drain", [1, 3])
    assert first.traffic == second.traffic
    assert first.traffic.jitter == 0.1


def test_the_text_the_object_and_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["compare", "paper/vm", ":guest.io_cpus=1", *SETS]
    assert main([*asked, "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert found["schema"] == "simnet-comparison/1"
    assert [result["schema"] for result in found["results"]] == ["simnet-result/1"] * 2
    assert [result["provenance"]["scenario"]["guest"]["io_cpus"] for result in found["results"]] == [3, 1]
    (difference,) = found["differences"]
    assert difference["changed"] == [{"field": "guest.io_cpus", "first": 3, "value": 1}]
    assert difference["traffic_differs"] == []
    for core in difference["cores"]:
        assert sum(share for name, share in core.items() if name != "cpu") == pytest.approx(0, abs=1e-9)
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert "guest.io_cpus 3 -> 1" in text
    assert "tc -s qdisc show" in text
    assert "What limits" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paper/vm"], "at least two scenarios, not 1"),
        (["paper/vm", "paper/wm"], "did you mean 'paper/vm'"),
        (["paper/vm", ":guest.reads=al"], "paper/vm:guest.reads=al: guest.reads: 'al'; allowed: drain, one"),
        (["paper/vm", ":guest.io_cpus"], "paper/vm:guest.io_cpus: expected path=value"),
        ([":guest.io_cpus=1", "paper/vm"], "the first scenario needs a name"),
        (["paper/vm", "paper/vm:guest.io_cpus=99"], "there is no CPU 99"),
        (["paper/vm", "paper/vm", "--out", "/dev/null/x"], "cannot be written to"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1
