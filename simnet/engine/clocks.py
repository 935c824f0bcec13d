"""Two clocks that fire the same transitions in the same order.

Both fire the smallest (due, actor). The compiled clock is one loop; it stays with an actor as long as nobody else could be due first, and
returns to SimPy when something outside the machine is due. The SimPy clock makes one SimPy event of every due time, with the actor's number as
priority, and skips events that a transition has overtaken: the executable specification, and what a tracer or a debugger hooks into.

What happens outside the machine (feeding a replay, changing a setting) is an ordinary SimPy process. At one time the outside comes first.
"""

from __future__ import annotations

from typing import Protocol, cast

import simpy
from simpy.events import EventPriority

from simnet.agenda import next_actor
from simnet.compiled import cold_jit
from simnet.hardware.nic import admit
from simnet.system.dispatch import account_both, fire
from simnet.system.machine import Machine

OUTSIDE_PRIORITIES = 2
"""SimPy's own priorities (urgent, normal) are those of the outside; actors follow."""


@cold_jit
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


@cold_jit
def settle(m: Machine, now_ps: int) -> None:
    """Bring arrivals and accounts up to `now_ps`; changes nothing that would not happen anyway."""
    admit(m, now_ps)
    for c in range(m.physical):
        account_both(m, c, now_ps)


class Clock(Protocol):
    """Advances one machine; processes of `environment` are the outside."""

    environment: simpy.Environment

    def advance(self, until_ps: int) -> None:
        """Fire everything due before `until_ps`, inside and outside the machine, and settle it there."""


class CompiledClock:
    """The compiled loop between any two events of the outside."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.environment = simpy.Environment()

    def advance(self, until_ps: int) -> None:
        while self.environment.peek() < until_ps:
            run_until(self.machine, int(self.environment.peek()))
            self.environment.step()
        run_until(self.machine, until_ps)
        settle(self.machine, until_ps)


class SimpyClock:
    """One SimPy event a due time."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.environment = simpy.Environment()
        self._armed: list[int | None] = [None] * machine.agenda.actors

    def advance(self, until_ps: int) -> None:
        self.machine.agenda.quiet_until_ps = 0
        while True:
            self._arm(until_ps)
            if self.environment.peek() >= until_ps:
                break
            self.environment.step()
        settle(self.machine, until_ps)

    def _arm(self, until_ps: int) -> None:
        """An event for every actor whose due time is new."""
        agenda = self.machine.agenda
        for actor in range(agenda.actors):
            due = int(agenda.due_ps[actor])
            if due != self._armed[actor] and due < until_ps:
                self._armed[actor] = due
                event = simpy.Event(self.environment)
                event._ok, event._value = True, (actor, due)
                event.callbacks = [self._happen]
                priority = cast(EventPriority, OUTSIDE_PRIORITIES + actor)
                self.environment.schedule(event, priority=priority, delay=due - self.environment.now)

    def _happen(self, event: simpy.Event) -> None:
        actor, due = cast("tuple[int, int]", event._value)
        agenda = self.machine.agenda
        if agenda.due_ps[actor] == due and self._armed[actor] == due:
            self._armed[actor] = None
            fire(self.machine, actor, due)
            agenda.fired += 1


CLOCKS: dict[str, type[CompiledClock] | type[SimpyClock]] = {"compiled": CompiledClock, "simpy": SimpyClock}

