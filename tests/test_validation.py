"""The validation suite, in short: what `simnet validate theory engines` runs at length. And: does it notice a broken mechanism?"""

from __future__ import annotations

from pathlib import Path

import pytest

import simnet
from validation.breaking import MUTANTS, broken_copy, who_notices
from validation.engines import check_engines
from validation.paper import Cell, all_cells, cell_question
from validation.receive_path import check_receive_path
from validation.theory import check_theory


def silent(doing: str, share: float) -> None:
    """No progress."""


def test_theory_holds() -> None:
    assert [check.name for check in check_theory(silent) if not check.passed] == []


def test_the_oracle_agrees_with_the_mechanisms() -> None:
    assert [check.note for check in check_receive_path(6, silent) if not check.passed] == []


def test_the_clocks_agree() -> None:
    assert [check.note for check in check_engines(6, silent) if not check.passed] == []


@pytest.mark.parametrize("name", ["weight 63 instead of 64", "ksoftirqd's wake-up is lost", "the Toeplitz key is off by a bit"])
def test_a_broken_mechanism_is_noticed(name: str) -> None:
    assert who_notices(next(mutant for mutant in MUTANTS if mutant.name == name)) is not None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_up_to_date(mutant: object, tmp_path: Path) -> None:
    broken_copy(tmp_path, mutant)  # type: ignore[arg-type]


SHORT = {"measure.precision": 0.5, "measure.limit_s": 0.05, "measure.replications": 2, "capture.flow_table.period_s": 0.02}


@pytest.mark.parametrize("cell", all_cells(), ids=str)
def test_packets_and_shares_of_every_cell_add_up(cell: Cell) -> None:
    result = simnet.run(simnet.load(*cell_question(cell, **SHORT))).as_json()
    packets = result["packets"]
    assert packets["offered"] == packets["captured"] + packets["in_flight"] + sum(place["packets"] for place in packets["dropped"])
    for core in result["cores"]:
        assert sum(share for name, share in core.items() if name != "cpu") == pytest.approx(1.0, abs=1e-12)
