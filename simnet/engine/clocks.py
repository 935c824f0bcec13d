"""Two clocks that fire the same transitions in the same order.

Both fire the smallest (due, actor). The compiled clock is one loop; it stays with an actor as long as nobody else could be due first, and
returns to SimPy when something outside the machine is due. The SimPy clock makes one SimPy event of every due time, with the actor's number as
priority, and skips events that a transition has overtaken: the executable specification, and what a tracer (`Observer`) or a debugger hooks into.

What happens outside the machine (feeding a replay, changing a setting) is an ordinary SimPy process. At one time the outside comes first.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
import simpy
from numpy.typing import NDArray
from simpy.events import EventPriority

from simnet.agenda import next_actor
from simnet.compiled import cold_jit, inline_jit, jit
from simnet.hardware.nic import admit
from simnet.records import in_array
from simnet.system.counters import Rows, fill_row, new_rows
from simnet.system.dispatch import account_both, fire
from simnet.system.machine import Machine
from simnet.virt.vcpu import account_halt

Times = NDArray[np.int64]

OUTSIDE_PRIORITIES = 2
"""SimPy's own priorities (urgent, normal) are those of the outside; actors follow."""


@inline_jit
def run_until(m: Machine, horizon_ps: int) -> None:
    """Fire all transitions due before `horizon_ps`."""
    agenda = m.agenda
    while True:
        actor = next_actor(agenda)
        now = agenda.due_ps[actor]
        if now >= horizon_ps:
            return
        agenda.quiet_until_ps = min(agenda.quiet_until_ps, horizon_ps)
        agenda.disturbed = 0
        while True:
            fire(m, actor, now)
            agenda.fired += 1
            now = agenda.due_ps[actor]
            if now >= agenda.quiet_until_ps or agenda.disturbed:
                break


@jit
def settle(m: Machine, now_ps: int) -> None:
    """Bring arrivals and accounts up to `now_ps`; changes nothing that would not happen anyway."""
    admit(m, now_ps)
    for c in range(m.physical):
        account_both(m, c, now_ps)
    for c in range(m.physical, m.physical + m.virtual):
        account_halt(m.vcpus[c], now_ps)


@cold_jit
def run_and_sample(m: Machine, times_ps: Times, rows: Any) -> None:
    """Fire everything due before each of the times, and fill a row of counters there."""
    for i in range(len(times_ps)):
        run_until(m, times_ps[i])
        settle(m, times_ps[i])
        fill_row(m, rows[i])


@cold_jit
def settle_and_sample(machines: Any, now_ps: int, rows: Any) -> None:
    """Settle a machine that was stepped from outside, and fill a row of counters."""
    settle(machines[0], now_ps)
    fill_row(machines[0], rows[0])


class Observer:
    """Looks at a machine that goes step by step, before and after everything that happens, inside the machine or outside. This one does not."""

    def before(self, now_ps: int) -> None:
        """Something happens at `now_ps`. May let in what has arrived until then, nothing else."""

    def after(self, now_ps: int) -> None:
        """It has happened."""


UNWATCHED = Observer()


class Clock(Protocol):
    """Advances one machine; processes of `environment` are the outside."""

    environment: simpy.Environment

    def sample(self, times_ps: Times, rows: Rows) -> None:
        """Fire everything due before each of the times, inside and outside the machine, and fill a row of counters there."""


class CompiledClock:
    """The compiled loop between any two events of the outside."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.environment = simpy.Environment()

    def sample(self, times_ps: Times, rows: Rows) -> None:
        passing = new_rows(1)
        done = 0
        while done < len(times_ps):
            outside = self.environment.peek()
            until = int(np.searchsorted(times_ps, outside, side="right"))
            run_and_sample(self.machine, times_ps[done:until], rows[done:until])
            done = until
            if done < len(times_ps):
                run_and_sample(self.machine, np.array([outside], dtype=np.int64), passing)
                self.environment.step()


class SimpyClock:
    """One SimPy event a due time. Takes over from another clock together with its `environment`; an `observer` sees every step."""

    def __init__(self, machine: Machine, environment: simpy.Environment | None = None, observer: Observer = UNWATCHED) -> None:
        self.machine = machine
        self._machines = in_array(machine)
        self.environment = environment or simpy.Environment()
        self._observer = observer
        self._due_ps: Any = machine.agenda.due_ps[: machine.agenda.actors]
        self._armed: list[int | None] = [None] * machine.agenda.actors

    def sample(self, times_ps: Times, rows: Rows) -> None:
        for i, time_ps in enumerate(times_ps.tolist()):
            self._advance(time_ps)
            self._observer.before(time_ps)
            settle_and_sample(self._machines, time_ps, rows[i : i + 1])
            self._observer.after(time_ps)

    def _advance(self, until_ps: int) -> None:
        self.machine.agenda.quiet_until_ps = 0
        while True:
            self._arm(until_ps)
            due = self.environment.peek()
            if due >= until_ps:
                break
            self._observer.before(int(due))
            self.environment.step()
            self._observer.after(int(due))

    def _arm(self, until_ps: int) -> None:
        """An event for every actor whose due time is new."""
        for actor, due in enumerate(self._due_ps.tolist()):
            if due != self._armed[actor] and due < until_ps:
                self._armed[actor] = due
                event = simpy.Event(self.environment)
                event._ok, event._value = True, (actor, due)
                event.callbacks = [self._happen]
                priority = cast(EventPriority, OUTSIDE_PRIORITIES + actor)
                self.environment.schedule(event, priority=priority, delay=due - self.environment.now)

    def _happen(self, event: simpy.Event) -> None:
        actor, due = cast("tuple[int, int]", event._value)
        if self._due_ps[actor] == due and self._armed[actor] == due:
            self._armed[actor] = None
            step(self._machines, actor, due)


@cold_jit
def step(machines: Any, actor: int, now: int) -> None:
    """Fire one transition."""
    m = machines[0]
    fire(m, actor, now)
    m.agenda.fired += 1


CLOCKS: dict[str, type[CompiledClock] | type[SimpyClock]] = {"compiled": CompiledClock, "simpy": SimpyClock}
