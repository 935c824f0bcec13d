"""Two minutes of a real lab: a campaign, its record, and what must hold on any host. Order and ratios, never rates."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from test_lab import FIRST, SECOND, needs_lab

from calibration.record import read_record
from simnet.cli import main

LIGHT, FLOOD = 50, 1600
CAMPAIGN = f"""
title: Light load and a flood
offered_kpps: [{LIGHT}, {FLOOD}]
methods: [recv, tap_reader]
placements:
  inline: {{softirq: inline, load_cpu: {FIRST}, reader_cpu: {SECOND}}}
  rps: {{softirq: rps, load_cpu: {FIRST}, softirq_cpu: {SECOND}, reader_cpu: {SECOND}}}
  thread: {{softirq: threaded, load_cpu: {FIRST}, softirq_cpu: {SECOND}, reader_cpu: {SECOND}}}
receive_buffer_bytes: 1048576
repeats: 2
window: {{seconds: 0.6, warm_up_seconds: 0.2, poll_trace_seconds: 0.05}}
reject: {{foreign_share: 0.15, steal_share: 0.15, retries: 3, wait_seconds: 2}}
"""

pytestmark = needs_lab


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Windows that count, with their rates."""
    folder = tmp_path_factory.mktemp("campaign")
    (folder / "flood.yaml").write_text(CAMPAIGN, encoding="utf-8")
    assert main(["capture", "run", str(folder / "flood.yaml"), "--out", str(folder / "record")]) == 0
    about = json.loads(Path(folder / "record" / "record.json").read_text(encoding="utf-8"))
    assert about["windows"]["all"] >= 24
    windows = read_record(folder / "record").good.copy()
    if windows.empty:
        pytest.skip("other work on this machine disturbed every window")
    windows["kpps"] = windows["captured"] / windows["seconds"] / 1000
    return windows


def chosen(good: pd.DataFrame, method: str, placement: str, target: int) -> pd.DataFrame:
    """Windows of one setting."""
    found = good[(good["method"] == method) & (good["placement"] == placement) & (good["target_kpps"] == target)]
    if found.empty:
        pytest.skip(f"other work on this machine disturbed both windows of {method}, {placement}, {target} kpps, twice")
    return found


def captured(good: pd.DataFrame, method: str, placement: str, target: int) -> float:
    """Median rate in kpps."""
    return float(chosen(good, method, placement, target)["kpps"].median())


def delivered(good: pd.DataFrame, method: str, placement: str, target: int) -> pd.Series:
    """Shares of the offered packets that were captured, a window each."""
    found = chosen(good, method, placement, target)
    return found["captured"] / found["offered"]


def test_every_packet_is_accounted_for(good: pd.DataFrame) -> None:
    assert (good["unaccounted"] == 0).all()
    lost = good.filter(like="dropped_").fillna(0).sum(axis=1)
    moved = good["in_flight_before"] - good["in_flight_after"]
    assert (good["offered"] + moved - good["captured"] - lost == 0).all()


def test_light_load_is_captured_whole(good: pd.DataFrame) -> None:
    light = pd.concat([delivered(good, method, "inline", LIGHT) for method in ("recv", "tap_reader")])
    assert light.median() > 0.99


@pytest.mark.parametrize("method", ["recv", "tap_reader"])
def test_a_cpu_of_its_own_is_best_in_a_flood(good: pd.DataFrame, method: str) -> None:
    alone = captured(good, method, "inline", FLOOD)
    assert alone > captured(good, method, "rps", FLOOD)
    assert alone > captured(good, method, "thread", FLOOD)


def test_a_backend_drowns_beside_softirqs_and_not_beside_a_thread(good: pd.DataFrame) -> None:
    """The collapse ratio: the delivered share of what is offered falls by more than a hundred times; beside a thread it does not.

    Whatever else keeps the generator waiting gives a drowned reader time, and nothing takes it any: of the repetitions the deepest one shows the flood.
    """
    light, flood, beside_thread = (
        delivered(good, "tap_reader", placement, target)
        for placement, target in (("rps", LIGHT), ("rps", FLOOD), ("thread", FLOOD))
    )
    assert light.median() > 100 * flood.min()
    assert beside_thread.median() > 10 * flood.min()


def test_softirqs_are_timed(good: pd.DataFrame) -> None:
    """A flood leaves the CPU of a tap's reader to softirqs; light load does not."""
    light, flood = (
        (windows["polls_softirq_s"] / windows["polls_s"]).dropna()
        for windows in (chosen(good, "tap_reader", "rps", target) for target in (LIGHT, FLOOD))
    )
    if light.empty or flood.empty:
        pytest.skip("no tracepoints here")
    assert 2 * light.median() < flood.median() <= 1.0
