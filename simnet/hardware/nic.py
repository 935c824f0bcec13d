"""A network interface: link, packet buffer, receive queues, one MSI-X vector a queue.

Arrivals are not events. `admit(m, now)` lets in everything that has arrived up to now, and is called before anything looks at the rings
or changes them. The NIC is due only when a vector that is not masked could interrupt. Vectors mask themselves when they fire (EIAM); the poll
routine unmasks them.
"""

from __future__ import annotations

from typing import Protocol

from simnet.agenda import FIRST_CPU, NEVER, NIC, Agenda, act_by
from simnet.compiled import jit
from simnet.hardware.cpu import Cpu, post_vector, send_vector
from simnet.hardware.moderation import Moderation, interval_ps
from simnet.hardware.packet_buffer import PacketBuffer, RxQueue, refill, store
from simnet.hardware.rss import MAX_QUEUES, Rss
from simnet.records import Array, Record, many
from simnet.traffic.switch import Link, pause, put_next_on_link, resume


class MsixVector(Record):
    """Vector of one queue: which processor it interrupts, and when it may do so next.

    An interrupt takes `latency_ps` to a processor that runs, and is then `on_its_way`; what a processor that idles takes to wake up is its own.
    `guest`: the virtual processor that it is for, if the queue is a virtual function's, or PHYSICAL; `posted`: through its posted-interrupt descriptor.
    """

    cpu: int
    guest: int
    posted: int
    number: int
    masked: int
    allowed_at_ps: int
    latency_ps: int
    on_its_way: int
    lands_at_ps: int
    interrupts: int
    moderation: Moderation


class Nic(Record):
    """One port. XOFF and XON are sent when the packet buffer passes the watermarks."""

    queues: int
    refill_batch: int
    xoff_bytes: int
    xon_bytes: int
    port: PacketBuffer
    vectors: Array[MsixVector] = many(MsixVector, MAX_QUEUES)
    rss: Rss


class HasNic(Protocol):
    """What the functions of this module may touch."""

    agenda: Agenda
    cpus: Array[Cpu]
    link: Link
    nic: Nic


@jit
def admit(m: HasNic, now: int) -> None:
    """Let in what has arrived up to and at `now`."""
    link = m.link
    while link.arriving.arrival_ps <= now:
        frame = link.arriving
        link.delivered += 1
        link.delivered_bytes += frame.frame_bytes
        store(m.nic.port, m.nic.rss, frame)
        if link.honours_pause and m.nic.port.fifo.filled_bytes >= m.nic.xoff_bytes:
            pause(link)
        put_next_on_link(link)


@jit
def give_back(m: HasNic, queue: RxQueue, now: int) -> None:
    """The driver writes the tail register: cleaned descriptors are posted again."""
    refill(m.nic.port, m.nic.rss, queue)
    if m.link.paused and m.nic.port.fifo.filled_bytes <= m.nic.xon_bytes:
        resume(m.link, now)
        act_by(m.agenda, NIC, m.link.arriving.arrival_ps)


@jit
def arm(m: HasNic, q: int, now: int) -> None:
    """Make the NIC due when vector `q` could fire next."""
    vector = m.nic.vectors[q]
    if vector.masked:
        return
    at = max(now, vector.allowed_at_ps)
    if m.nic.port.queues[q].ring.filled == 0:
        at = max(at, m.link.arriving.arrival_ps)
    act_by(m.agenda, NIC, at)


@jit
def unmask(m: HasNic, q: int, now: int) -> None:
    """The poll routine enables the vector again (EIMS); a frame that came meanwhile interrupts as soon as moderation allows."""
    m.nic.vectors[q].masked = 0
    arm(m, q, now)


@jit
def interrupt(m: HasNic, vector: MsixVector, now: int) -> None:
    """The processor gets the vector."""
    vector.on_its_way = 0
    if vector.posted:
        post_vector(m, vector.guest, vector.cpu, vector.number, now)
    else:
        send_vector(m, vector.cpu, vector.number, now)


@jit
def fire(m: HasNic, vector: MsixVector, now: int) -> None:
    """The vector masks itself and sets off."""
    vector.masked = 1
    vector.interrupts += 1
    vector.allowed_at_ps = now + interval_ps(vector.moderation)
    if vector.latency_ps > 0 and m.agenda.due_ps[FIRST_CPU + vector.cpu] != NEVER:
        vector.on_its_way = 1
        vector.lands_at_ps = now + vector.latency_ps
    else:
        interrupt(m, vector, now)


@jit
def nic_fires(m: HasNic, now: int) -> None:
    """Interrupt for every unmasked vector that has frames and may, and for those that have come; look again when the next one could."""
    admit(m, now)
    m.agenda.due_ps[NIC] = NEVER
    for q in range(m.nic.queues):
        vector = m.nic.vectors[q]
        if not vector.masked:
            if m.nic.port.queues[q].ring.filled > 0 and vector.allowed_at_ps <= now:
                fire(m, vector, now)
            else:
                arm(m, q, now)
        elif vector.on_its_way and vector.lands_at_ps <= now:
            interrupt(m, vector, now)
        if vector.on_its_way:
            act_by(m.agenda, NIC, vector.lands_at_ps)
