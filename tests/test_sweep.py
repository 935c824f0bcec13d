"""Sweeps: which cells a design means, and that results are the same bytes whatever happens to the processes that compute them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from distributed import LocalCluster
from pyarrow import parquet

import simnet
from simnet.cli import main
from simnet.experiment.cells import expand
from simnet.experiment.design import built_in_designs, load_design
from simnet.experiment.executors import ATTEMPTS, Outcome, Task, on_this_machine
from simnet.experiment.store import Store

DESIGN = """\
title: Twelve short cells
scenario: paper/bare-metal
sets:
  measure.limit_s: 0.01
  measure.replications: 2
factors:
  reader:
    none: {}
    own core: {capture.method: pf_packet, capture.cpu: 5}
    old: {scenario: ancs2011/appliance, capture.method: recv}
  traffic.frame_bytes: [64, 1518]
  host.nic.dca: [false, true]
"""
CELLS = 12
CHANGING = "timings.jsonl"
"""The only file whose bytes may differ."""

Capture = pytest.CaptureFixture[str]
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a design file."""

    def file(text: str) -> Path:
        path = tmp_path / "d.design.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return file


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short design."""
    path = tmp_path_factory.mktemp("design") / "short.design.yaml"
    path.write_text(DESIGN, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(design: Path) -> Path:
    """What a sweep leaves that nothing happened to."""
    out = design.parent / "whole"
    done = simnet.sweep(str(design), out=out, jobs=1)
    assert (done.cells, len(done.rows), done.kept, done.failed) == (CELLS, CELLS, 0, ())
    return out


def files(out: Path) -> dict[str, bytes]:
    """All files of a sweep that matter, by name."""
    found = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".") and path.name != CHANGING]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def computed(out: Path) -> Counter[str]:
    """How often each cell was computed."""
    return Counter(json.loads(line)["cell"] for line in (out / CHANGING).read_text(encoding="utf-8").splitlines())


def refusal(capsys: Capture, *arguments: str) -> str:
    """The message with which a sweep is refused."""
    assert main(["sweep", *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    return printed.err.removeprefix("simnet: ").strip()


# What a design means


def test_the_last_factor_changes_fastest_and_single_cells_come_last(write: Write) -> None:
    text = "cells:\n  - {reader: old, traffic.frame_bytes: imix}\n  - {host.hz: 250, reader: none}\n"
    cells = expand(load_design(str(write(DESIGN + text))))
    assert [cell.key for cell in cells] == [f"{number:06d}" for number in range(1, CELLS + 3)]
    full = [tuple(cell.factors.values()) for cell in cells[:CELLS]]
    assert full == list(product(["none", "own core", "old"], [64, 1518], [False, True]))
    assert [dict(cell.factors) for cell in cells[CELLS:]] == [
        {"reader": "old", "traffic.frame_bytes": "imix"},
        {"host.hz": 250, "reader": "none"},
    ]


def test_a_cell_is_its_scenario_with_its_settings(write: Write) -> None:
    cell = expand(load_design(str(write(DESIGN))))[-1]
    changes = {"measure.limit_s": 0.01, "measure.replications": 2, "capture.method": "recv"}
    wanted = simnet.load("ancs2011/appliance", {**changes, "traffic.frame_bytes": 1518, "host.nic.dca": True})
    assert simnet.Scenario.model_validate_json(cell.scenario) == wanted
    assert cell.seconds == simnet.expected_seconds(wanted)


def test_files_are_relative_to_the_design(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.yaml").write_text("based_on: paper/bare-metal\nname: beside\n", encoding="utf-8")
    path = write("scenario: base.yaml\ncells:\n  - {traffic.source: pcap, traffic.pcap: x.pcap}\n")
    monkeypatch.chdir("/")
    [cell] = expand(load_design(str(path)))
    scenario = json.loads(cell.scenario)
    assert scenario["name"] == "beside"
    assert scenario["traffic"]["pcap"] == str(tmp_path / "x.pcap")


@pytest.mark.parametrize("name", built_in_designs())
def test_a_built_in_design_is_complete(name: str) -> None:
    design = load_design(name)
    assert design.name == name
    assert design.title
    assert len(expand(design)) == design.count


def test_the_design_of_the_paper() -> None:
    design = load_design("paper/factorial")
    assert [len(levels) for levels in design.factors.values()] == [2, 3, 2, 2, 3]
    scenarios = [json.loads(cell.scenario) for cell in expand(design)]
    assert Counter(scenario["name"] for scenario in scenarios) == {"paper/bare-metal": 36, "paper/vm": 36}
    assert {(s["measure"]["replications"], s["measure"]["precision"]) for s in scenarios} == {(5, 0.01)}


# Mistakes, all of them before anything runs

HEAD = "scenario: paper/bare-metal\nfactors:\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param(HEAD + "  traffic.frame_bytes: []\n", 3, ["factors.traffic.frame_bytes", "at least one level"], id="empty"),
        pytest.param(HEAD + "  reader: {}\n", 3, ["factors.reader", "at least one level"], id="no names"),
        pytest.param(HEAD + "  traffic.frame_bytes: 64\n", 3, ["list of values", "64"], id="no list"),
        pytest.param(HEAD + "  traffic.flows:\n  - 64\n  - 9\n  - 64.0\n", 6, ["level 64", "twice"], id="level twice"),
        pytest.param(HEAD + "  capture.monitor: [null, 'null']\n", 3, ["level 'null'", "twice"], id="null twice"),
        pytest.param(HEAD + "  a: {b: 5}\n", 3, ["level b", "5"], id="level without settings"),
        pytest.param(HEAD + "  a: {b: {5: 6}}\n", 3, ["level b", "{5: 6}"], id="level with a number"),
        pytest.param(HEAD + "  cell: {b: {}}\n", 3, ["cell", "column"], id="name of a column"),
        pytest.param(
            HEAD + "  a: {b: {host.hz: 100}}\n  host.hz: [100]\n", 4, ["host.hz", "factor a"], id="two factors, one field"
        ),
        pytest.param(HEAD + "  a: {b: {}}\ncells:\n  - a: bb\n", 5, ["a:", "'bb'", "did you mean 'b'"], id="unknown level"),
        pytest.param(HEAD + "  host.hz: [100]\ncells:\n  - host.hz: 100\n", 4, ["cell 000002", "cell 000001"], id="cell twice"),
        pytest.param("scenaro: paper/bare-metal\n", 1, ["'scenaro'", "factors", "did you mean 'scenario'"], id="unknown key"),
        pytest.param("scenario: paper/bare-metal\n", 1, ["nothing to run"], id="nothing to run"),
        pytest.param("factors:\n  host.hz: [100]\n", 1, ["scenario: none", "cell 000001: host.hz=100"], id="no scenario"),
        pytest.param("scenario: paper/bare-mtal\ncells: [{}]\n", 1, ["did you mean 'paper/bare-metal'"], id="unknown scenario"),
        pytest.param("scenario: no.yaml\ncells: [{}]\n", 1, ["no.yaml", "No such file"], id="missing scenario"),
        pytest.param("factors:\n  scenario: [5]\n", 2, ["scenario", "5"], id="scenario a number"),
        pytest.param(HEAD + "  host.hz:\n  - 100\n  - 7\n", 5, ["host.hz", "7", "cell 000002: host.hz=7"], id="value"),
        pytest.param(HEAD + "  host.kernel: [3.2, 3.3]\n", 3, ["'3.3'", "cell 000002"], id="kernel"),
        pytest.param(HEAD + "  host.hx: [100]\n", 3, ["'host.hx'", "did you mean 'hz'"], id="unknown field"),
        pytest.param("sets: [1]\n", 1, ["sets", "[1]"], id="settings as a list"),
        pytest.param(HEAD + "".join(f"  x{i}: [{'1, ' * 9}1]\n" for i in range(9)), 3, ["twice"], id="levels before their number"),
        pytest.param(HEAD + "".join(f"  x{i}: {list(range(10))}\n" for i in range(9)), 2, ["1000000000", "100000"], id="too many"),
        pytest.param(HEAD + "  - 5\n", 2, ["factors", "[5]"], id="factors as a list"),
        pytest.param(HEAD + "  a: [1\n", 4, ["not YAML"], id="not YAML"),
    ],
)
def test_a_bad_design(capsys: Capture, write: Write, tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    path, out = write(text), tmp_path / "out"
    message = refusal(capsys, str(path), "--out", str(out))
    assert message.startswith(f"{path}:{line}: ")
    for word in words:
        assert word in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paper/factrial", "--out", "o"], ["'paper/factrial'", "did you mean 'paper/factorial'"]),
        (["paper/bare-metal", "--out", "o"], ["no design 'paper/bare-metal'"]),
        (["no.yaml", "--out", "o"], ["no.yaml", "No such file"]),
        (["empty.yaml", "--out", "o"], ["empty.yaml", "not a design"]),
        (["paper/factorial", "--jobs", "0", "--out", "o"], ["--jobs 0", "at least 1"]),
        (["paper/factorial", "--out", "empty.yaml"], ["--out empty.yaml", "cannot be written to"]),
        (["paper/factorial", "--out", "/proc/below"], ["--out /proc/below", "cannot be written to"]),
        (["paper/factorial", "--out", "."], ["--out .", "not empty", "empty.yaml"]),
        (["paper/factorial", "--out", "o", "--dask", "127.0.0.1"], ["--dask 127.0.0.1", "no scheduler answers"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_bad_argument(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.setattr("simnet.experiment.executors.DASK_TIMEOUT_S", 0.2)
    (tmp_path / "empty.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    message = refusal(capsys, *arguments)
    for word in words:
        assert word in message
    assert os.listdir(tmp_path) == ["empty.yaml"]


def test_without_dask_there_is_the_command_that_installs_it(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, design: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    message = refusal(capsys, str(design), "--out", str(tmp_path), "--dask", "tcp://127.0.0.1:8786")
    assert "pip install 'simnet-rx[dask]'" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resume"])
@pytest.mark.parametrize(
    ("change", "seed", "word"),
    [
        ("name: other\n", "1", "another design, 'short', not 'other'"),
        ("name: short\ncells: [{}]\n", "1", "other cells or settings"),
        ("name: short\n", "2", "seed 1, not 2"),
    ],
)
def test_results_of_something_else_are_left_alone(
    capsys: Capture, write: Write, whole: Path, resume: list[str], change: str, seed: str, word: str
) -> None:
    before = files(whole)
    message = refusal(capsys, str(write(change + DESIGN)), "--out", str(whole), "--seed", seed, *resume)
    assert message.startswith(f"--out {whole}: ")
    assert word in message
    assert files(whole) == before


def test_results_are_not_added_to_unasked(capsys: Capture, design: Path, whole: Path) -> None:
    assert "--resume" in refusal(capsys, str(design), "--out", str(whole))


def test_another_simnet_does_not_add_to_results(capsys: Capture, design: Path, tmp_path: Path, whole: Path) -> None:
    manifest = json.loads((whole / "design.json").read_text())
    for content, word in ((manifest | {"version": "0"}, "version 0"), ({}, "another form"), ([1], "cannot be read")):
        (tmp_path / "design.json").write_text(json.dumps(content))
        assert word in refusal(capsys, str(design), "--out", str(tmp_path), "--resume")


# What a sweep leaves


def test_a_cell_is_what_a_run_of_it_says(whole: Path) -> None:
    changes = {"measure.limit_s": 0.01, "measure.replications": 2, "capture.method": "pf_packet", "capture.cpu": 5}
    wanted = simnet.run(simnet.load("paper/bare-metal", changes)).as_json()
    stored = json.loads((whole / "cells" / "000005.json").read_text())
    assert stored.pop("cell") == "000005"
    assert stored.pop("factors") == {"reader": "own core", "traffic.frame_bytes": 64, "host.nic.dca": False}
    del wanted["wall_seconds"], wanted["provenance"]["host"]
    assert stored == json.loads(json.dumps(wanted))


def test_tables_have_a_row_a_cell_and_a_row_a_replication(whole: Path) -> None:
    cells, replications = pd.read_parquet(whole / "cells.parquet"), pd.read_parquet(whole / "results.parquet")
    assert list(cells["cell"]) == [f"{number:06d}" for number in range(1, CELLS + 1)]
    assert list(replications["cell"]) == [key for key in cells["cell"] for _ in range(2)]
    assert list(replications["replication"]) == [0, 1] * CELLS
    dropped = [name for name in cells if name.startswith("dropped_")]
    assert (cells[["packets_captured", "packets_in_flight", *dropped]].sum(axis=1) == cells["packets_offered"]).all()
    means = replications.groupby("cell")["captured_kpps"].mean()
    assert list(means) == pytest.approx(list(cells["captured_kpps"]))
    for table in ("cells.parquet", "results.parquet"):
        types = {field.name: str(field.type) for field in parquet.read_schema(whole / table)}
        assert types["reader"] == "string"
        assert types["traffic.frame_bytes"] == "int64"
        assert types["host.nic.dca"] == "bool"
        assert types["captured_kpps"] == "double"


def test_the_answer_as_json_and_as_a_table(capsys: Capture, design: Path, whole: Path) -> None:
    arguments = ["sweep", str(design), "--out", str(whole), "--resume"]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["design"], answer["cells"], answer["kept"], answer["failed"]) == ("short", CELLS, CELLS, [])
    assert [row["captured_kpps"] for row in answer["results"]] == list(pd.read_parquet(whole / "cells.parquet")["captured_kpps"])
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["cell", "reader", "traffic.frame_bytes", "host.nic.dca"]
    assert [line[:6] for line in lines[1 : CELLS + 1]] == [row["cell"] for row in answer["results"]]


def test_a_cell_that_fails_does_not_stop_the_others(capsys: Capture, write: Write, tmp_path: Path) -> None:
    late = tmp_path / "late.pcap"
    text = DESIGN + "cells:\n  - {traffic.source: pcap, traffic.pcap: late.pcap, traffic.frame_bytes: imix}\n"
    arguments = ["sweep", str(write(text)), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: cell 000013 (traffic.source=pcap, traffic.pcap=late.pcap, traffic.frame_bytes=imix): ")
    assert str(late) in line
    assert str(late) in json.loads((tmp_path / "out/failed/000013.json").read_text())["error"]
    assert len(pd.read_parquet(tmp_path / "out/cells.parquet")) == CELLS
    replay = Path(simnet.__file__).parent.parent / "scenarios/replay/web-and-dns.pcap"
    late.write_bytes(replay.read_bytes())
    assert main([*arguments, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == CELLS
    assert list((tmp_path / "out/failed").iterdir()) == []
    assert pd.read_parquet(tmp_path / "out/cells.parquet")["host.nic.dca"].isna().sum() == 1


# What may happen to processes

AT_FSYNC = """
import multiprocessing, os, signal, sys

written, fsync = [], os.fsync

def count(descriptor):
    fsync(descriptor)
    written.append(descriptor)
    if len(written) == int(number):
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        os.kill(0, signal.SIGINT) if how == "ctrl-c" else os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    _, how, number, *arguments = sys.argv
    os.fsync = count
    from simnet.cli import main
    sys.exit(main(arguments))
"""
"""Stops a sweep when its n-th file is written but not yet in its place."""


@pytest.fixture
def stopped(design: Path, whole: Path, tmp_path: Path) -> Callable[[str, int], subprocess.CompletedProcess[str]]:
    """Sweeps that are stopped in the middle."""
    assert whole.exists()
    script = tmp_path / "stopped.py"
    script.write_text(AT_FSYNC)

    def run(how: str, number: int) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            str(script),
            how,
            str(number),
            "sweep",
            str(design),
            "--out",
            str(tmp_path / "out"),
            "--jobs",
            "2",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, start_new_session=True)

    return run


def is_running(process: int) -> bool:
    """A process that has ended may still be in the table."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [1, 8, CELLS + 2], ids=["before the first cell", "in the middle", "tables"])
def test_after_kill_9_resume_gives_the_same_bytes(stopped: Any, design: Path, whole: Path, tmp_path: Path, number: int) -> None:
    process = stopped("kill", number)
    assert process.returncode == -signal.SIGKILL
    limit = time.monotonic() + 20
    while any(is_running(int(child)) for child in process.stdout.split()):
        assert time.monotonic() < limit, "worker processes outlive the sweep"
        time.sleep(0.05)
    done = simnet.sweep(str(design), out=tmp_path / "out", jobs=2, resume=True)
    assert done.kept == min(max(number - 2, 0), CELLS)
    assert files(tmp_path / "out") == files(whole)
    assert computed(tmp_path / "out") == computed(whole) == Counter(done.rows[i]["cell"] for i in range(CELLS))


def test_ctrl_c_keeps_finished_cells_and_says_how_to_go_on(stopped: Any, design: Path, whole: Path, tmp_path: Path) -> None:
    process = stopped("ctrl-c", 5)
    assert process.returncode == 130
    assert process.stderr == f"simnet: interrupted: 3 of {CELLS} cells are kept in {tmp_path / 'out'}; --resume goes on\n"
    simnet.sweep(str(design), out=tmp_path / "out", resume=True)
    assert files(tmp_path / "out") == files(whole)


def test_two_sweeps_do_not_write_to_one_folder(capsys: Capture, design: Path, whole: Path, tmp_path: Path) -> None:
    def another(doing: str, share: float) -> None:
        del doing, share
        assert "another sweep" in refusal(capsys, str(design), "--out", str(tmp_path), "--resume")

    simnet.sweep(str(design), out=tmp_path, jobs=2, progress=another)
    assert files(tmp_path) == files(whole)


def test_a_worker_that_dies_is_replaced(design: Path, whole: Path, tmp_path: Path) -> None:
    killed = []

    def kill_one(doing: str, share: float) -> None:
        del doing, share
        if not killed:
            killed.extend(multiprocessing.active_children()[:1])
            killed[0].kill()

    simnet.sweep(str(design), out=tmp_path, jobs=2, progress=kill_one)
    assert killed
    assert files(tmp_path) == files(whole)


class Deadly(str):
    """A scenario that ends the process that unpacks it."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return os._exit, (7,)


def test_a_cell_that_kills_its_workers_fails_alone(design: Path, whole: Path) -> None:
    assert whole.exists()
    good = expand(load_design(str(design)))[0]
    tasks = [Task("good", good.scenario, 1), Task("deadly", Deadly(), 1), Task("next", good.scenario, 1)]
    outcomes = {outcome.key: outcome for outcome in on_this_machine(tasks, 2)}
    assert outcomes["deadly"].result is None
    assert f"died {ATTEMPTS} times" in outcomes["deadly"].error
    assert outcomes["good"].result
    assert outcomes["next"].result


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Two processes of Dask."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        yield cluster


@pytest.mark.filterwarnings("ignore:Creating scratch directories is taking")  # what Dask says of a slow disk
def test_dask_gives_the_same_bytes_while_a_worker_is_killed(
    capsys: Capture, design: Path, whole: Path, tmp_path: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, lost = Store.keep, []

    def keep_and_kill(self: Store, outcome: Outcome) -> str:
        if not lost:
            for name, state in ((state.name, state) for state in cluster.scheduler.workers.values()):
                unfinished = [*state.processing, *state.has_what]
                if unfinished and not lost:
                    lost.extend(unfinished)
                    os.kill(cluster.workers[name].process.pid, signal.SIGKILL)
        return keep(self, outcome)

    monkeypatch.setattr(Store, "keep", keep_and_kill)
    arguments = ["sweep", str(design), "--out", str(tmp_path), "--dask", cluster.scheduler_address, "--json"]
    assert main(arguments) == 0
    assert lost
    assert json.loads(capsys.readouterr().out)["failed"] == []
    assert files(tmp_path) == files(whole)


def test_no_worker_listens_to_ctrl_c(tmp_path: Path) -> None:
    """Not even the first, whose start also starts multiprocessing's resource tracker, which unblocks the signal."""
    script = tmp_path / "masks.py"
    script.write_text(
        "import multiprocessing, re\n"
        "from pathlib import Path\n"
        "from simnet.experiment.executors import Task, _Worker\n"
        "if __name__ == '__main__':\n"
        "    workers = [_Worker(multiprocessing.get_context('spawn'), Task('', '{}', 1)) for _ in range(2)]\n"
        "    for worker in workers:\n"
        "        status = Path(f'/proc/{worker.process.pid}/status').read_text()\n"
        "        print(int(re.search('SigBlk:\\t(.*)', status)[1], 16) >> 1 & 1)\n"
        "        worker.end()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "1"]
