"""The paper's numbers were transcribed twice, independently; the two readings must agree."""

import csv
import re
from pathlib import Path

import pytest
import yaml

DATA = Path(__file__).parent.parent / "validation" / "data"
METHODS = {"kernel module": "kernel_module", "PF_PACKET": "pf_packet", "PF_RING": "pf_ring"}
SCALE = {"Gbps": ("Mbit/s", 1000.0), "Mbps": ("Mbit/s", 1.0), "Mpps": ("kpps", 1000.0)}
LINE_RATE_MBPS = 10_000.0
UNSTATED = ("", "all", "any", "both", None)


def _agree(ours, theirs):
    return ours in UNSTATED or theirs in UNSTATED or ours == theirs


def _numbers():
    """The numbers of the second reading for a platform, method and size, and Table III; one a packet size."""
    for number in yaml.safe_load((DATA / "paper-second-reading.yaml").read_text(encoding="utf-8"))["numbers"]:
        if number["where"] == "Table III" or None not in (number["platform"], number["method"], number["packet_bytes"]):
            sizes = number["packet_bytes"]
            for size in sizes if isinstance(sizes, list) else [sizes]:
                yield number | {"packet_bytes": size}


def _rows_for(number):
    """Rows of the first reading about the same thing. The file has no column for the platform: claims begin with "VM"."""
    with (DATA / "paper.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            platform = "virtual" if re.match(r"VM\b", row["claim"]) else "bare-metal"
            if (
                row["frame_bytes"] == str(number["packet_bytes"])
                and _agree(number["platform"], platform)
                and _agree(METHODS.get(number["method"], number["method"]), row["method"])
                and _agree(number["monitor"], row["monitor"])
                and _agree(number["flows"], row["flows"])
            ):
                yield row


def _name(number):
    return " ".join(str(number[key]) for key in ("where", "platform", "method", "packet_bytes", "value", "unit") if number[key])


@pytest.mark.parametrize("number", list(_numbers()), ids=_name)
def test_first_reading_has_the_same_value(number):
    unit, factor = SCALE.get(number["unit"], (number["unit"], 1.0))
    wanted = round(number["value"] * factor, 6)
    rows = list(_rows_for(number))
    found = [float(row["value"]) for row in rows if row["value"] and row["unit"] == unit]
    if "below line rate" in number["qualifier"]:  # the first reading has what is left of the line rate
        wanted = LINE_RATE_MBPS - wanted
    elif number["qualifier"].startswith("±"):  # the first reading has half-widths in the claim's text only
        found = [float(half) for row in rows for half in re.findall(r"\+- ([\d.]+)", row["claim"])]
    near = [(row["id"], row["value"], row["unit"]) for row in rows]
    assert wanted in found, f"second reading: {wanted} {unit} ({number['where']}); first reading, same cell: {near}"
