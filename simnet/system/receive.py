"""The receive softirq: from the driver's ring to whoever is attached to the interface.

`system` is the only place that wires, so here the driver (`kernel.driver`), the poll list (`kernel.napi`) and the handlers (`capture`) meet.
A frame's cost is named when the poll gets to it: the driver's part, then the handler's. Its effect comes when that is paid.
"""

from __future__ import annotations

from simnet.capture.kernel_tap import begin_tap, end_tap
from simnet.capture.monitor import FRAMES_AHEAD, expect_frames
from simnet.capture.socket import begin_delivery, end_delivery, retire_timer_expires
from simnet.compiled import cold_jit, inline_jit, jit
from simnet.kernel.bridge import begin_forward
from simnet.kernel.core import NOBODY, account
from simnet.kernel.driver import FRAME_READY, finish_frame, frame_in_hand, poll_step
from simnet.kernel.napi import Napi
from simnet.kernel.softirq import FINISHED, NET_TX, POLL, SERVE, TIMERS, softirq_step
from simnet.kernel.timers import take_expired
from simnet.kernel.tun import dev_queue_xmit, net_tx_step
from simnet.system.machine import Machine
from simnet.traffic.frame import Frame, first
from simnet.virt.vcpu import CLOCK_READ, is_leaving, time_taken
from simnet.virt.virtio_net import VIRTIO, finish_virtio_frame, virtnet_poll_step

TO_TAP, TO_SOCKET, TO_BRIDGE = 0, 1, 2


@cold_jit
def begin_virtual_frame(m: Machine, c: int, napi: Napi) -> int:
    """Cost of a frame in the guest, from used entry to handler; its time stamp may leave the guest."""
    frame = first(m.virtqueue.used)
    if m.vcpus[c].stamps_exit:
        m.vcpus[c].pending |= 1 << CLOCK_READ
    if napi.handler == TO_TAP:
        return m.virtio.receive_ps + begin_tap(m, frame)
    return m.virtio.receive_ps + begin_delivery(m.sockets[napi.subject], frame)


@jit
def begin_frame(m: Machine, c: int, napi: Napi) -> int:
    """Cost of a frame from descriptor to handler."""
    if napi.kind == VIRTIO:
        return begin_virtual_frame(m, c, napi)
    if napi.handler == TO_TAP:
        expect_frames(m, m.tap.monitor, m.nic.port.queues[napi.queue].ring, FRAMES_AHEAD, FRAMES_AHEAD + 1)
        return m.costs.receive_ps + begin_tap(m, frame_in_hand(m, napi))
    if napi.handler == TO_BRIDGE:
        return m.costs.receive_ps + begin_forward(m)
    return m.costs.receive_ps + begin_delivery(m.sockets[napi.subject], frame_in_hand(m, napi))


@jit
def end_frame(m: Machine, c: int, napi: Napi, frame: Frame, now: int) -> int:
    """The frame's way through the softirq is paid. Returns the cost of what follows from it (waking a reader), or 0."""
    if napi.handler == TO_TAP:
        end_tap(m, frame, now)
        return 0
    if napi.handler == TO_BRIDGE:
        return dev_queue_xmit(m, frame, c, now)
    return end_delivery(m, napi.subject, frame, c, now)


@inline_jit
def poll(m: Machine, c: int, now: int) -> int:
    """The next piece of the current poll: the frame just paid for goes up, the next one is taken. Returns a cost or POLL_OVER."""
    napi = m.napis[m.cores[c].softirq.napi]
    if napi.holds_frame:
        if napi.kind == VIRTIO:
            follow_up = end_frame(m, c, napi, first(m.virtqueue.used), now) + finish_virtio_frame(m, c, napi)
        else:
            follow_up = end_frame(m, c, napi, frame_in_hand(m, napi), now)
            finish_frame(m, napi, now)
        if follow_up > 0:
            return follow_up
    if napi.kind == VIRTIO:
        step = virtnet_poll_step(m, c)
    else:
        if napi.handler == TO_TAP and not napi.begun:
            expect_frames(m, m.tap.monitor, m.nic.port.queues[napi.queue].ring, 0, FRAMES_AHEAD)
        step = poll_step(m, c, now)
    if step == FRAME_READY:
        return begin_frame(m, c, napi)
    return step


@cold_jit
def transmit(m: Machine, c: int, now: int) -> int:
    """The next piece of net_tx_action. Returns a cost, or 0 when it is over."""
    cost = net_tx_step(m, c, now)
    if cost == 0:
        m.cores[c].softirq.phase = SERVE
    return cost


@cold_jit
def run_timers(m: Machine, c: int, now: int) -> int:
    """The next timer of core `c` that is due, all of them those of sockets (run_timer_softirq). Returns what it did cost."""
    timer = take_expired(m, c, now)
    if timer == NOBODY:
        m.cores[c].softirq.phase = SERVE
        return 0
    return retire_timer_expires(m, timer, c, now)


@inline_jit
def softirq_work(m: Machine, c: int, now: int) -> int:
    """The next piece of softirq work of core `c`. Returns its cost, or FINISHED.

    While nobody else is due it goes on from piece to piece by itself, booking the time: `began_ps` of the core tells how far it got.
    """
    run = m.cores[c].softirq
    if run.left_ps > 0:
        left = run.left_ps
        run.left_ps = 0
        return left
    while True:
        if run.phase == POLL:
            cost = poll(m, c, now)
        elif run.phase == NET_TX:
            cost = transmit(m, c, now)
        elif run.phase == TIMERS:
            cost = run_timers(m, c, now)
        else:
            cost = softirq_step(m, c, now)
        if c >= m.physical and cost != FINISHED and is_leaving(m, c):
            return max(cost, 0)
        if cost > 0:
            taken = time_taken(m, c, cost)
            if now + taken >= m.agenda.quiet_until_ps or m.agenda.disturbed or m.cpus[c].irr:
                return cost
            now += taken
            account(m.cores[c], now)
        elif cost == FINISHED:
            return cost
