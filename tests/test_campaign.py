"""Campaigns: what a file may say, the order of windows, rejection, the journal, and what happens when a campaign is interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from calibration import runner
from calibration.campaign import Campaign, Placement, built_in_campaigns, load_campaign
from calibration.capture import libpcap
from calibration.journal import LINES, Journal
from calibration.record import ABOUT, COLUMNS, read_record
from simnet.cli import main
from simnet.errors import UserError

SMALL = """\
title: small
offered_kpps: [50, 100]
methods: [recv, xdp_count]
placements:
  inline: {}
repeats: 3
"""
RECV_AND_XDP, PROGRAM = "methods: [recv, xdp_count]", "methods: [program]\nprogram: [no-such-program, '{interface}']"


def campaign_of(folder: Path, text: str = SMALL) -> Campaign:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load_campaign(str(path))


def row(**changes: Any) -> dict[str, Any]:
    """What `measure` returns, as far as the runner looks at it."""
    return {"seconds": 1.0, "offered": 1000, "captured": 990, "dropped_receive_buffer": 10, "rejected": None, **changes}


class Bench:
    """A machine on which measuring takes no time: it notes what is asked for and answers from a list."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[dict[str, Any] | BaseException] | None = None) -> None:
        self.points: list[str] = []
        self.answers, self.pid = answers or [], 0
        monkeypatch.setattr(runner, "check", lambda _: [])
        monkeypatch.setattr(runner, "choose", lambda *_: ("xdp", "a test"))
        monkeypatch.setattr(runner, "Reference", lambda *_: self)
        monkeypatch.setattr(runner, "measure", self.measure)

    def measure(self, point: Any, *_: Any) -> dict[str, Any]:
        self.points.append(point.label)
        answer = self.answers.pop(0) if self.answers else row()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title: small", "titel: small"), "small.yaml:1: unknown key 'titel'"),
        (
            ("[recv, xdp_count]", "[recv, pcap]"),
            "small.yaml:3: methods.1: 'pcap'; allowed: recv, recvmmsg, tpacket_v3, libpcap, af_xdp, tap_reader, guest, xdp_count, tc_count, program",
        ),
        (("[50, 100]", "[50, 50]"), "offered_kpps: a level is given twice"),
        (("[50, 100]", "[50, -1]"), "small.yaml:2: offered_kpps.1"),
        (("inline: {}", "rps: {softirq: rps}"), "softirq_cpu: needed with softirq rps or threaded"),
        (("inline: {}", "rps: {softirq: rps, softirq_cpu: 1}"), "xdp_count takes frames before RPS"),
        (("[recv, xdp_count]", "[program]"), "program: a command line, needed with the method program"),
        (("repeats: 3", "program: [tcpdump]"), "program: a command line, needed with the method program, and only then"),
        (("repeats: 3", "captured_pattern: x"), "captured_pattern: only with a program"),
        ((RECV_AND_XDP, PROGRAM + "\ndropped_pattern: x"), "dropped_pattern: only with captured_pattern"),
        ((RECV_AND_XDP, PROGRAM + "\ncaptured_pattern: (x"), "captured_pattern: not a regular expression"),
        (("repeats: 3", "flows: [3]"), "flows: a power of two, not 3"),
        (("repeats: 3", "repeats: 0"), "small.yaml:6: repeats"),
    ],
)
def test_a_mistake_in_a_campaign_is_named_with_its_place(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=r"small\.yaml") as failure:
        campaign_of(tmp_path, SMALL.replace(*change))
    assert message in str(failure.value)


def test_an_unknown_campaign_is_told_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'lab/veth'"):
        load_campaign("lab/vet")


def test_every_block_has_every_point_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    blocks = list(campaign_of(tmp_path).blocks())
    labels = [[planned.point.label for planned in block] for block in blocks]
    assert len(blocks) == 3
    assert all(sorted(block) == sorted(labels[0]) and len(set(block)) == 4 for block in labels)
    assert len({tuple(block) for block in labels}) > 1
    assert len({planned.key for block in blocks for planned in block}) == 12
    assert [[p.key for p in block] for block in campaign_of(tmp_path).blocks()] == [[p.key for p in block] for block in blocks]
    other = campaign_of(tmp_path, SMALL + "seed: 2\n")
    assert [[p.key for p in block] for block in other.blocks()] != [[p.key for p in block] for block in blocks]


def test_built_in_campaigns_keep_to_their_time() -> None:
    assert {"lab/quick", "lab/veth", "lab/bridge-tap"} <= set(built_in_campaigns())
    assert load_campaign("lab/quick").whole_seconds < 120
    assert load_campaign("lab/counters").whole_seconds < 180
    assert load_campaign("lab/veth").whole_seconds < 15 * 60
    assert load_campaign("lab/bridge-tap").whole_seconds < 15 * 60
    assert load_campaign("lab/qemu-tcg").whole_seconds < 15 * 60


def test_a_placement_knows_its_cpus() -> None:
    assert Placement(softirq="rps", load_cpu=0, softirq_cpu=3, reader_cpu=2).cpus == (0, 2, 3)
    assert Placement(load_cpu=0, reader_cpu=1).load_is_alone
    assert not Placement(load_cpu=1, reader_cpu=1).load_is_alone


def test_plan_changes_nothing_and_says_what_would_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    campaign_of(tmp_path)
    main(["capture", "plan", str(tmp_path / "small.yaml"), "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert plan["schema"] == "simnet-capture-plan/1"
    assert plan["windows"] == len(plan["order"]) == 12
    assert plan["seconds"] > 12 * 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["small.yaml"]
    main(["capture", "plan", str(tmp_path / "small.yaml")])
    text = capsys.readouterr().out
    assert "12 windows" in text
    assert "what is changed" in text


def test_without_root_one_message_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_of(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["capture", "run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "root is needed" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_cpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, SMALL.replace("inline: {}", "inline: {reader_cpu: 4095}"))
    assert any("no CPU 4095 here" in problem for problem in runner.check(campaign))


def test_a_library_that_is_missing_is_said_before_anything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = campaign_of(tmp_path, SMALL.replace("[recv, xdp_count]", "[libpcap]"))
    monkeypatch.setattr(libpcap, "NAMES", ("libnothing.so.0",))
    assert libpcap.MISSING in runner.check(campaign)


def test_a_program_is_in_the_plan_and_missed_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = campaign_of(tmp_path, SMALL.replace(RECV_AND_XDP, PROGRAM))
    assert any("there is no no-such-program here" in problem for problem in runner.check(campaign))
    main(["capture", "plan", str(tmp_path / "small.yaml")])
    assert "no-such-program {interface}" in capsys.readouterr().out


def test_a_rejected_window_is_measured_again_at_the_end_of_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [row(rejected="busy"), row(), row(), row(), row(rejected="busy"), row(rejected="never reached")])
    campaign = campaign_of(tmp_path, SMALL.replace("repeats: 3", "repeats: 1\nreject: {retries: 1, wait_seconds: 0}"))
    done = runner.run(campaign, tmp_path / "out")
    first = bench.points[0]
    assert bench.points.count(first) == 2
    assert bench.points[4] == first
    assert len(bench.points) == 5
    attempts = [(r["attempt"], r["rejected"]) for r in done.rows if r["window"] == done.rows[0]["window"]]
    assert attempts == [(0, "busy"), (1, "busy")]
    line = next(line for line in runner.summary(done.rows) if line["rejected"])
    assert (line["windows"], line["rejected"], line["captured_kpps"]) == (2, 2, None)


def test_an_interrupted_campaign_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, out = campaign_of(tmp_path), tmp_path / "out"
    bench = Bench(monkeypatch, [row(), row(), row(), row(), row(), KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        runner.run(campaign, out)
    with (out / LINES).open("a", encoding="utf-8") as file:
        file.write('{"window": "torn')
    with pytest.raises(UserError, match="--resume goes on"):
        runner.run(campaign, out)
    done = runner.run(campaign, out, resume=True)
    assert len(bench.points) == 6 + 12 - 5
    assert sorted({r["window"] for r in done.rows}) == sorted({p.key for block in campaign.blocks() for p in block})
    assert [r["order"] for r in done.rows] == list(range(12))
    assert sorted(file.name for file in out.iterdir()) == [ABOUT, "windows.parquet"]
    assert len(read_record(out).good) == 12
    with pytest.raises(UserError, match="holds a finished record"):
        runner.run(campaign, out, resume=True)


def test_windows_of_another_campaign_or_host_are_not_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Bench(monkeypatch, [row(), KeyboardInterrupt()])
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        runner.run(campaign_of(tmp_path), out)
    with pytest.raises(UserError, match="another campaign"):
        runner.run(campaign_of(tmp_path, SMALL + "seed: 2\n"), out, resume=True)
    monkeypatch.setattr(runner, "facts", lambda: {"cpu_model": "another one"})
    with pytest.raises(UserError, match=r"another host .*cpu_model"):
        runner.run(campaign_of(tmp_path), out, resume=True)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Bench(monkeypatch)
    campaign = campaign_of(tmp_path)
    with pytest.raises(UserError, match=r"not empty.*small\.yaml"):
        runner.run(campaign, tmp_path)


def test_one_campaign_at_a_time_in_a_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out", {}, {}, resume=False)
    try:
        with pytest.raises(UserError, match="another campaign is writing there"):
            Journal(tmp_path / "out", {}, {}, resume=True)
    finally:
        journal.close()


def test_a_full_disk_keeps_the_finished_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "out", {}, {}, resume=False)
    journal.add({"window": "0-0"})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    with pytest.raises(UserError, match="No space left on device; finished windows are kept"):
        journal.add({"window": "1-0"})
    monkeypatch.undo()
    journal.close()
    again = Journal(tmp_path / "out", {}, {}, resume=True)
    assert [found["window"] for found in again.rows] == ["0-0"]
    again.close()


def test_every_column_of_the_fixture_has_a_meaning() -> None:
    assert row().keys() <= COLUMNS.keys()
