"""`simnet pin`: symmetric placements are counted once, the ranking is the exhaustive one, and its commands do what it says."""

from __future__ import annotations

import json
from itertools import permutations, product
from typing import Any

import pytest

import simnet
from simnet.cli import main
from simnet.engine.simulation import Simulation
from simnet.experiment.pin import COARSER
from simnet.experiment.placements import Placement, canonical, count_alike, cpu_mask, movables, placements, representatives
from simnet.experiment.plan import plan_of
from simnet.results.ranking import Ranking, surely_less
from simnet.scenario.loading import changed
from simnet.system.choices import resolve
from simnet.system.topology import Topology, topology_of
from simnet.units import PS_PER_MS

SHORT: dict[str, Any] = {"measure.limit_s": 0.1, "measure.precision": 0.5, "measure.replications": 3}
SETS = [f"--set={path}={value}" for path, value in SHORT.items()]
SHARED = "paper/vm-shared-core"


def load(name: str, **settings: Any) -> simnet.Scenario:
    return simnet.load(name, {**SHORT, **{path.replace("__", "."): value for path, value in settings.items()}})


def found(name: str, **settings: Any) -> list[Placement]:
    scenario = load(name, **settings)
    return placements(scenario, resolve(scenario))


def host(sockets: int, per_socket: int, interleaved: bool) -> Topology:
    return Topology(sockets, sockets * per_socket, interleaved, (0,), (0,), None)


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    return simnet.pin(load("paper/vm"))


# Symmetry


def orbits(topology: Topology, things: int) -> dict[tuple[int, ...], set[tuple[int, ...]]]:
    """Placements that some renumbering of the CPUs turns into each other, by brute force: every permutation that keeps sockets together."""

    def keeps_sockets(p: tuple[int, ...]) -> bool:
        cpus = range(topology.cpus)
        return all(
            (topology.socket(a) == topology.socket(b)) == (topology.socket(p[a]) == topology.socket(p[b]))
            for a in cpus
            for b in cpus
        )

    renumberings = [p for p in permutations(range(topology.cpus)) if keeps_sockets(p)]
    return {cpus: {tuple(p[cpu] for cpu in cpus) for p in renumberings} for cpus in product(range(topology.cpus), repeat=things)}


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("sockets", "per_socket"), [(1, 4), (2, 2), (3, 1), (2, 3)])
def test_classes_are_the_orbits_of_the_renumberings(sockets: int, per_socket: int, interleaved: bool) -> None:
    topology = host(sockets, per_socket, interleaved)
    by_force = orbits(topology, 3)
    for cpus, orbit in by_force.items():
        assert count_alike(cpus, topology) == len(orbit)
        form = canonical(cpus, topology)
        assert {other for other in by_force if canonical(other, topology) == form} == orbit
    chosen = representatives([(0,), (1,), (0,)], topology)
    assert len({frozenset(orbit) for orbit in by_force.values()}) == len(chosen)
    assert sum(count_alike(cpus, topology) for cpus in chosen) == topology.cpus**3


def test_the_representative_moves_the_fewest() -> None:
    topology, now = host(2, 4, True), [(7,), (3,), (5,)]
    by_force: dict[Any, int] = {}
    for cpus in product(range(8), repeat=3):
        moved = sum(cpu != where for cpu, (where,) in zip(cpus, now, strict=True))
        form = canonical(cpus, topology)
        by_force[form] = min(by_force.get(form, 3), moved)
    for cpus in representatives(now, topology):
        moved = sum(cpu != where for cpu, (where,) in zip(cpus, now, strict=True))
        assert moved == by_force[canonical(cpus, topology)]


def simulated(scenario: simnet.Scenario, milliseconds: int) -> list[tuple[int, int]]:
    """Offered and captured packets of each replication."""
    counts = []
    for k in range(scenario.measure.replications):
        simulation = Simulation(scenario, resolve(scenario), 1, k)
        simulation.run([milliseconds * PS_PER_MS])
        counts.append((int(simulation.rows[-1].offered), int(simulation.rows[-1].captured)))
    return counts


def test_every_placement_captures_what_its_class_does_on_bare_metal() -> None:
    """All 64 placements of vectors and process, without symmetry: the ranking is the exhaustive one, to the packet."""
    scenario = load("paper/bare-metal", capture__method="pf_packet")
    params = resolve(scenario)
    topology = topology_of(scenario, params)
    by_class = {
        canonical([c for cpus in p.cpus.values() for c in cpus], topology): simulated(p.scenario, 12)
        for p in placements(scenario, params)
    }
    assert len({str(counts) for counts in by_class.values()}) == 3
    for irq, process in product(range(8), repeat=2):
        counts = simulated(changed(scenario, {"host.nic.irq_cpus": irq, "capture.cpu": process}), 12)
        assert counts == by_class[canonical((irq, process), topology)]


@pytest.mark.parametrize("method", ["kernel_module", "pf_packet"])
@pytest.mark.parametrize(
    "alike",
    [
        [(7, 3, 5), (5, 7, 3), (0, 2, 6)],
        [(7, 2, 5), (1, 4, 3), (4, 7, 2)],
        [(7, 3, 7), (0, 2, 0), (5, 1, 5)],
        [(7, 7, 7), (2, 2, 2)],
    ],
)
def test_symmetric_placements_of_a_guest_capture_the_same(method: str, alike: list[tuple[int, int, int]]) -> None:
    counts = []
    for irq, io, vcpu in alike:
        pins = [vcpu] * 4
        settings = {"host.nic.irq_cpus": irq, "guest.io_cpus": io, "guest.vcpus": pins, "capture.method": method, "capture.cpu": 1}
        counts.append(simulated(changed(load("paper/vm"), settings), 60))
    assert all(count == counts[0] for count in counts)


# The ranking


def test_the_papers_pinnings(ranking: Ranking) -> None:
    """Host receive, I/O thread and vCPU on cores of their own come first; the paper's first pinning is behind every one of those."""
    assert (ranking.raw, len(ranking.placements)) == (512, 11)
    apart = [ranked.cores_used == 3 for ranked in ranking.placements]
    assert apart == [True] * 4 + [False] * 7
    assert not surely_less(ranking.yours.behind)
    shared = simnet.pin(load(SHARED))
    rank = [ranked.yours for ranked in shared.placements].index(True) + 1
    assert rank >= 7
    assert surely_less(shared.yours.behind)
    assert shared.placements[0].result.captured.kpps.mean > 3 * shared.yours.result.captured.kpps.mean


def test_ranked_by_what_is_captured(ranking: Ranking) -> None:
    rates = [ranked.result.captured.kpps.mean for ranked in ranking.placements]
    assert rates == sorted(rates, reverse=True)
    for rate, following, ranked in zip(rates, rates[1:], ranking.placements, strict=False):
        assert ranked.behind_next is not None
        assert ranked.behind_next.mean == pytest.approx(rate - following, abs=0.5)
    assert ranking.placements[-1].behind_next is None
    assert sum(ranked.yours for ranked in ranking.placements) == 1


def test_a_ranking_follows_from_scenario_and_seed(ranking: Ranking) -> None:
    alone = simnet.pin(load("paper/vm"), workers=1).as_json()
    assert alone["placements"] == ranking.as_json()["placements"]
    assert simnet.pin(load("paper/vm"), seed=2).as_json()["placements"] != alone["placements"]


def test_cores_used_and_busy(ranking: Ranking) -> None:
    for ranked in ranking.placements:
        assert 0.99 * (ranked.cores_used == 1) <= ranked.cores_busy <= ranked.cores_used + 1e-9


def test_settings_and_commands_make_the_placement(ranking: Ranking) -> None:
    for ranked in ranking.placements:
        scenario = load("paper/vm", **ranked.settings)
        assert scenario.guest is not None
        assert scenario.host.nic.irq_cpus == ranked.cpus["NIC vectors"][0]
        assert scenario.guest.io_cpus == ranked.cpus["I/O thread"][0]
        assert scenario.guest.vcpus[2] == ranked.cpus["vCPU 2"][0]
        used = {cpu for cpus in ranked.cpus.values() for cpu in cpus}
        idle = [cpu for v, cpu in enumerate(scenario.guest.vcpus) if v != 2]
        assert len({*idle} - used) == 3  # vCPUs without work are out of the way, each on a CPU of its own
        commands = "\n".join(ranked.commands)
        assert f"echo {1 << scenario.host.nic.irq_cpus:x} > /proc/irq/$irq/smp_affinity" in commands
        assert f'virsh emulatorpin "$DOMAIN" {scenario.guest.io_cpus}' in commands
        for v, cpu in enumerate(scenario.guest.vcpus):
            assert f'virsh vcpupin "$DOMAIN" {v} {cpu}' in commands


def test_leaders_that_cannot_be_told_apart_are_looked_at_for_longer() -> None:
    """Below saturation all that is offered is captured anywhere; nobody is surely better, and the interval is soon within the precision."""
    scenario = load("paper/bare-metal", capture__method="pf_packet", traffic__offered_kpps=50, measure__precision=0.001)
    ranking = simnet.pin(scenario)
    best, second = ranking.placements[:2]
    assert not surely_less(second.behind)
    coarse = plan_of(scenario, resolve(scenario), 50).pilot_ps // COARSER / 1e12
    known = all(ranked.behind.ci95 is not None and ranked.behind.ci95 <= 0.05 for ranked in (best, second))
    assert known or best.result.measured_seconds > coarse


# What can be moved


def names(name: str, **settings: Any) -> list[str]:
    scenario = load(name, **settings)
    return [thing.name for thing in movables(scenario, topology_of(scenario, resolve(scenario)))]


def test_what_can_be_moved() -> None:
    assert names("paper/bare-metal") == ["NIC vectors"]
    assert names("paper/bare-metal", capture__method="recv") == ["NIC vectors", "process"]
    assert names("paper/vm") == ["NIC vectors", "I/O thread", "vCPU 2"]
    assert names("paper/vm", capture__method="pf_packet", capture__cpu=0) == ["NIC vectors", "I/O thread", "vCPU 0", "vCPU 2"]


def test_a_process_in_a_guest_may_have_a_vcpu_of_its_own() -> None:
    both = found("paper/vm", capture__method="pf_packet")
    assert {p.process for p in both} == {"vCPU 2", "vCPU 0"}
    assert [len(p.cpus) for p in both].count(3) == 11
    # 47 ways of four things on two sockets of four: partitions into k sets, each set after the first on either socket
    assert [len(p.cpus) for p in both].count(4) == 1 + 7 * 2 + 6 * 4 + 1 * 8
    assert sum(p.stands_for for p in both) == 8**3 + 8**4
    assert any("taskset -cp 0" in command for p in both if p.process == "vCPU 0" for command in p.commands)
    assert {p.process for p in found("paper/vm", capture__method="pf_packet", capture__cpu=0)} == {"vCPU 2", "vCPU 0"}
    alone = found("paper/vm", capture__method="pf_packet", capture__cpu=0, guest__vcpus=[5], guest__irq_vcpu=0)
    assert {p.process for p in alone} == {"vCPU 0"}


def test_spread_vectors_are_ranked_as_they_are() -> None:
    spread = found(
        "paper/bare-metal", capture__method="pf_packet", host__nic__irq_cpus=[0, 2, 4, 6, 0, 2, 4, 6], traffic__flows=100
    )
    (own,) = [p for p in spread if p.yours]
    assert own.cpus["NIC vectors"] == (0, 2, 4, 6)
    assert own.settings == {}
    assert len(spread) == 4


@pytest.mark.parametrize(("cpu", "mask"), [(0, "1"), (5, "20"), (31, "80000000"), (32, "1,00000000"), (70, "40,00000000,00000000")])
def test_masks(cpu: int, mask: str) -> None:
    assert cpu_mask(cpu) == mask


# The command


def test_the_text_and_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pin", SHARED, *SETS, "--top", "2"]) == 0
    text = capsys.readouterr().out
    assert "512 placements, 11 that differ" in text
    assert text.count("<- yours") == 1
    assert "8 more; --top N shows N" in text
    assert "virsh vcpupin" in text
    assert "DOMAIN=" in text
    assert "PROGRAM=" not in text
    assert main(["pin", SHARED, *SETS, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == "simnet-placement/1"
    assert [p["rank"] for p in content["placements"]] == list(range(1, 12))
    assert content["commands"]
    (own,) = [p for p in content["placements"] if p["yours"]]
    assert own["told_from_best"]
    assert own["cpus"] == {"NIC vectors": [7], "I/O thread": [3], "vCPU 3": [7]}


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["paper/wm"], "did you mean 'paper/vm'"),
        (["paper/vm", "--top", "0"], "--top 0: at least 1"),
        (["paper/vm", "--set", "guest.io_cpus=99"], "there is no CPU 99"),
    ):
        assert main(["pin", *arguments]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert message in output.err
        assert output.err.count("\n") == 1
