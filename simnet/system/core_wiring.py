"""Wiring cores: the rules of their kernel, their ticks, their ksoftirqd."""

from __future__ import annotations

from simnet.agenda import FIRST_CPU, NEVER, TICKS
from simnet.hardware.cpu import PHYSICAL
from simnet.kernel.core import IN_KSOFTIRQD, NOBODY, SLEEPING
from simnet.kernel.rules import Generation, Rules
from simnet.system.costing import Costing
from simnet.system.dispatch import KSOFTIRQD_THREAD
from simnet.system.machine import Machine
from simnet.system.tasks import add_task
from simnet.system.topology import Topology
from simnet.units import PS_PER_MS, PS_PER_S


def fill_rules(rules: Rules, generation: Generation, hz: int, factor: int) -> None:
    rules.max_restart = generation.max_restart
    rules.softirq_limit_ps = round(generation.softirq_limit_ms * PS_PER_MS)
    rules.net_rx_ticks = generation.net_rx_ticks
    rules.defers_to_ksoftirqd = int(generation.defers_to_ksoftirqd)
    rules.queues_wakeups = int(generation.queues_wakeups)
    rules.budget = generation.budget
    rules.tick_ps = PS_PER_S // hz
    rules.sched_latency_ps = round(generation.sched_latency_ms * factor * PS_PER_MS)
    rules.min_granularity_ps = round(generation.min_granularity_ms * factor * PS_PER_MS)
    rules.wakeup_granularity_ps = round(generation.wakeup_granularity_ms * factor * PS_PER_MS)
    rules.base_slice_ps = round(generation.base_slice_ms * factor * PS_PER_MS)
    rules.delays_dequeue = int(generation.delays_dequeue)


def wire_core(m: Machine, c: int, number: int) -> None:
    """What physical and virtual cores have in common."""
    core, tick_ps = m.cores[c], m.rules[m.cores[c].kernel].tick_ps
    m.cpus[c].number = number
    core.at = c
    core.curr = NOBODY
    core.next_tick_ps = m.boot_ps + tick_ps
    core.ksoftirqd = add_task(m, KSOFTIRQD_THREAD, c, c, IN_KSOFTIRQD, SLEEPING)


def wire_cores(m: Machine, topology: Topology, costing: Costing, c_states: bool, boot_ps: int) -> None:
    m.physical = len(topology.used)
    m.agenda.actors = FIRST_CPU + m.physical
    m.boot_ps = boot_ps
    m.agenda.due_ps[:] = NEVER
    for c, number in enumerate(topology.used):
        cpu = m.cpus[c]
        cpu.carrier = PHYSICAL
        for state, (latency, residency) in enumerate(costing.c_states() if c_states else []):
            cpu.exit_latency_ps[state], cpu.target_residency_ps[state] = latency, residency
            cpu.c_states = state + 1
        wire_core(m, c, number)
        m.agenda.due_ps[TICKS] = min(m.agenda.due_ps[TICKS], m.cores[c].next_tick_ps)
