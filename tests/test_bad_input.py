"""Whatever a user gets wrong: one message (where, what, what else), exit status 2, no traceback, nothing on standard output."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import pandas as pd
import pytest
from matplotlib.figure import Figure

import simnet
from calibration.campaign import built_in_campaigns
from calibration.shipped import shipped_records
from simnet.cli import main
from simnet.errors import UserError
from simnet.experiment.replicate import Ensemble, Member
from simnet.files import write_json
from simnet.params.schema import built_in_sets, parameter_set
from simnet.report.files import write_result
from simnet.scenario.loading import built_in_scenarios, load
from simnet.system.choices import resolve

BASE = "paper/bare-metal"
SHORT = ("--set", "measure.limit_s=0.05")
PLOTS = ("throughput", "waterfall", "cores", "latency", "batches")
NO_SPACE_TEXT = os.strerror(errno.ENOSPC)
NO_SPACE = OSError(errno.ENOSPC, NO_SPACE_TEXT)
NO_FILE_LINE = "the message does not say where in the file"

PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
PACKETS = PCAP + b"".join(struct.pack("<IIII", 0, us, 60, 60) + bytes(60) for us in (1, 20, 30))

Capture = pytest.CaptureFixture[str]


def sets(changes: Sequence[str]) -> list[str]:
    """Arguments for some changes."""
    return [argument for change in changes for argument in ("--set", change)]


def refusal(capsys: Capture, *arguments: str) -> str:
    """The message with which a command is refused, without the program's name."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("simnet: ")
    return printed.err.removeprefix("simnet: ").strip()


def assert_answer_or_refusal(capsys: Capture, *arguments: str) -> None:
    """Of a command that may work or be refused: it does one of them properly."""
    status = main(arguments)
    printed = capsys.readouterr()
    if status == 0:
        assert json.loads(printed.out, parse_constant=no_such_constant)
        assert printed.err == ""
    else:
        assert (status, printed.out, len(printed.err.splitlines())) == (2, "", 1)


def no_such_constant(name: str) -> NoReturn:
    """JSON has no NaN and no infinity."""
    raise AssertionError(name)


@pytest.fixture(scope="session")
def result() -> simnet.Result:
    """A short run; it also compiles the mechanisms for all processes that come after."""
    return simnet.run(load(BASE, {"measure.limit_s": 0.05}))


# What is written on the command line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(["traffic.link_gbps=10Gbps"], ["'10Gbps'", "number without a unit"], id="rate with a unit"),
        pytest.param(["traffic.frame_bytes=64B"], ["'64B'", "bytes", "imix"], id="size with a unit"),
        pytest.param(["capture.poll_timeout_ms=1 s"], ["'1 s'", "without a unit"], id="time with a unit"),
        pytest.param(["measure.precision=1%"], ["'1%'", "without a unit"], id="per cent"),
        pytest.param(["traffic.offered_kpps=.nan"], ["nan", "finite"], id="nan"),
        pytest.param(["traffic.offered_kpps=.inf"], ["inf", "finite"], id="infinite"),
        pytest.param(["traffic.generators=-.inf"], ["-inf", "finite"], id="infinite count"),
        pytest.param(["traffic.frame_bytes={64: .nan}"], ["nan", "finite"], id="nan in a mix"),
        pytest.param(["traffic.offered_kpps=-4"], ["-4", "greater than or equal to"], id="negative rate"),
        pytest.param(["traffic.offered_kpps=0"], ["0", "greater than or equal to"], id="rate of 0"),
        pytest.param(["traffic.offered_kpps=1e9"], ["200000", "1000000000"], id="rate too high"),
        pytest.param(["traffic.generators=1.5"], ["1.5", "whole number"], id="fraction of a generator"),
        pytest.param(["traffic.generators=17"], ["17", "16"], id="too many generators"),
        pytest.param(["traffic.loop=maybe"], ["'maybe'", "boolean"], id="neither true nor false"),
        pytest.param(["traffic.generators=true"], ["True", "number"], id="truth as a number"),
        pytest.param(["traffic.frame_bytes=63"], ["63", "64", "9216"], id="frame too short"),
        pytest.param(["traffic.frame_bytes=9217"], ["9217", "64", "9216"], id="frame too long"),
        pytest.param(["traffic.frame_bytes=64.5"], ["64.5", "whole number"], id="fraction of a byte"),
        pytest.param(["traffic.frame_bytes=imixx"], ["'imixx'", "imix"], id="unknown mix"),
        pytest.param(["traffic.frame_bytes={20: 1}"], ["20", "64", "9216"], id="frame of a mix too short"),
        pytest.param(["traffic.frame_bytes={64: 0}"], ["weight", "64", "0"], id="weight of 0"),
        pytest.param(["traffic.frame_bytes={}"], ["imix"], id="empty mix"),
        pytest.param(["traffic.frame_bytes=[64, 128]"], ["[64, 128]", "imix"], id="list of sizes"),
        pytest.param(["traffic.flows=0"], ["0", "16777216", "multi"], id="no flow"),
        pytest.param(["traffic.flows=mutli"], ["'mutli'", "single", "multi"], id="unknown flows"),
        pytest.param(["host.nic.irq_cpus=8"], ["CPU 8", "0 to 7"], id="interrupt CPU"),
        pytest.param(["host.nic.irq_cpus=[0,1,2,3,4,5,6,99]"], ["CPU 99", "0 to 7"], id="interrupt CPU in a list"),
        pytest.param(["host.nic.irq_cpus=-1"], ["-1", "0 or more"], id="interrupt CPU negative"),
        pytest.param(["capture.method=recv", "capture.cpu=12"], ["capture.cpu", "CPU 12", "0 to 7"], id="process CPU"),
        pytest.param(["capture.cpu=-1"], ["capture.cpu", "-1"], id="process CPU negative"),
        pytest.param(["host.nic.ring_descriptors=56"], ["56", "64", "4096", "multiples of 8"], id="ring too small"),
        pytest.param(["host.nic.ring_descriptors=4104"], ["4104", "64", "4096", "multiples of 8"], id="ring too large"),
        pytest.param(["host.nic.ring_descriptors=100"], ["100", "64", "4096", "multiples of 8"], id="ring not a multiple"),
        pytest.param(
            ["host.nic.model=82576", "host.nic.ring_descriptors=72"], ["72", "80", "4096", "igb"], id="ring of the other NIC"
        ),
        pytest.param(["host.nic.ring_descriptors=0"], ["host.nic.ring_descriptors", "0"], id="no ring"),
        pytest.param(
            ["host.nic.model=82576", "host.nic.queues=9"], ["host.nic.queues", "9", "82576", "8"], id="queues of the other NIC"
        ),
        pytest.param(["host.nic.model=82598"], ["'82598'", "did you mean '82599'"], id="unknown NIC"),
        pytest.param(["host.kernel=3.3"], ["'3.3'", "2.6.37", "did you mean '3.2'"], id="unknown kernel"),
        pytest.param(["host.hz=300"], ["300", "100, 250, 1000"], id="unknown HZ"),
        pytest.param(["capture.method=pfpacket"], ["'pfpacket'", "kernel_module", "did you mean 'pf_packet'"], id="unknown method"),
        pytest.param(["capture.monitor=nul"], ["'nul'", "count", "flow", "did you mean 'null'"], id="unknown monitor"),
        pytest.param(
            ["parameters=e5520-linux-3.3"], ["'e5520-linux-3.3'", "did you mean 'e5520-linux-3.2'"], id="unknown parameter set"
        ),
        pytest.param(["costs.driver_cycle=9"], ["'driver_cycle'", "did you mean 'driver_cycles'"], id="unknown cost"),
        pytest.param(["costs.driver_cycles=-9"], ["costs.driver_cycles", "-9"], id="negative cost"),
        pytest.param(["costs.driver_cycles=.nan"], ["costs.driver_cycles", "nan"], id="cost nan"),
        pytest.param(["captur.cpu=1"], ["'captur'", "measure", "did you mean 'capture'"], id="unknown section"),
        pytest.param(["capture.cpus=1"], ["'capture.cpus'", "snaplen_bytes", "did you mean 'cpu'"], id="unknown field"),
        pytest.param(["traffic=5"], ["--set traffic=5", "traffic", "5"], id="a section"),
        pytest.param(["host.nic=fast"], ["--set host.nic=fast", "host.nic", "'fast'"], id="a subsection"),
        pytest.param(["traffic="], ["--set traffic=", "traffic"], id="a section to nothing"),
        pytest.param(["costs=5"], ["--set costs=5", "costs", "5"], id="all costs"),
        pytest.param(["traffic.source.rate=5"], ["source", "not a section"], id="below a field"),
        pytest.param(["traffic.frame_bytes"], ["--set traffic.frame_bytes", "path=value"], id="no value"),
        pytest.param(["=64"], ["--set =64", "path=value"], id="no path"),
        pytest.param(["traffic..frame_bytes=64"], ["path=value"], id="two dots"),
        pytest.param(["traffic.frame_bytes={64: 1"], ["--set traffic.frame_bytes={64: 1", "not YAML"], id="not YAML"),
        pytest.param(["traffic.frame_bytes={64: 1, 64: 2}"], ["64", "twice"], id="repeated key"),
        pytest.param(["traffic.frame_bytes=1" + "0" * 400], ["traffic.frame_bytes"], id="beyond all floats"),
        pytest.param(
            ["traffic.generators=1" + "0" * 5000],
            ["traffic.generators"],
            id="more digits than int() takes",
        ),
        pytest.param(["costs.clock_ghz=0"], ["clock_ghz", "0"], id="clock of 0"),
        pytest.param(
            ["capture.flow_table.period_s=1e-13"],
            ["period_s"],
            id="period of 0 ps",
        ),
        pytest.param(["measure.limit_s=1e-13"], ["limit_s"], id="limit of 0 ps"),
        pytest.param(
            ["measure.limit_s=1", "measure.warmup_s=1"],
            ["warmup_s", "limit_s"],
            id="nothing but warm-up",
        ),
        pytest.param(
            ["traffic.source=pcap", 'traffic.pcap="a\\0b"'],
            ["pcap"],
            id="file name with NUL",
        ),
    ],
)
def test_a_bad_setting(capsys: Capture, changes: list[str], words: list[str]) -> None:
    message = refusal(capsys, "show", BASE, *sets(changes))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(["costs.driver_cycles=1e300"]),
        pytest.param(["traffic.offered_kpps=1e-300"]),
        pytest.param(["traffic.generator_mbps=1e-300"]),
        pytest.param(["traffic.generator_max_gbps=1e-300"]),
        pytest.param(["traffic.generator_line_gbps=1e-300"]),
        pytest.param(["capture.monitor=flow", "capture.flow_table.period_s=1e300"]),
        pytest.param(["traffic.generator_mbps=1e300"]),
        pytest.param(["traffic.generator_line_gbps=1e300"]),
        pytest.param(["costs.skb_lines=0"]),
    ],
    ids=" ".join,
)
def test_extreme_numbers_are_answered_or_refused(capsys: Capture, changes: list[str]) -> None:
    assert_answer_or_refusal(capsys, "show", BASE, "--json", *sets(changes))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["run", BASE, "--workers", "0"], ["--workers 0", "at least 1"], id="no worker"),
        pytest.param(["run", BASE, "--workers", "-2"], ["--workers -2", "at least 1"], id="negative workers"),
        pytest.param(["run", BASE, "--replication", "5"], ["--replication 5", "0 to 4"], id="replication too high"),
        pytest.param(["run", BASE, "--replication", "-1"], ["--replication -1", "0 to 4"], id="replication negative"),
        pytest.param(
            ["run", "paper/baremetal"],
            ["'paper/baremetal'", *built_in_scenarios(), f"did you mean '{BASE}'"],
            id="run unknown scenario",
        ),
        pytest.param(
            ["show", "paper/bare"], ["'paper/bare'", *built_in_scenarios(), f"did you mean '{BASE}'"], id="show unknown scenario"
        ),
        pytest.param(
            ["show", "e5520-linux-3"], [*built_in_sets(), "did you mean 'e5520-linux-3.2'"], id="show unknown parameter set"
        ),
        pytest.param(["run", "e5520-linux-3.2"], ["'e5520-linux-3.2'", *built_in_scenarios()], id="run a parameter set"),
        pytest.param(["run", "/nowhere/x.yaml"], ["/nowhere/x.yaml", "No such file"], id="missing file"),
        pytest.param(["run", "", *SHORT], ["''", *built_in_scenarios()], id="empty name"),
        pytest.param(["validate", "theroy"], ["'theroy'", "paper", "did you mean 'theory'"], id="unknown check"),
        pytest.param(
            ["validate", "engines", "--scenarios", "-1"],
            ["--scenarios -1", "at least 1"],
            id="negative scenarios",
        ),
    ],
)
def test_a_bad_argument(capsys: Capture, arguments: list[str], words: list[str]) -> None:
    message = refusal(capsys, *arguments)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["frobnicate"], "frobnicate"),
        (["run"], "scenario"),
        (["run", BASE, "--workers", "two"], "'two'"),
        (["run", BASE, "--seed", "1.5"], "'1.5'"),
        (["run", BASE, "--engine", "c++"], "'c++'"),
        (["run", BASE, "--sett", "a=1", "--frames", "3"], "--frames"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_that_do_not_parse(capsys: Capture, arguments: list[str], word: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    printed = capsys.readouterr()
    assert (left.value.code, printed.out) == (2, "")
    assert word in printed.err.splitlines()[-1]


# What is written in files


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param("traffic:\n  link_gbps: 10Gbps\n", 3, ["traffic.link_gbps", "'10Gbps'", "without a unit"], id="unit"),
        pytest.param("traffic:\n  frame_bytes: 20\n", 3, ["traffic.frame_bytes", "20", "64", "9216"], id="frame size"),
        pytest.param("measure:\n  limit_s: .inf\n", 3, ["measure.limit_s", "inf", "finite"], id="infinite"),
        pytest.param(
            "capture:\n  mehtod: recv\n", 3, ["'capture.mehtod'", "snaplen_bytes", "did you mean 'method'"], id="unknown field"
        ),
        pytest.param("\n\nhosts: {}\n", 4, ["'hosts'", "traffic", "did you mean 'host'"], id="unknown section"),
        pytest.param("capture:\n  method: recv\n  cpu: 1\n  method: recv\n", 5, ["'method'", "twice"], id="repeated key"),
        pytest.param("traffic:\n  frame_bytes: [1, 2\n", 4, ["not YAML"], id="not YAML"),
        pytest.param("traffic: 7\n", 2, ["traffic", "7"], id="section is a number"),
        pytest.param("hypotheses:\n- words\n- 7\n", 4, ["hypotheses", "7"], id="item of a list"),
        pytest.param("costs:\n  driver_cycles: -3\n", 3, ["costs.driver_cycles", "-3"], id="negative cost"),
        pytest.param("traffic:\n  source: cbr\n", 2, ["traffic.offered_kpps", "cbr"], id="field missing"),
        pytest.param("2: 3\n", 2, ["2"], id="number as key"),
        pytest.param("host:\n  nic:\n    irq_cpus: 12\n", 4, ["CPU 12", "0 to 7"], id="interrupt CPU"),
        pytest.param("capture:\n  cpu: 12\n  method: recv\n", 3, ["CPU 12", "0 to 7"], id="process CPU"),
        pytest.param("host:\n  nic: {ring_descriptors: 100}\n", 3, ["100", "64 to 4096"], id="ring"),
        pytest.param("host:\n  nic: {model: 82598}\n", 3, ["'82598'", "did you mean '82599'"], id="NIC"),
        pytest.param("host:\n  kernel: 3.3\n", 3, ["'3.3'", "did you mean '3.2'"], id="kernel"),
        pytest.param("parameters: e5520\n", 2, ["'e5520'", "did you mean 'e5520-linux-3.2'"], id="parameter set"),
        pytest.param("costs:\n  driver_cycle: 3\n", 3, ["'driver_cycle'", "did you mean 'driver_cycles'"], id="cost"),
        pytest.param(
            "traffic:\n  source: pcap\n  pcap: /nowhere/x.pcap\n",
            4,
            ["/nowhere/x.pcap", "No such file"],
            id="capture file",
        ),
    ],
)
def test_a_mistake_in_a_file(capsys: Capture, tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(f"based_on: {BASE}\n{text}", encoding="utf-8")
    message = refusal(capsys, "show", str(file))
    assert message.startswith(f"{file}:{line}: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("based_on: paper/bare-metl\n", ["'paper/bare-metl'", f"did you mean '{BASE}'"], id="unknown"),
        pytest.param("based_on: /nowhere/x.yaml\n", ["/nowhere/x.yaml", "No such file"], id="missing"),
        pytest.param("based_on: 3\n", ["based_on", "3"], id="number"),
        pytest.param("based_on: [a]\n", ["based_on", "a"], id="list"),
        pytest.param("based_on: HERE\n", ["circle"], id="itself"),
        pytest.param('based_on: "a\\0.yaml"\n', ["based_on"], id="name with NUL"),
    ],
)
def test_a_bad_base(capsys: Capture, tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: x\n" + text.replace("HERE", str(file)), encoding="utf-8")
    message = refusal(capsys, "run", str(file))
    assert message.startswith(f"{file}:2: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "word"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("folder", "directory", id="folder"),
        pytest.param(b"name: \xff\xfe\n", "UTF-8", id="not UTF-8"),
        pytest.param(b"", "not a scenario", id="empty"),
        pytest.param(b"- a\n", "not a scenario", id="list"),
        pytest.param(b"a: \x00\n", "not YAML", id="NUL"),
    ],
)
def test_a_file_that_is_no_scenario(capsys: Capture, tmp_path: Path, content: bytes | str | None, word: str) -> None:
    file = tmp_path / "s.yaml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.mkdir()
    message = refusal(capsys, "run", str(file))
    assert message.startswith(str(file))
    assert word in message


@pytest.mark.parametrize(
    ("content", "word"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("folder", "directory", id="folder"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"GIF89a" + bytes(90), "neither pcap nor pcapng", id="wrong magic"),
        pytest.param(PCAP, "no packets", id="no packets"),
        pytest.param(PACKETS[:20], "truncated", id="cut in the header"),
        pytest.param(PACKETS[:30], "truncated", id="cut in a record header"),
        pytest.param(PACKETS[:-1], "truncated", id="cut in packet data"),
        pytest.param(PACKETS[:20] + b"\x69" + PACKETS[21:], "link type 105", id="unknown link type"),
    ],
)
def test_a_bad_capture_file(capsys: Capture, tmp_path: Path, content: bytes | str | None, word: str) -> None:
    file = tmp_path / "x.pcap"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.mkdir()
    message = refusal(capsys, "run", BASE, *sets(["traffic.source=pcap", f"traffic.pcap={file}"]))
    assert str(file) in message
    assert word in message


def test_a_replay_that_lasts_longer_than_the_clock(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "x.pcap").write_bytes(PACKETS)
    changes = ["traffic.source=pcap", f"traffic.pcap={tmp_path / 'x.pcap'}", "traffic.speed=1e-300"]
    assert "traffic.speed" in refusal(capsys, "run", BASE, *sets(changes))


# What is asked for in the right way


@pytest.mark.parametrize(
    "arguments", [["list"], *(["show", name] for name in (*built_in_scenarios(), *built_in_sets()))], ids=" ".join
)
def test_listing_and_showing(capsys: Capture, arguments: list[str]) -> None:
    assert main([*arguments, "--json"]) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out, parse_constant=no_such_constant)
    assert isinstance(content, dict)
    assert printed.err == ""
    assert main(arguments) == 0
    text = capsys.readouterr().out
    if arguments == ["list"]:
        assert [entry["name"] for entry in content["scenarios"]] == built_in_scenarios()
        assert [entry["name"] for entry in content["parameter_sets"]] == built_in_sets()
        assert [entry["name"] for entry in content["campaigns"]] == built_in_campaigns()
        assert [entry["name"] for entry in content["records"]] == [*shipped_records()]
        assert all(entry["title"] in text and entry["name"] in text for entries in content.values() for entry in entries)
    elif arguments[1] in built_in_sets():
        assert {q["name"]: q["value"] for q in content["quantities"]} == {q.name: q.value for q in parameter_set(arguments[1])}
        assert all(q["source"] in text for q in content["quantities"])
    else:
        scenario = load(arguments[1])
        assert content["scenario"] == scenario.model_dump(mode="json")
        assert all(q.source == content["parameters"][q.name]["source"] and q.source in text for q in resolve(scenario))


def test_help_and_version(capsys: Capture) -> None:
    for arguments in (["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
        assert capsys.readouterr().out.startswith("usage: simnet")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("simnet-rx")
    assert main([]) == 2


def test_a_given_warmup_may_be_longer_than_the_pilot(capsys: Capture) -> None:
    assert main(["run", BASE, *sets(["measure.limit_s=0.5", "measure.warmup_s=0.1"]), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["warmup_seconds"] == pytest.approx(0.1, rel=0.1)
    assert answer["measured_seconds"] > 0


def test_a_run_in_which_nothing_comes_is_still_json(capsys: Capture) -> None:
    assert main(["run", BASE, *SHORT, *sets(["traffic.offered_kpps=0.00001"]), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out, parse_constant=no_such_constant)
    assert answer["packets"]["captured"] == 0
    assert answer["captured"]["kpps"]["mean"] == 0
    assert set(answer["latency_us"].values()) == {None}


# Where results go


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/below", "/dev/null/below"])
def test_a_place_that_cannot_be_written_to(capsys: Capture, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("kept")
    out = str(tmp_path / place)
    message = refusal(capsys, "run", BASE, *SHORT, "--out", out)
    assert message.startswith(f"--out {out}: cannot be written to: ")
    assert (tmp_path / "file").read_text() == "kept"


def test_results_are_written(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    assert main(["run", BASE, *SHORT, "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((out / "result.json").read_text(), parse_constant=no_such_constant) == printed
    assert {file.name for file in out.iterdir()} == {"result.json", "samples.parquet", *(f"{name}.png" for name in PLOTS)}
    samples = pd.read_parquet(out / "samples.parquet")
    assert samples.groupby("replication")["offered"].max().sum() == printed["packets"]["offered"]
    assert all((out / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for name in PLOTS)


def fail_to_sync(descriptor: int) -> NoReturn:
    """A disk that is full."""
    del descriptor
    raise NO_SPACE


@pytest.mark.parametrize("before", [None, "an older result"])
def test_a_full_disk_keeps_the_older_result(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before:
        (tmp_path / "result.json").write_text(before)
    monkeypatch.setattr(os, "fsync", fail_to_sync)
    assert main(["run", BASE, *SHORT, "--json", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["packets"]["offered"] > 0
    assert printed.err.splitlines() == [f"simnet: {tmp_path / 'result.json'}: cannot be written: {NO_SPACE_TEXT}"]
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == ({"result.json": before} if before else {})


def fill(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, name: str) -> None:
    """The disk is full halfway through the file whose name contains `name`."""
    write: Callable[..., Any] = getattr(owner, method)

    def full(self: Any, target: Path | IO[bytes], *arguments: Any, **named: Any) -> Any:
        if not isinstance(target, (str, Path)):
            raise NO_SPACE
        if name not in str(target):
            return write(self, target, *arguments, **named)
        Path(target).write_bytes(b"half")
        raise NO_SPACE

    monkeypatch.setattr(owner, method, full)


@pytest.mark.parametrize(
    ("owner", "method", "name", "written"),
    [
        pytest.param(pd.DataFrame, "to_parquet", "samples", [], id="samples"),
        pytest.param(
            Figure,
            "savefig",
            "cores",
            ["samples.parquet", "throughput.png", "waterfall.png"],
            id="plots",
        ),
    ],
)
def test_a_full_disk_keeps_what_was_written_and_no_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: simnet.Result, owner: Any, method: str, name: str, written: list[str]
) -> None:
    fill(monkeypatch, owner, method, name)
    with pytest.raises(UserError, match=NO_SPACE_TEXT):
        write_result(result, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["scenario"] == BASE
    assert {file.name for file in tmp_path.iterdir()} == {"result.json", *written}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("missing/x.json", id="no folder"),
        pytest.param("file/x.json", id="below a file"),
    ],
)
def test_json_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / place, {"a": 1})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["list"], ["show", "e5520-linux-3.2", "--json"]], ids=" ".join)
def test_standard_output_may_be_full(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "simnet", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (process.returncode, len(process.stderr.splitlines())) == (2, 1)
    assert NO_SPACE_TEXT in process.stderr


def test_standard_output_may_be_closed_early() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "simnet", "show", "e5520-linux-3.2"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert process.stderr == ""


# Ctrl-C

AT_IMPORT = """
import os, signal, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == wanted[0]:
            wanted[0] = None
            os.kill(os.getpid(), signal.SIGINT)

wanted = [sys.argv.pop(1)]
sys.meta_path.insert(0, CtrlC())
from simnet.cli import main
status = main(sys.argv[1:])
assert wanted == [None], "never imported"
sys.exit(status)
"""

SAYS_WHEN_IT_COMPUTES = """
import os, sys, threading
from simnet.engine.simulation import Simulation

run = Simulation.run

def say_so_and_run(*arguments, **named):
    os.write(1, b"computing\\n")
    if sys.argv[1] == "stuck":
        threading.Event().wait(60)
    run(*arguments, **named)

Simulation.run = say_so_and_run
from simnet.cli import main
sys.exit(main(sys.argv[2:]))
"""

LONG = sets(["measure.limit_s=5000", "measure.precision=0.0000001", "capture.method=pf_packet"])


@pytest.mark.usefixtures("result")
@pytest.mark.parametrize(
    "module",
    [
        pytest.param("simnet.errors"),
        "simnet.cli.parser",
        "simnet.cli.run",
        "pydantic",
        "numba",
        "simnet.report.text",
    ],
)
def test_ctrl_c_during_imports(module: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, "run", BASE, *SHORT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stdout) == (130, "")
    assert len(process.stderr.splitlines()) == 1


def interrupted(how: str, *arguments: str, patience_s: float) -> subprocess.CompletedProcess[str]:
    """A run that gets Ctrl-C as soon as it computes."""
    command = [sys.executable, "-c", SAYS_WHEN_IT_COMPUTES, how, "run", BASE, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "computing\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=patience_s)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out.replace("computing\n", ""), err)


@pytest.mark.usefixtures("result")
def test_ctrl_c_in_the_middle_of_a_run(tmp_path: Path) -> None:
    process = interrupted("busy", *LONG, "--json", "--out", str(tmp_path), patience_s=20)
    assert (process.returncode, process.stdout) == (130, "")
    assert len(process.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("result")
def test_ctrl_c_while_a_worker_does_not_listen() -> None:
    process = interrupted("stuck", *LONG, patience_s=8)
    assert process.returncode == 130


class SlowToBuild:
    """Stands in for a simulation: says whether it was told to stop before it ran."""

    now_ps = 0

    def __init__(self, stopping: threading.Event) -> None:
        self.stopping = stopping
        self.ran_on = False

    def run(self, times_ps: list[int], keep_histograms: bool = False) -> None:
        del times_ps, keep_histograms
        self.ran_on = self.ran_on or not self.stopping.is_set()


def test_ctrl_c_while_a_machine_is_built() -> None:
    scenario = load(BASE)
    entered, go_on = threading.Event(), threading.Event()

    def make() -> Any:
        entered.set()
        go_on.wait(10)
        return simulation

    ensemble = Ensemble(scenario, resolve(scenario), 1, "compiled", None, 1, print)
    simulation = SlowToBuild(ensemble.stopping)
    ensemble.members = [Member(0, make, True)]
    later = threading.Timer(0.3, go_on.set)

    def run_and_interrupt() -> None:
        with ensemble.running():
            ensemble.pool.submit(ensemble.members[0].run, [1], [2], ())
            entered.wait(10)
            later.start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_and_interrupt()
    later.join()
    assert entered.is_set()
    assert not simulation.ran_on
