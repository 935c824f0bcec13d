"""Who acts when: due times that mechanisms write and a clock fires.

Mechanisms never schedule. They write when an actor is due; a clock (`engine`) fires the smallest (due, actor). The one tie rule of the model:
arrivals at t are visible at t; then the lower actor first. Devices have the lower numbers, so that an interrupt raised at t meets the work
that ends at t.
"""

from __future__ import annotations

from simnet.compiled import jit
from simnet.records import Array, Record, int64, many

NEVER = 1 << 62

NIC, TICKS, TIMEOUTS, ROTATION, GUEST_TIMERS, FIRST_CPU = 0, 1, 2, 3, 4, 5
MAX_CPUS = 16
MAX_ACTORS = FIRST_CPU + MAX_CPUS


class Agenda(Record):
    """Due times in ps. `disturbed` says that a transition made another actor due earlier.

    Before `quiet_until_ps` no actor but the present one is due: work that ends earlier may be done in one go. A clock that wants
    every step to be an event of its own leaves it at 0."""

    actors: int
    disturbed: int
    quiet_until_ps: int
    fired: int
    due_ps: Array[int] = many(int, MAX_ACTORS)


@jit
def act_by(agenda: Agenda, actor: int, at_ps: int) -> None:
    """The actor looks at its work at `at_ps` or before."""
    if at_ps < agenda.due_ps[actor]:
        agenda.due_ps[actor] = at_ps
        agenda.disturbed = 1


@jit
def next_actor(agenda: Agenda) -> int:
    """The actor with the smallest (due, number). Sets `quiet_until_ps` to when the first of all others is due."""
    best = int64(0)
    others = NEVER
    for actor in range(1, agenda.actors):
        if agenda.due_ps[actor] < agenda.due_ps[best]:
            others = agenda.due_ps[best]
            best = int64(actor)
        elif agenda.due_ps[actor] < others:
            others = agenda.due_ps[actor]
    agenda.quiet_until_ps = others
    return best
