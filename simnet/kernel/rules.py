"""What differs between kernel generations: numbers and switches that `softirq` and `sched` follow.

A generation is one row here, not flags in the code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from simnet.records import Record


class Rules(Record):
    """The rule set of one kernel, as the mechanisms read it.

    `max_restart` rounds of softirqs before ksoftirqd is woken (MAX_SOFTIRQ_RESTART); `softirq_limit_ps` ends the rounds by time (0: no
    limit); net_rx_action ends `net_rx_ticks` ticks after its first jiffy; `defers_to_ksoftirqd`: irq_exit runs no softirqs while
    ksoftirqd is runnable; `queues_wakeups`: a wake-up from another core always comes by interrupt (ttwu_queue); `budget` is netdev_budget; `tick_ps` is 1/HZ; the times after it are those of CFS, scaled for the number of CPUs.
    `base_slice_ps`: EEVDF schedules, with this slice (0: CFS does); `delays_dequeue`: a sleeper that was ahead stays in its queue (DELAY_DEQUEUE).
    """

    max_restart: int
    softirq_limit_ps: int
    net_rx_ticks: int
    defers_to_ksoftirqd: int
    queues_wakeups: int
    budget: int
    tick_ps: int
    sched_latency_ps: int
    min_granularity_ps: int
    wakeup_granularity_ps: int
    base_slice_ps: int
    delays_dequeue: int


@dataclass(frozen=True)
class Generation:
    """A kernel generation: its rules before HZ and the number of CPUs are known. Times in ms.

    `threaded_napi`: NAPI contexts may have threads; `virtio_weight`: frames that virtio_net takes in one poll. The base values of CFS, and the slice of EEVDF, are multiplied by 1 + floor(log2(min(CPUs, 8))) (get_update_sysctl_factor).
    """

    name: str
    source: str
    max_restart: int = 10
    softirq_limit_ms: float = 0.0
    net_rx_ticks: int = 3
    defers_to_ksoftirqd: bool = False
    queues_wakeups: bool = True
    budget: int = 300
    threaded_napi: bool = False
    sched_latency_ms: float = 6.0
    min_granularity_ms: float = 0.75
    wakeup_granularity_ms: float = 1.0
    base_slice_ms: float = 0.0
    delays_dequeue: bool = False
    virtio_weight: int = 128


SINCE_6_5: dict[str, Any] = {
    "softirq_limit_ms": 2.0,
    "net_rx_ticks": 2,
    "queues_wakeups": False,
    "threaded_napi": True,
    "virtio_weight": 64,
}

GENERATIONS = {
    generation.name: generation
    for generation in (
        Generation(
            "2.6.37",
            "kernel/softirq.c and net/core/dev.c of Linux 2.6.37: the rules of 3.2; kernel/sched.c before ttwu_queue",
            queues_wakeups=False,
        ),
        Generation("3.2", "kernel/softirq.c, net/core/dev.c, kernel/sched_fair.c of Linux 3.2"),
        Generation(
            "3.2-deferred",
            "hypothesis: the 3.2 rules, but irq_exit leaves softirqs to a runnable ksoftirqd as commit 4cd13c21b207 (4.9) has it",
            defers_to_ksoftirqd=True,
        ),
        Generation(
            "4.8",
            "kernel/softirq.c (2 ms, ten rounds or need_resched), net/core/dev.c, kernel/sched of Linux 4.8; no halt polling",
            softirq_limit_ms=2.0,
            net_rx_ticks=2,
            queues_wakeups=False,
        ),
        Generation(
            "4.9",
            "as 4.8; irq_exit leaves softirqs to a runnable ksoftirqd (kernel/softirq.c of Linux 4.9, 4cd13c21b207)",
            softirq_limit_ms=2.0,
            net_rx_ticks=2,
            defers_to_ksoftirqd=True,
            queues_wakeups=False,
        ),
        Generation(
            "5.15",
            "kernel/softirq.c, net/core/dev.c (netdev_budget_usecs of two ticks), kernel/sched/fair.c of Linux 5.15: 2 ms, ten rounds or need_resched; irq_exit leaves softirqs to a runnable ksoftirqd (4cd13c21b207)",
            softirq_limit_ms=2.0,
            net_rx_ticks=2,
            defers_to_ksoftirqd=True,
            queues_wakeups=False,
            threaded_napi=True,
            virtio_weight=64,
        ),
        Generation(
            "6.6",
            "kernel/softirq.c (ksoftirqd no longer defers softirqs since 6.5, d15121be7485), net/core/dev.c and kernel/sched/fair.c (EEVDF, 147f3efaa241) of Linux 6.6",
            base_slice_ms=0.75,
            **SINCE_6_5,
        ),
        Generation(
            "6.12",
            "as 6.6, with delayed dequeue (kernel/sched/fair.c of Linux 6.12, 152e11f6df29)",
            base_slice_ms=0.75,
            delays_dequeue=True,
            **SINCE_6_5,
        ),
        Generation(
            "6.15",
            "as 6.12, with a base slice of 0.70 ms (2ae891b82695)",
            base_slice_ms=0.7,
            delays_dequeue=True,
            **SINCE_6_5,
        ),
    )
}


def version_of(release: str) -> tuple[int, ...]:
    """The numbers that a kernel's release (`uname -r`) begins with."""
    found = re.match(r"[\d.]*", release)
    return tuple(int(number) for number in found[0].split(".") if number) if found else ()


def generation_for(release: str) -> str | None:
    """The name of the newest generation that is not newer than a kernel's release; None if it is older than all of them."""
    older = [name for name in GENERATIONS if "-" not in name and version_of(name) <= version_of(release)]
    return max(older, key=version_of, default=None)
