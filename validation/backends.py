"""Rows about vhost-net and virtual functions: ICCCN 2012's related work (S40, S47) and later measurements (V01, Z01, Z06).

Nothing is fitted to them. V01 was measured on an unnamed host of 2016: the model's is `e5-2680v4-linux-4.8`, and both rates of the row are printed. Z06 gives ratios to bare metal on
another processor at some 49 000 interrupts a second; the ratio depends on that rate, so it is shown over a range of moderation and judged at one in its middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import simnet
from validation.cells import Question
from validation.claims import NOT_REPRODUCED, REPRODUCED, Row, Verdict
from validation.paper import holds

PROCESS = {"capture.method": "pf_packet", "traffic.frame_bytes": 1518}
"""At 1518 B the processor limits only a process; a kernel module takes the line rate."""
INTERVALS_US = (20, 30, 40, 50, 80)
JUDGED_US = 40
FORWARDED, POSTED = "whatif/sr-iov", "whatif/sr-iov-posted"
V01_KPPS = (1300.0, 1500.0)
FACTOR = 1.5
GOODPUT = 1448 / 1538
"""Of TCP with time stamps in full frames: payload over bytes on the wire."""

Results = Mapping[Any, simnet.Result]


def backend_questions() -> dict[Any, Question]:
    """All runs behind the rows."""
    questions: dict[Any, Question] = {
        "eight": ("whatif/sr-iov-8", {}),
        "virtio": ("paper/vm", {"traffic.frame_bytes": 1518}),
        "vhost-2016": ("whatif/vhost-2016", {}),
    }
    for interval in INTERVALS_US:
        fixed = PROCESS | {"host.nic.moderation": "fixed", "host.nic.moderation_us": interval}
        questions["metal", interval] = ("paper/bare-metal", fixed | {"host.nic.queues": 1, "host.kernel": "3.2"})
        questions[FORWARDED, interval] = (FORWARDED, fixed)
        questions[POSTED, interval] = (POSTED, fixed)
    return questions


def _kpps(results: Results, *key: Any) -> float:
    return results[key].captured.kpps.mean


def host_share(result: simnet.Result) -> float:
    """Processors of the host that work for the host and not in a guest."""
    return sum(1.0 - core.shares["idle"] - core.shares["guest"] for core in result.cores)


def _line_rate(row: Row, results: Results) -> Verdict:
    """Eight guests on functions of one port."""
    eight = results["eight"]
    goodput = eight.captured.mbps_wire.mean * GOODPUT
    measured = float(row.value) * (1000 if row.unit == "Gbit/s" else 1)
    text = f"eight guests: {eight.captured.mbps_wire.mean:.0f} Mbit/s on the wire, {goodput:.0f} Mbit/s of TCP payload; host work {host_share(eight):.2f} processors, one virtio guest {host_share(results['virtio']):.2f}"
    return holds(row, abs(goodput / measured - 1) <= 0.02 and host_share(eight) < host_share(results["virtio"]), text)


def _exits(row: Row, results: Results) -> Verdict:
    """Guests with forwarded and with posted interrupts as shares of bare metal."""
    shares = {
        interval: [_kpps(results, name, interval) / _kpps(results, "metal", interval) for name in (FORWARDED, POSTED)]
        for interval in INTERVALS_US
    }
    text = "; ".join(
        f"{interval} us ({results[FORWARDED, interval].rates['guest_interrupts'] / 1000:.0f}k interrupts/s): forwarded {forwarded:.0%}, posted {posted:.0%}"
        for interval, (forwarded, posted) in shares.items()
    )
    forwarded, posted = shares[JUDGED_US]
    return holds(row, 0.55 <= forwarded <= 0.8 and posted >= 0.95, f"of bare metal, by moderation: {text}")


def backend_verdict(row: Row, results: Results) -> Verdict | None:
    """The verdict on a row about vhost-net or virtual functions; None for other rows."""
    if row.id in ("S40", "Z01"):
        return _line_rate(row, results)
    if row.id == "Z06":
        return _exits(row, results)
    if row.id == "V01":
        found = results["vhost-2016"].captured.kpps
        within = 1 / FACTOR <= found.mean / V01_KPPS[0] <= FACTOR
        text = " and ".join(f"{measured / found.mean:.2f} times less than the {measured:.0f} kpps" for measured in V01_KPPS)
        return Verdict(row, REPRODUCED if within else NOT_REPRODUCED, found.mean, found.ci95, f"{text} before and after the change")
    if row.id == "S47":
        result = results[FORWARDED, JUDGED_US]
        softirqs = sum(core.shares["softirq"] + core.shares["ksoftirqd"] for core in result.cores)
        return holds(
            row,
            softirqs < 0.01,
            f"softirqs of the host take {softirqs:.2%} of a processor, hard interrupts {sum(core.shares['hardirq'] for core in result.cores):.1%}",
        )
    return None
