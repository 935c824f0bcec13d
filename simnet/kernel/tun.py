"""The tap device and the queueing discipline before it (drivers/net/tun.c, net/sched/sch_generic.c, Linux 3.2).

The bridge transmits to the tap in its own softirq. The tap keeps up to `limit` packets for its reader. The packet that finds it full stops the
device and is still queued; later ones wait in the queueing discipline (pfifo_fast) and are dropped beyond its limit. Each read() starts a
stopped device again (`tun_do_read`, netif_wake_queue), which raises NET_TX on the *reader's* processor and, outside interrupts, wakes
ksoftirqd there: under overload every packet read costs an activation of ksoftirqd that moves one packet. With IFF_ONE_QUEUE the device never
stops and drops what finds it full. Left out: transmit timestamps, socket filters, GSO.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit
from simnet.kernel.core import NET_TX_SOFTIRQ, NOBODY, QDISC_PACKETS, HasCores
from simnet.kernel.sched import wake_up
from simnet.kernel.softirq import raise_softirq, raise_softirq_in_process
from simnet.records import Record
from simnet.traffic.frame import Frame, FrameQueue, first, pop, push

QDISC_QUOTA = 64
"""weight_p: packets that one run of a queueing discipline moves."""


class Tun(Record):
    """A tap. `reader`: the task that waits for it to become readable, or NOBODY; `xmit_ps`: moving a packet from the discipline to the device.

    `full` counts packets that found the device full (tx_fifo_errors), `dropped` those that a one-queue device then lost.
    """

    limit: int
    one_queue: int
    stopped: int
    reader: int
    xmit_ps: int
    full: int
    dropped: int
    qdisc_dropped: int
    restarts: int
    readq: FrameQueue
    qdisc: FrameQueue


class HasTun(HasCores, Protocol):
    """What the functions of this module may touch."""

    tun: Tun


@cold_jit
def tun_net_xmit(m: HasTun, frame: Frame, c: int, now: int) -> int:
    """The device takes a packet. Returns what waking its reader costs."""
    tun = m.tun
    if tun.readq.filled >= tun.limit:
        tun.full += 1
        if tun.one_queue:
            tun.dropped += 1
            return 0
        tun.stopped = 1
    push(tun.readq, frame)
    if tun.reader == NOBODY:
        return 0
    return wake_up(m, tun.reader, c, now)


@cold_jit
def dev_queue_xmit(m: HasTun, frame: Frame, c: int, now: int) -> int:
    """Softirq of core `c` transmits a packet to the tap. Returns the cost of what else it moved and woke."""
    tun = m.tun
    if tun.qdisc.filled == 0 and not tun.stopped:
        return tun_net_xmit(m, frame, c, now)
    if tun.qdisc.filled >= tun.qdisc.slots:
        tun.qdisc_dropped += 1
    else:
        push(tun.qdisc, frame)
    cost, moved = 0, 0
    while moved < QDISC_QUOTA and not tun.stopped and tun.qdisc.filled > 0:
        cost += tun_net_xmit(m, first(tun.qdisc), c, now)
        pop(tun.qdisc)
        if moved > 0:  # one is paid for already
            cost += tun.xmit_ps
            m.cores[c].events[QDISC_PACKETS] += 1
        moved += 1
    if not tun.stopped and tun.qdisc.filled > 0:
        raise_softirq(m, c, NET_TX_SOFTIRQ)
    return cost


@cold_jit
def net_tx_step(m: HasTun, c: int, now: int) -> int:
    """net_tx_action: the next packet from the discipline to the device, after the one that was just paid for. Returns a cost, 0 at the end."""
    tun, run = m.tun, m.cores[c].softirq
    if run.transmits and not tun.stopped and tun.qdisc.filled > 0:
        cost = tun_net_xmit(m, first(tun.qdisc), c, now)
        pop(tun.qdisc)
        run.transmitted += 1
        if cost > 0:
            run.transmits = 0
            return cost
    run.transmits = int(not tun.stopped and tun.qdisc.filled > 0)
    if run.transmits and run.transmitted >= QDISC_QUOTA:
        run.transmits = 0
        raise_softirq(m, c, NET_TX_SOFTIRQ)
    m.cores[c].events[QDISC_PACKETS] += run.transmits
    return tun.xmit_ps * run.transmits


@cold_jit
def tun_do_read(m: HasTun, c: int, now: int) -> int:
    """The reader's read() has taken the first packet. A stopped device starts again. Returns the cost of waking ksoftirqd."""
    tun = m.tun
    pop(tun.readq)
    if not tun.stopped:
        return 0
    tun.stopped = 0
    tun.restarts += 1
    return raise_softirq_in_process(m, c, NET_TX_SOFTIRQ, now)
