"""Parameter sets: built-in ones are complete and sourced, changes keep ranges, mistakes in a file are named with their line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from simnet.errors import UserError
from simnet.hardware.models import NIC_MODELS
from simnet.kernel.rules import GENERATIONS
from simnet.params.schema import KINDS, REASON, ParameterSet, built_in_sets, parameter_set
from simnet.scenario.loading import load
from simnet.system.choices import nic_model, resolve
from simnet.system.describe import describe

E5520 = "e5520-linux-3.2"
SCENARIO = "paper/bare-metal"
HEAD = f"name: mine\nbased_on: {E5520}\n"
QUANTITY = "quantities:\n  receive:\n    driver_cycles: "
GOOD = "{value: 500, low: 400, high: 600, unit: cycles, kind: measured, source: perf stat on my own machine}\n"
UNIT_OF_SUFFIX = {
    "ghz": "GHz",
    "cycles": "cycles",
    "ns": "ns",
    "us": "us",
    "bytes": "bytes",
    "lines": "lines",
    "entries": "entries",
    "exposed": "share",
    "overlap": "share",
    "slowdown": "times",
}

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a parameter file."""

    def file(text: str) -> str:
        path = tmp_path / "set.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return file


def use(name: str) -> dict[str, str]:
    """What follows from a scenario with this parameter set."""
    scenario = load(SCENARIO, {"parameters": name})
    return dict(describe(scenario, resolve(scenario)))


def refusal(name: str) -> str:
    """The message with which a scenario with this parameter set is refused; it is one line."""
    with pytest.raises(UserError) as caught:
        use(name)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("name", built_in_sets())
def test_every_built_in_quantity_is_in_its_range_and_has_a_source(name: str) -> None:
    params = parameter_set(name)
    assert params.name == name
    assert params.title
    for quantity in params:
        assert math.isfinite(quantity.high), quantity
        assert 0 <= quantity.low <= quantity.value <= quantity.high, quantity
        assert len(quantity.source.strip()) >= 10, quantity
        assert quantity.kind in KINDS, quantity
        assert quantity.unit in REASON, quantity
        assert quantity.unit == UNIT_OF_SUFFIX[quantity.name.rsplit("_", 1)[-1]], quantity
        assert quantity.unit != "share" or quantity.high <= 1, quantity
        assert params[quantity.name] == quantity.value


@pytest.mark.parametrize("name", built_in_sets())
def test_the_host_of_a_built_in_set_exists(name: str) -> None:
    host = parameter_set(name).host
    assert host["nic"] in NIC_MODELS
    assert host["kernel"] in GENERATIONS
    assert host["sockets"] >= 1
    assert host["cores_per_socket"] >= 1


def test_all_built_in_sets_answer_the_same_questions() -> None:
    assert len({frozenset(parameter_set(name).quantities) for name in built_in_sets()}) == 1


def test_a_change_of_values_keeps_everything_else() -> None:
    params = parameter_set(E5520)
    before = dict(params.quantities)
    changed = params.with_values({"driver_cycles": 1, "clock_ghz": 100})
    assert dict(params.quantities) == before
    for name, old in before.items():
        new = changed.quantity(name)
        if name in ("driver_cycles", "clock_ghz"):
            assert new == replace(old, value=1.0 if name == "driver_cycles" else 100.0, kind="assumed", source=new.source)
            assert new.source != old.source
        else:
            assert new == old
    assert (changed.name, changed.host) == (params.name, params.host)
    assert params.with_values({}).quantities == before


@pytest.mark.parametrize(
    "ask", [lambda p: p["driver_cycle"], lambda p: p.quantity("driver_cycle"), lambda p: p.with_values({"driver_cycle": 1})]
)
def test_an_unknown_quantity_is_named_with_the_nearest(ask: Callable[[ParameterSet], object]) -> None:
    with pytest.raises(UserError, match=f"'{E5520}' has no quantity 'driver_cycle'; did you mean 'driver_cycles'"):
        ask(parameter_set(E5520))


@pytest.mark.parametrize("given", ["e5520-linux-3.1", "E5520-linux-3.2", "e5520"])
def test_an_unknown_set_is_named_with_the_nearest(given: str) -> None:
    message = refusal(given)
    for word in (f"'{given}'", *built_in_sets(), f"did you mean '{E5520}'"):
        assert word in message


def test_a_file_based_on_a_set_changes_only_what_it_names(write: Write) -> None:
    base = parameter_set(E5520)
    mine = parameter_set(write(HEAD + "title: Mine\nhost: {sockets: 1}\n" + QUANTITY + GOOD))
    assert (mine.name, mine.title) == ("mine", "Mine")
    assert mine["driver_cycles"] == 500
    assert mine.quantity("driver_cycles").source == "perf stat on my own machine"
    assert dict(mine.host) == {**base.host, "sockets": 1}
    others = set(base.quantities) - {"driver_cycles"}
    assert {name: mine.quantity(name) for name in others} == {name: base.quantity(name) for name in others}


def test_a_file_of_its_own_needs_no_base(write: Write) -> None:
    text = (Path(__file__).parents[1] / "simnet" / "params" / "sets" / f"{E5520}.yaml").read_text(encoding="utf-8")
    mine = parameter_set(write(text.replace(f"name: {E5520}", "name: mine")))
    assert mine == replace(parameter_set(E5520), name="mine")


def test_a_cost_of_a_file_is_what_a_frame_costs(write: Write) -> None:
    def driver(name: str) -> int:
        return int(use(name)["softirq, driver, a frame"].split()[0])  # "N cycles"

    difference = 500 - parameter_set(E5520)["driver_cycles"]
    assert driver(write(HEAD + QUANTITY + GOOD)) - driver(E5520) == pytest.approx(difference, abs=1)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param(HEAD + "hosts: {}\n", 3, ["'hosts'", "quantities", "did you mean 'host'"], id="unknown key"),
        pytest.param(HEAD + "host: {}\nhost: {}\n", 4, ["'host'", "twice"], id="repeated key"),
        pytest.param(HEAD + QUANTITY + "500\n", 5, ["driver_cycles", "value, low, high"], id="only a number"),
        pytest.param(HEAD + QUANTITY + GOOD.replace("low: 400, ", ""), 5, ["driver_cycles", "low", "missing"], id="low missing"),
        pytest.param(
            HEAD + QUANTITY + GOOD.split(", source")[0] + "}\n", 5, ["driver_cycles", "source", "missing"], id="source missing"
        ),
        pytest.param(HEAD + QUANTITY + GOOD.replace("low", "lo"), 5, ["'lo'", "did you mean 'low'"], id="unknown attribute"),
        pytest.param(HEAD + QUANTITY + GOOD.replace("500", "300"), 5, ["300", "400", "600"], id="value below range"),
        pytest.param(HEAD + QUANTITY + GOOD.replace("500", "601"), 5, ["601", "400", "600"], id="value above range"),
        pytest.param(HEAD + QUANTITY + GOOD.replace("500", "fast"), 5, ["driver_cycles.value", "'fast'"], id="value a word"),
        pytest.param(
            HEAD + QUANTITY + GOOD.replace("500", "500cycles"), 5, ["driver_cycles.value", "'500cycles'"], id="value with a unit"
        ),
        pytest.param(HEAD + QUANTITY + GOOD.replace("500", "true"), 5, ["driver_cycles.value", "True"], id="value a truth"),
        pytest.param(HEAD + QUANTITY + GOOD.replace("500", ".nan"), 5, ["driver_cycles.value", "nan"], id="value nan"),
        pytest.param(HEAD + QUANTITY + GOOD.replace("600", ".inf"), 5, ["driver_cycles.high", "inf"], id="high infinite"),
        pytest.param(HEAD + QUANTITY + GOOD.replace("400", "-1"), 5, ["driver_cycles.low", "-1"], id="low negative"),
        pytest.param(
            HEAD + QUANTITY + GOOD.replace(": cycles", ": cycle"), 5, ["'cycle'", "GHz", "did you mean 'cycles'"], id="unit"
        ),
        pytest.param(HEAD + QUANTITY + GOOD.replace("measured", "measurd"), 5, ["'measurd'", "did you mean 'measured'"], id="kind"),
        pytest.param(
            HEAD + "quantities:\n  x:\n    driver_cycle: " + GOOD,
            5,
            [E5520, "'driver_cycle'", "did you mean 'driver_cycles'"],
            id="unknown quantity",
        ),
        pytest.param(HEAD + "quantities: [1]\n", 3, ["quantities"], id="quantities a list"),
        pytest.param(HEAD + "quantities:\n  receive: 5\n", 4, ["receive"], id="group a number"),
        pytest.param(HEAD + "host: fast\n", 3, ["host", "fast"], id="host a word"),
        pytest.param(HEAD + "host: {sockets: two}\n", 3, ["sockets", "two"], id="sockets a word"),
        pytest.param(
            HEAD + "host: {sockets: 0}\n",
            3,
            ["sockets", "0"],
            id="no socket",
        ),
        pytest.param(HEAD + "host: {sockets: 2.5}\n", 3, ["sockets", "2.5"], id="half a socket"),
        pytest.param(HEAD + "host: {socket: 2}\n", 3, ["'socket'", "did you mean 'sockets'"], id="unknown fact"),
        pytest.param(HEAD + "host: {numbering: mixed}\n", 3, ["'mixed'", "interleaved"], id="unknown numbering"),
        pytest.param(HEAD + "host: {nic: 82598}\n", 3, ["82598", "did you mean '82599'"], id="unknown NIC"),
        pytest.param("name: x\nbased_on: e5520\n", 2, ["'e5520'", f"did you mean '{E5520}'"], id="unknown base"),
        pytest.param("name: x\nbased_on: 5\n", 2, ["based_on", "5"], id="base a number"),
        pytest.param("name: x\nbased_on: [a]\n", 2, ["based_on"], id="base a list"),
        pytest.param(
            HEAD + QUANTITY + GOOD.replace("600", "6" * 400),
            5,
            ["driver_cycles.high"],
            id="high beyond all floats",
        ),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(write: Write, text: str, line: int, words: list[str]) -> None:
    file = write(text)
    message = refusal(file)
    assert message.startswith(f"{file}:{line}: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["", "- a\n", "words\n", "title: x\n"])
def test_a_file_that_is_no_parameter_set(write: Write, text: str) -> None:
    file = write(text)
    message = refusal(file)
    assert message.startswith(file)
    assert "not a parameter set" in message


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param("driver_cycles"),
        pytest.param("sockets"),
        pytest.param("nic"),
        pytest.param("numbering"),
    ],
)
def test_a_file_of_its_own_must_be_complete(write: Write, missing: str) -> None:
    text = (Path(__file__).parents[1] / "simnet" / "params" / "sets" / f"{E5520}.yaml").read_text(encoding="utf-8")
    file = write("".join(line for line in text.splitlines(keepends=True) if not line.strip().startswith(f"{missing}:")))
    assert missing in refusal(file)


def test_based_on_in_a_circle(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"name: one\nbased_on: {two}\n", encoding="utf-8")
    two.write_text(f"name: two\ntitle: x\nbased_on: {one}\n", encoding="utf-8")
    message = refusal(str(one))
    assert message.startswith(f"{two}:3: ")
    assert "circle" in message


@pytest.mark.parametrize(
    "text",
    ["host: {nic: '82576'}\n", pytest.param("host: {nic: 82576}\n")],
)
def test_a_nic_may_be_named_by_its_number(write: Write, text: str) -> None:
    scenario = load(SCENARIO, {"parameters": write(HEAD + text)})
    assert nic_model(scenario, resolve(scenario)).name == "82576"


def test_a_changed_file_is_read_again(write: Write) -> None:
    first = parameter_set(write(HEAD + QUANTITY + GOOD))
    second = parameter_set(write(HEAD + QUANTITY + GOOD.replace("500", "550")))
    assert (first["driver_cycles"], second["driver_cycles"]) == (500, 550)
