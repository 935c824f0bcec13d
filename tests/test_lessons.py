"""Lessons: they run without a browser, hold their answer back, say what is true of the model, and mark their exercises rightly."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

import simnet
from simnet.cli import main
from simnet.cli.lessons import lessons

pytest.importorskip("marimo", reason="lessons are marimo notebooks: pip install 'simnet-rx[lessons]'")
from scenarios.lessons import _charts as charts
from scenarios.lessons import _shared as shared
from scenarios.lessons import livelock, moderation, pinning

RIGHT = {livelock: "next to nothing", moderation: "none", pinning: "less than a third of it is left"}
MOST_PACKETS = round(3 * 0.16 * 14_881_000)
"""What a 10 Gbit/s link brings in the three short replications of one answer."""


def predicted(answer: str | None) -> dict[str, Any]:
    """The definitions of the cell that holds the first prediction."""
    return {"first": lambda: answer, "keep": lambda change: change}


def texts(outputs: Any) -> str:
    return "\n".join(getattr(output, "text", "") for output in outputs)


@pytest.mark.parametrize("lesson", RIGHT, ids=lambda lesson: lesson.__name__)
class TestEveryLesson:
    def test_holds_its_answer_back_until_there_is_a_prediction(self, lesson: ModuleType) -> None:
        outputs, definitions = lesson.app.run()
        assert "Predict first" in texts(outputs)
        assert "What happened" not in texts(outputs)
        assert "result" not in definitions

    def test_answers_a_right_and_a_wrong_prediction(self, lesson: ModuleType) -> None:
        for answer, kind in ((RIGHT[lesson], "success"), ("something else", "info")):
            outputs, definitions = lesson.app.run(defs=predicted(answer))
            verdict = next(output.text for output in outputs if "You predicted" in getattr(output, "text", ""))
            assert answer in verdict
            assert kind in verdict
            assert definitions["result"].packets.offered > 0
            assert "What happened" in texts(outputs)
            assert "Exercise" in texts(outputs)

    def test_the_right_prediction_is_one_of_the_choices(self, lesson: ModuleType) -> None:
        outputs, _ = lesson.app.run()
        assert RIGHT[lesson] in texts(outputs)

    def test_keeps_the_first_prediction(self, lesson: ModuleType) -> None:
        del lesson
        kept: list[str | None] = [None]
        form = shared.prediction_form(["a", "b"], lambda change: kept.__setitem__(0, change(kept[0])))
        for answer in ("a", "b"):
            form._on_change(answer)  # type: ignore[misc]
        assert kept == ["a"]

    def test_uses_the_cited_parameters_as_they_are(self, lesson: ModuleType) -> None:
        result = lesson.app.run(defs=predicted(RIGHT[lesson]))[1]["result"]
        scenario = simnet.load(lesson.SCENARIO)
        cited = simnet.parameter_set(scenario.parameters)
        assert result.provenance["scenario"]["costs"] == scenario.costs
        given = {name: quantity["value"] for name, quantity in result.provenance["parameters"].items()}
        assert given == {q.name: q.value for q in cited} | scenario.costs

    def test_is_listed_with_title_and_question(self, lesson: ModuleType) -> None:
        listed = {each.name: each for each in lessons()}[lesson.__name__.rpartition(".")[2]]
        assert listed.title == lesson.app._config.app_title
        assert listed.question.endswith("?")


def bounded(result: simnet.Result) -> simnet.Result:
    """The same result, which took no more work than an answer may."""
    assert len(result.replications) == 3
    assert result.packets.offered <= MOST_PACKETS
    return result


class TestLivelock:
    def test_the_rate_rises_collapses_and_stays_down(self) -> None:
        calm, over, flooded = (bounded(livelock.flood(kpps, "3.2")).captured.kpps.mean for kpps in (500, 1000, 4400))
        assert calm > 450
        assert over < calm / 2
        assert flooded < 1

    def test_half_of_the_core_is_stolen_and_half_is_ksoftirqd(self) -> None:
        result = livelock.flood(livelock.FLOOD_KPPS, "3.2")
        assert shared.share(result, livelock.CPU, "softirq") == pytest.approx(0.5, abs=0.1)
        assert shared.share(result, livelock.CPU, "ksoftirqd") == pytest.approx(0.5, abs=0.1)
        assert result.rates["interrupts"] == 0
        assert result.rates["time_squeezes"] > 1000

    def test_the_rule_of_4_9_gives_a_hundred_times_as_much(self) -> None:
        rates = [livelock.flood(livelock.FLOOD_KPPS, kernel).captured.kpps.mean for kernel in livelock.KERNELS]
        assert 30 < rates[1] / rates[0] < 300

    def test_the_live_cell_follows_its_controls(self) -> None:
        controls = {"load": SimpleNamespace(value=4400), "kernel": SimpleNamespace(value="3.2-deferred")}
        outputs, definitions = livelock.app.run(defs={**predicted("x"), **controls})
        assert bounded(definitions["result"]).offered.kpps.mean == pytest.approx(4400, rel=0.02)
        assert "4 400 kpps" in texts(outputs)

    def test_the_exercise_has_one_right_answer(self) -> None:
        verdicts = {answer: livelock.check(*answer) for answer in product(livelock.KERNELS, livelock.BUFFERS_KIB)}
        assert [answer for answer, (right, _) in verdicts.items() if right] == [("3.2-deferred", 8192)]
        assert "inline" in verdicts["3.2", 8192][1]
        assert "empties its buffer" in verdicts["3.2-deferred", 208][1]
        assert "8192 KiB would do" in verdicts["3.2-deferred", 16384][1]

    def test_the_exercise_marks_in_the_notebook(self) -> None:
        for buffer_kib, says in ((8192, "Right."), (208, "Not yet.")):
            answer = SimpleNamespace(value={"kernel": "3.2-deferred", "buffer_kib": buffer_kib})
            outputs, _ = livelock.app.run(defs={**predicted("x"), "answer": answer})
            assert says in texts(outputs)


class TestModeration:
    @pytest.mark.parametrize("setting", [("fixed", 0), ("fixed", 50), ("fixed", 500), ("adaptive", 50)])
    def test_nothing_interrupts_under_overload(self, setting: tuple[str, int]) -> None:
        result = bounded(moderation.receive(moderation.FLOOD_KPPS, *setting))
        assert result.rates["interrupts"] == 0
        assert result.batches[64] == sum(result.batches)

    def test_an_interval_limits_interrupts_and_costs_half_of_itself(self) -> None:
        free, limited = moderation.receive(200, "fixed", 0), moderation.receive(200, "fixed", 50)
        assert limited.rates["interrupts"] == pytest.approx(20_000, rel=0.01)
        assert free.rates["interrupts"] > 5 * limited.rates["interrupts"]
        assert limited.latency_us["p50"] == pytest.approx(25, rel=0.2)
        assert shared.share(limited, moderation.CPU, "hardirq") < shared.share(free, moderation.CPU, "hardirq") / 4

    def test_interrupts_a_packet_fall_without_any_moderation(self) -> None:
        results = [moderation.receive(kpps, "fixed", 0) for kpps in moderation.LOADS if kpps >= 50]
        ratios = [result.rates["interrupts"] / result.captured.kpps.mean for result in results]
        assert ratios == sorted(ratios, reverse=True)

    def test_adaptive_favours_latency_at_low_load_and_the_core_at_high(self) -> None:
        low, high = moderation.receive(200, "adaptive"), moderation.receive(800, "adaptive")
        assert low.rates["interrupts"] > 5 * high.rates["interrupts"]
        assert (low.latency_us["p50"] or 0) < (high.latency_us["p50"] or 0)

    def test_the_exercise_has_one_right_answer(self) -> None:
        verdicts = {us: moderation.check(us) for us in range(0, 251, moderation.STEP_US)}
        assert [us for us, (right, _) in verdicts.items() if right] == [90]
        assert "so are 60 µs" in verdicts[50][1]
        assert "above 90 µs" in verdicts[100][1]

    def test_the_sleep_state_explains_the_step(self) -> None:
        asleep, awake = (
            moderation.receive(moderation.EXERCISE_KPPS, "fixed", 100, sleep).latency_us["p99"] for sleep in (True, False)
        )
        assert asleep is not None
        assert awake is not None
        assert asleep > moderation.MOST_P99_US > awake


class TestPinning:
    def test_the_shared_core_leaves_less_than_a_third(self) -> None:
        apart = bounded(pinning.place(pinning.NIC, pinning.IO, pinning.VCPU)).captured.kpps.mean
        together = bounded(pinning.place(pinning.NIC, pinning.IO, pinning.NIC)).captured.kpps.mean
        assert together < apart / 3

    def test_placement_does_not_matter_when_calm_and_turns_round_in_between(self) -> None:
        calm = [pinning.place(pinning.NIC, pinning.IO, vcpu, 50).captured.kpps.mean for vcpu in (pinning.VCPU, pinning.NIC)]
        assert calm == pytest.approx([50, 50], rel=0.02)
        apart, together = (pinning.place(pinning.NIC, pinning.IO, vcpu, 500) for vcpu in (pinning.VCPU, pinning.NIC))
        assert together.captured.kpps.mean > 1.1 * apart.captured.kpps.mean
        for counter in ("guest_interrupts", "mutex_contended"):
            assert together.rates[counter] < apart.rates[counter] / 2

    def test_the_other_socket_hardly_matters(self) -> None:
        near, far = (pinning.place(pinning.NIC, io, pinning.VCPU).captured.kpps.mean for io in (pinning.IO, 2))
        assert far == pytest.approx(near, rel=0.05)

    @pytest.mark.parametrize("placement", [(7, 5, 5), (2, 5, 5), (7, 1, 1)])
    def test_the_exercise_accepts_softirqs_alone(self, placement: tuple[int, int, int]) -> None:
        right, why = pinning.check(*placement)
        assert right, why

    @pytest.mark.parametrize("placement", [(7, 3, 7), (7, 7, 5), (5, 5, 5), (7, 3, 5), (5, 2, 5)])
    def test_the_exercise_rejects_all_others_and_says_why(self, placement: tuple[int, int, int]) -> None:
        right, why = pinning.check(*placement)
        assert not right
        assert ("Use two" in why) == (len(set(placement)) != 2)


def test_charts_are_well_formed_and_to_scale() -> None:
    curve = ElementTree.fromstring(charts.curves([("a < b", [0, 100], [0, 50])], (100, 50), ("x", "y"), "d"))
    points = [tuple(map(float, point.split(","))) for point in curve.find("polyline").get("points").split()]  # type: ignore[union-attr]
    assert points == [(charts.LEFT, charts.HEIGHT - charts.BOTTOM), (charts.WIDTH - charts.RIGHT, charts.TOP)]
    bars = ElementTree.fromstring(charts.histogram([0, 3, 1], ("x", "y"), "d")).findall("rect")
    heights = [float(bar.get("height", "0")) for bar in bars]
    assert len(heights) == 2
    assert heights[0] == pytest.approx(3 * heights[1], abs=0.2)


class TestCommand:
    def test_lists_for_people(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["lesson"]) == 0
        printed = capsys.readouterr().out
        assert all(each.name in printed and each.question in printed for each in lessons())

    def test_lists_for_programs(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["lesson", "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert listed["schema"] == "simnet-lessons/1"
        assert {each["name"] for each in listed["lessons"]} == {"livelock", "moderation", "pinning"}
        assert all(Path(each["file"]).is_file() for each in listed["lessons"])

    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
        commands: list[list[str]] = []
        monkeypatch.setattr(os, "execv", lambda program, arguments: commands.append([program, *arguments[1:]]))
        monkeypatch.chdir(tmp_path)
        return commands

    def test_opens_the_installed_notebook(self, started: list[list[str]]) -> None:
        assert main(["lesson", "livelock", "--headless", "--port", "2718"]) == 0
        (command,) = started
        assert command[1:] == ["-m", "marimo", "run", "--port", "2718", "--headless", livelock.__file__]

    def test_edits_a_copy_and_keeps_what_the_student_wrote(self, started: list[list[str]], tmp_path: Path) -> None:
        assert main(["lesson", "pinning", "--edit"]) == 0
        mine = tmp_path / "pinning.py"
        assert mine.read_text(encoding="utf-8") == Path(pinning.__file__).read_text(encoding="utf-8")
        mine.write_text("# mine\n", encoding="utf-8")
        assert main(["lesson", "pinning", "--edit"]) == 0
        assert mine.read_text(encoding="utf-8") == "# mine\n"
        assert started[-1][1:] == ["-m", "marimo", "edit", "pinning.py"]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["livelok"], "did you mean 'livelock'?"),
            (["livelock", "--json"], "only the list"),
            (["livelock", "--port", "70000"], "a port is 1 to 65535"),
        ],
    )
    def test_refuses(self, arguments: list[str], says: str, started: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["lesson", *arguments]) == 2
        assert says in capsys.readouterr().err
        assert not started

    def test_says_how_to_install_marimo(
        self, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", {}.get)
        assert main(["lesson", "livelock"]) == 2
        assert capsys.readouterr().err == (
            "simnet: a lesson is a marimo notebook, and marimo is not installed: pip install 'simnet-rx[lessons]'\n"
        )
        assert not started
