"""The command line as a program sees it: output, exit status, messages."""

from __future__ import annotations

import json

import pytest

from simnet.cli import main


def test_run_prints_the_contract_and_packets_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "paper/bare-metal", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    packets = result["packets"]
    assert packets["offered"] == packets["captured"] + packets["in_flight"] + sum(d["packets"] for d in packets["dropped"])
    for core in result["cores"]:
        assert sum(share for name, share in core.items() if name != "cpu") == pytest.approx(1.0, abs=1e-9)
