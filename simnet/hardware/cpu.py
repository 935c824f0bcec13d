"""A processor as the interrupt controller and the idle loop see it.

Vectors that were sent and not yet taken are bits of `irr` (the interrupt request register of the local APIC). An idle core sleeps in a C-state
and needs that state's exit latency before it runs anything; the state is the deepest whose target residency the last idle period would
have paid (a last-value predictor; Linux's menu governor also weighs the next timer and load).
"""

from __future__ import annotations

from typing import Protocol

from simnet.agenda import FIRST_CPU, MAX_CPUS, Agenda, act_by
from simnet.compiled import jit
from simnet.records import Array, Record, many

MAX_CORES = 2 * MAX_CPUS
"""Physical processors first, then the virtual ones that tasks carry."""
MAX_C_STATES = 4
PHYSICAL = -1

TIMER_VECTOR, TIMEOUT_VECTOR, RESCHEDULE_VECTOR, FIRST_DEVICE_VECTOR = 0, 1, 2, 3


class Cpu(Record):
    """`carrier` is the task that carries a virtual processor, PHYSICAL for a real one.

    `icr`: the processors that a virtual one has written to its interrupt command register and nobody has interrupted yet. `asleep`: a virtual one
    halts, so that what is posted to it interrupts the processor below.
    """

    number: int
    carrier: int
    irr: int
    icr: int
    asleep: int
    interrupts: int
    c_states: int
    exit_latency_ps: Array[int] = many(int, MAX_C_STATES)
    target_residency_ps: Array[int] = many(int, MAX_C_STATES)
    idle_since_ps: int
    last_idle_ps: int


class HasCpus(Protocol):
    """What the functions of this module may touch."""

    agenda: Agenda
    cpus: Array[Cpu]


@jit
def send_vector(m: HasCpus, cpu: int, vector: int, now: int) -> None:
    """A device or another core interrupts physical processor `cpu`."""
    m.cpus[cpu].irr |= 1 << vector
    act_by(m.agenda, FIRST_CPU + cpu, now)


@jit
def post_vector(m: HasCpus, virtual: int, below: int, vector: int, now: int) -> None:
    """A device interrupts a virtual processor through its posted-interrupt descriptor (Intel SDM 3C, 29.6; VT-d specification, 5.2.5).

    The processor below notices it without leaving the guest, if it is in it; if the virtual one halts, the wake-up vector interrupts it.
    """
    m.cpus[virtual].irr |= 1 << vector
    if m.cpus[virtual].asleep:
        m.cpus[below].irr |= 1 << vector
    act_by(m.agenda, FIRST_CPU + below, now)


@jit
def first_vector(cpu: Cpu) -> int:
    """The vector that the processor takes next; there must be one."""
    vector = 0
    while not (cpu.irr >> vector) & 1:
        vector += 1
    return vector


@jit
def fall_asleep(cpu: Cpu, now: int) -> None:
    """The idle loop enters a C-state."""
    cpu.idle_since_ps = now


@jit
def wake_latency(cpu: Cpu, now: int) -> int:
    """Exit latency of the C-state that an idle processor is in, in ps."""
    latency = 0
    for state in range(cpu.c_states):
        if cpu.target_residency_ps[state] <= cpu.last_idle_ps:
            latency = cpu.exit_latency_ps[state]
    cpu.last_idle_ps = now - cpu.idle_since_ps
    return latency
