"""The receive softirq: from the driver's ring to whoever is attached to the interface.

`system` is the only place that wires, so here the driver (`kernel.driver`), the poll list (`kernel.napi`) and the handlers (`capture`) meet.
A frame's cost is named when the poll gets to it: the driver's part, then the handler's. Its effect comes when that is paid.
"""

from __future__ import annotations

from simnet.capture.kernel_tap import begin_tap, end_tap
from simnet.capture.monitor import FRAMES_AHEAD, expect_frames
from simnet.capture.socket import begin_delivery, end_delivery
from simnet.compiled import jit
from simnet.kernel.core import account
from simnet.kernel.driver import FRAME_READY, finish_frame, frame_in_hand, poll_step
from simnet.kernel.napi import Napi
from simnet.kernel.softirq import FINISHED, POLL, softirq_step
from simnet.system.machine import Machine
from simnet.traffic.frame import Frame

TO_TAP, TO_SOCKET = 0, 1


@jit
def begin_frame(m: Machine, napi: Napi, frame: Frame) -> int:
    """Cost of a frame from descriptor to handler."""
    if napi.handler == TO_TAP:
        expect_frames(m, m.tap.monitor, m.nic.port.queues[napi.queue].ring, FRAMES_AHEAD, FRAMES_AHEAD + 1)
        return m.costs.receive_ps + begin_tap(m, frame)
    return m.costs.receive_ps + begin_delivery(m.sockets[napi.subject], frame)


@jit
def end_frame(m: Machine, c: int, napi: Napi, frame: Frame, now: int) -> int:
    """The frame's way through the softirq is paid. Returns the cost of what follows from it (waking a reader), or 0."""
    if napi.handler == TO_TAP:
        end_tap(m, frame, now)
        return 0
    return end_delivery(m, napi.subject, frame, c, now)


@jit
def poll(m: Machine, c: int, now: int) -> int:
    """The next piece of the current poll: the frame just paid for goes up, the next one is taken. Returns a cost or POLL_OVER."""
    napi = m.napis[m.cores[c].softirq.napi]
    if napi.holds_frame:
        follow_up = end_frame(m, c, napi, frame_in_hand(m, napi), now)
        finish_frame(m, napi, now)
        if follow_up > 0:
            return follow_up
    if napi.handler == TO_TAP and not napi.begun:
        expect_frames(m, m.tap.monitor, m.nic.port.queues[napi.queue].ring, 0, FRAMES_AHEAD)
    step = poll_step(m, c, now)
    if step == FRAME_READY:
        return begin_frame(m, napi, frame_in_hand(m, napi))
    return step


@jit
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
        cost = poll(m, c, now) if run.phase == POLL else softirq_step(m, c, now)
        if cost > 0:
            if now + cost >= m.agenda.quiet_until_ps or m.agenda.disturbed or m.cpus[c].irr:
                return cost
            now += cost
            account(m.cores[c], now)
        elif cost == FINISHED:
            return cost
