"""The capturing process: how it takes packets from its socket and when it sleeps.

- libpcap's mapped ring (`pcap_read_linux_mmap`, 1.1.1) and PF_RING (`pfring_recv`): no system call while frames are ready; poll() when there are
  none, sleep if there still are none, return on a wake-up or time-out.
- a ring of blocks: the same, and packets are ready when their block is. Who only counts takes their number from the block's header, others walk through them.
- a plain socket: one recv() a packet, sleeping in it when the queue is empty. A tap: one read() a packet, poll() when there is none.

A step is one piece of the process's work, in the grammar of `kernel.core`.
"""

from __future__ import annotations

from simnet.agenda import GUEST_TIMERS, NEVER, TIMEOUTS, act_by
from simnet.capture.socket import SKB_QUEUE, HasSockets, begin_reading, end_reading, readable
from simnet.compiled import jit
from simnet.hardware.cpu import PHYSICAL
from simnet.kernel.core import BLOCKED, IN_SYSTEM, IN_USER
from simnet.kernel.softirq import local_bh_enable

# Phases: looking for a frame, working on one, in poll() or recv() before sleeping, woken up.
LOOK, WORK, ASK, RETURN = 0, 1, 2, 3


@jit
def reader_step(m: HasSockets, i: int, now: int) -> int:
    """The next piece of work of reader task `i`. Returns its cost or BLOCKED."""
    task = m.tasks[i]
    socket = m.sockets[task.subject]
    if task.phase == WORK:
        end_reading(m, socket, now)
        task.phase = LOOK
        if socket.locks_bh:
            local_bh_enable(m, task.core, now)
            return 0
    elif task.phase == RETURN:
        task.timeout_ps = NEVER
        task.phase = LOOK
    elif task.phase == ASK and readable(socket) < socket.watermark:
        task.phase = RETURN
        if socket.poll_timeout_ps:
            task.timeout_ps = now + socket.poll_timeout_ps
            act_by(m.agenda, TIMEOUTS if m.cpus[task.core].carrier == PHYSICAL else GUEST_TIMERS, task.timeout_ps)
        return BLOCKED
    if readable(socket) > 0:
        task.phase = WORK
        task.context = IN_SYSTEM if socket.kind == SKB_QUEUE else IN_USER
        return begin_reading(m, socket)
    task.phase = ASK
    socket.asks += 1
    task.context = IN_SYSTEM
    return m.costs.poll_system_call_ps
