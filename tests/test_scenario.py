"""Scenarios: built-in ones, files based on others, --set, and which mistakes are found where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from simnet.errors import UserError
from simnet.scenario.loading import built_in_scenarios, load, setting
from simnet.scenario.schema import IMIX, Scenario
from simnet.system.choices import generation_of, nic_model, resolve
from simnet.system.describe import describe

BASE = "paper/bare-metal"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a scenario file."""

    def file(text: str, name: str = "s.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return file


def refusal(name: Path | str, *sets: str) -> str:
    """The message with which a scenario is refused; it is one line."""
    with pytest.raises(UserError) as caught:
        load(str(name), sets)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def field(scenario: Scenario, path: str) -> Any:
    """The value at a path such as traffic.frame_bytes."""
    value: Any = scenario
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("name", built_in_scenarios())
def test_a_built_in_scenario_is_complete(name: str) -> None:
    scenario = load(name)
    assert scenario.name == name
    assert scenario.title
    assert scenario.question.endswith("?")
    assert describe(scenario, resolve(scenario))


@pytest.mark.parametrize("name", built_in_scenarios())
def test_what_a_result_remembers_of_a_scenario_loads_again(name: str) -> None:
    scenario = load(name)
    assert Scenario.model_validate(json.loads(json.dumps(scenario.model_dump(mode="json")))) == scenario


def test_what_a_result_remembers_of_a_mix_of_sizes_loads_again() -> None:
    scenario = load(BASE, ["traffic.frame_bytes=imix"])
    assert Scenario.model_validate(json.loads(json.dumps(scenario.model_dump(mode="json")))) == scenario


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("capture.monitor=null", "capture.monitor", "null"),
        ("capture.monitor=~", "capture.monitor", "null"),
        ("capture.monitor='null'", "capture.monitor", "null"),
        ("host.kernel=3.2", "host.kernel", "3.2"),
        ("host.kernel=2.6.37", "host.kernel", "2.6.37"),
        ("host.nic.model=82599", "host.nic.model", "82599"),
        ("host.hz=1e3", "host.hz", 1000),
        ("host.c_states=false", "host.c_states", False),
        ("host.nic.queues=1e1", "host.nic.queues", 10),
        ("host.nic.irq_cpus=[0, 1, 2, 3, 4, 5, 6, 7]", "host.nic.irq_cpus", list(range(8))),
        ("host.nic={queues: 2, irq_cpus: 3}", "host.nic.irq_cpus", 3),
        ("traffic.frame_bytes=64", "traffic.frame_bytes", 64),
        ("traffic.frame_bytes=9216.0", "traffic.frame_bytes", 9216),
        ("traffic.frame_bytes=imix", "traffic.frame_bytes", IMIX),
        ("traffic.frame_bytes={64: 1, 1518: 0.5}", "traffic.frame_bytes", {64: 1.0, 1518: 0.5}),
        ("traffic.flows=multi", "traffic.flows", "multi"),
        ("traffic.flows=1e6", "traffic.flows", 1_000_000),
        ("traffic.flows=16777216", "traffic.flows", 1 << 24),
        ("costs.driver_cycles=0", "costs", {"driver_cycles": 0.0}),
        ("title=a=b", "title", "a=b"),
        ("title='2012'", "title", "2012"),
    ],
)
def test_spellings_of_a_value(change: str, path: str, value: Any) -> None:
    found = field(load(BASE, [change]), path)
    assert found == value
    assert type(found) is type(value)


def test_numbers_are_good_names_of_kernel_and_nic(write: Write) -> None:
    scenario = load(str(write(f"based_on: {BASE}\nhost:\n  kernel: 3.2\n  nic: {{model: 82599}}\ncapture: {{monitor: null}}\n")))
    params = resolve(scenario)
    assert generation_of(scenario, params).name == "3.2"
    assert nic_model(scenario, params).name == "82599"
    assert scenario.capture.monitor == "null"


def test_settings_as_strings_and_as_a_mapping_are_the_same() -> None:
    strings = load(BASE, ["traffic.frame_bytes=imix", "capture.method=recv", "traffic.offered_kpps=1e3", "host.nic.queues=4"])
    values = {"traffic.frame_bytes": "imix", "capture.method": "recv", "traffic.offered_kpps": 1000, "host.nic.queues": 4}
    assert load(BASE, values) == strings
    assert load(BASE) != strings


def test_the_last_of_two_settings_counts() -> None:
    assert load(BASE, ["traffic.frame_bytes=128", "host.nic.queues=2", "traffic.frame_bytes=256"]).traffic.frame_bytes == 256


@pytest.mark.parametrize(
    "value",
    [
        np.float64(128.0),
        pytest.param(np.int64(128), id="int64"),
        pytest.param(np.float32(128.0), id="float32"),
    ],
)
def test_numbers_of_numpy_are_numbers(value: Any) -> None:
    assert load(BASE, {"traffic.frame_bytes": value}).traffic.frame_bytes == 128


def test_a_file_changes_what_it_names_and_keeps_the_rest(write: Write) -> None:
    middle = write(
        f"based_on: {BASE}\nname: middle\ncapture: {{cpu: 3, method: pf_packet}}\ntraffic: {{generators: 2}}\n", "middle.yaml"
    )
    top = write(f"based_on: {middle}\nname: top\ncapture: {{cpu: 5}}\n", "top.yaml")
    scenario, base = load(str(top)), load(BASE)
    assert scenario.name == "top"
    assert scenario.title == base.title
    assert scenario.capture == base.capture.model_copy(update={"cpu": 5, "method": "pf_packet"})
    assert scenario.traffic == base.traffic.model_copy(update={"generators": 2})
    assert scenario.host == base.host


def test_a_mistake_is_reported_where_it_was_written(write: Write) -> None:
    middle = write(f"name: middle\nbased_on: {BASE}\ntraffic:\n  frame_bytes: 20\ncapture:\n  cpus: 1\n", "middle.yaml")
    top = write(f"based_on: {middle}\ntraffic:\n  generators: 2\n", "top.yaml")
    assert refusal(top).startswith(f"{middle}:6: ")
    fixed = write(f"based_on: {middle}\ntraffic:\n  frame_bytes: 10\n", "top.yaml")
    middle.write_text(middle.read_text().replace("cpus", "cpu"))
    assert refusal(fixed).startswith(f"{fixed}:3: ")
    assert refusal(fixed, "traffic.frame_bytes=30").startswith("--set traffic.frame_bytes=30: ")


def test_a_scenario_cannot_be_changed_later() -> None:
    scenario = load(BASE)
    for section, name in ((scenario, "name"), (scenario.host.nic, "queues"), (scenario.traffic, "frame_bytes")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, 1)


@pytest.mark.parametrize(
    ("changes", "named", "words"),
    [
        ("traffic.source=cbr", "traffic.offered_kpps", ["cbr", "rate"]),
        ("traffic.source=pcap", "traffic.pcap", ["pcapng"]),
        ("traffic.pcap=x.pcap", "traffic.source", ["pktgen"]),
        ("capture.flow_table.entries=5000", "capture.flow_table.entries", ["power of two", "5000"]),
        ("capture.method=pf_ring capture.slots=100", "capture.watermark", ["128", "100"]),
        ("host.nic.irq_cpus=[0,1]", "host.nic.irq_cpus", ["2 CPUs", "8 queues"]),
    ],
)
def test_fields_that_do_not_fit_together(changes: str, named: str, words: list[str]) -> None:
    message = refusal(BASE, *changes.split())
    for word in [f"{named}: ", *words]:
        assert word in message


@pytest.mark.parametrize("text", ["traffic.frame_bytes", "", "=5", ".=5", "a..b=5", ".a=5", "a.=5"])
def test_a_setting_needs_a_path_and_a_value(text: str) -> None:
    with pytest.raises(UserError, match="expected path=value") as caught:
        setting(text)
    assert f"--set {text}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a.b.c=1e3", ("a", "b", "c"), 1000.0),
        ("a=b=c", ("a",), "b=c"),
        ("a=", ("a",), None),
        ("a=[1, {b: on}]", ("a",), [1, {"b": "on"}]),
        ("a='1'", ("a",), "1"),
    ],
)
def test_a_setting_is_a_path_and_yaml(text: str, path: tuple[str, ...], value: Any) -> None:
    assert setting(text) == (path, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param("traffic.frame_byte=64", ["'traffic.frame_byte'", "did you mean 'frame_bytes'"], id="field"),
        pytest.param(
            "host.nic.queue=4", ["'host.nic.queue'", "did you mean 'queues'", "ring_descriptors"], id="field of a subsection"
        ),
        pytest.param("captur=5", ["'captur'", "did you mean 'capture'"], id="section"),
        pytest.param("traffic.source.rate=1", ["source", "not a section"], id="below a value"),
        pytest.param("name.first=x", ["name", "not a section"], id="below a name"),
        pytest.param(
            "trafic.frame_bytes=64",
            ["'trafic'", "did you mean 'traffic'"],
            id="in a section",
        ),
        pytest.param(
            "host.nick.queues=4",
            ["'host.nick'", "did you mean 'nic'"],
            id="in a subsection",
        ),
    ],
)
def test_an_unknown_setting_is_named_with_the_nearest(change: str, words: list[str]) -> None:
    message = refusal(BASE, change)
    for word in [f"--set {change}: ", *words]:
        assert word in message


@pytest.mark.parametrize("key", ["interval_us", "interrupts", "dictionary", "floating", "literal", "function", "list[x]"])
def test_an_unknown_key_may_look_like_the_name_of_a_type(write: Write, key: str) -> None:
    file = write(f"based_on: {BASE}\nhost:\n  nic:\n    queues: 4\n    {key}: 3\n")
    message = refusal(file)
    assert message.startswith(f"{file}:5: unknown key 'host.nic.{key}'; allowed: model, queues, ")
    assert f"--set host.nic.{key}=3: " in refusal(BASE, f"host.nic.{key}=3")


@pytest.mark.parametrize(
    ("value", "at_fault"),
    [
        pytest.param("[0, 1, 2, 3, 4, 5, 6, -7]", "-7", id="negative"),
        pytest.param("[0, 1, 2, 3, 4, 5, 6, x]", "'x'", id="a word"),
        pytest.param("[0, 1, 2, 3, 4, 5, 6, 1.5]", "1.5", id="a fraction"),
    ],
)
def test_a_bad_cpu_in_a_list_is_named(value: str, at_fault: str) -> None:
    message = refusal(BASE, f"host.nic.irq_cpus={value}")
    explanation = message.removeprefix(f"--set host.nic.irq_cpus={value}: ")
    assert "host.nic.irq_cpus" in explanation
    assert at_fault in explanation
    assert "[0, 1" not in explanation


def test_based_on_in_a_circle(write: Write, tmp_path: Path) -> None:
    one, two, three = (tmp_path / f"{name}.yaml" for name in ("one", "two", "three"))
    write(f"based_on: {two}\n", "one.yaml")
    write(f"title: two\nbased_on: {three}\n", "two.yaml")
    write(f"title: three\nname: x\nbased_on: {two}\n", "three.yaml")
    message = refusal(one)
    assert message.startswith(f"{three}:3: ")
    assert f"{two} -> {three} -> {two}" in message
    itself = write(f"based_on: {tmp_path / 'itself.yaml'}\n", "itself.yaml")
    assert refusal(itself).startswith(f"{itself}:1: ")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "7\n"])
def test_a_file_that_is_no_scenario(write: Write, text: str) -> None:
    file = write(text)
    message = refusal(file)
    assert message.startswith(str(file))
    assert "not a scenario" in message
