"""What each core does, piece by piece: slices of its time, from what it books.

Under the step-by-step clock every piece of a core's work is a transition of its own, so the time that a transition adds to `Core.paid_ps` is one
slice, of what the core was seen to do before it. The slices of a context therefore add up to what was booked, to the picosecond.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from simnet.kernel.core import CONTEXTS, EXIT, IN_EXITS, IN_GUEST, NOBODY, SWITCH, TASK, WAKING
from simnet.system.dispatch import HOG, IO_THREAD, KSOFTIRQD_THREAD, READER, VCPU, VHOST
from simnet.system.machine import Machine
from simnet.virt.vcpu import EXIT_REASONS, EXTERNAL

HALTED, STOLEN = "halted", "stolen"
"""Where a virtual core's time is that it does not book itself: asleep in HLT; taken by the host, by exits and by waiting for its core."""
TASK_NAMES = {
    KSOFTIRQD_THREAD: "ksoftirqd",
    READER: "reader",
    HOG: "hog",
    VCPU: "vCPU",
    IO_THREAD: "I/O thread",
    VHOST: "vhost worker",
}


class Slice(NamedTuple):
    """What a core did for a time, and under which heading that is booked: one of `CONTEXTS`, and HALTED and STOLEN for a virtual core."""

    begin_ps: int
    end_ps: int
    context: str
    name: str


class Activity:
    """The slices of all cores from `start_ps`, when the machine must be settled."""

    def __init__(self, m: Machine, start_ps: int) -> None:
        cores: Any = m.cores
        vcpus: Any = m.vcpus
        count = m.physical + m.virtual
        self.machine = m
        self.start_ps = start_ps
        self.slices: list[list[Slice]] = [[] for _ in range(count)]
        self._paid_ps, self._halted_ps = cores["paid_ps"][:count], vcpus["halted_ps"][:count]  # views: they follow the machine
        self._level, self._context, self._curr = (cores[name][:count] for name in ("level", "context", "curr"))
        self._reason = vcpus["reason"][:count]
        self._was_paid_ps, self._was_halted_ps = self._paid_ps.tolist(), self._halted_ps.tolist()
        self._tasks = [(int(m.tasks[i].kind), int(m.tasks[i].subject)) for i in range(m.task_count)]
        self._names: dict[tuple[int, ...], list[str]] = {}
        self._doing = self._names_now()

    def look(self, now_ps: int) -> None:
        """Something has happened: what was booked is a slice, what a core does now is what the next will be."""
        paid_ps, halted_ps = self._paid_ps.tolist(), self._halted_ps.tolist()
        if paid_ps != self._was_paid_ps:
            for c, (paid, was) in enumerate(zip(paid_ps, self._was_paid_ps, strict=True)):
                if paid != was:
                    for i, context in enumerate(CONTEXTS):
                        self._add(c, now_ps, paid[i] - was[i], context, self._doing[c])
            self._was_paid_ps = paid_ps
        if halted_ps != self._was_halted_ps:
            for c, (halted, was) in enumerate(zip(halted_ps, self._was_halted_ps, strict=True)):
                self._add(c, now_ps, halted - was, HALTED, HALTED)
            self._was_halted_ps = halted_ps
        self._doing = self._names_now()

    def of_core(self, c: int, end_ps: int) -> list[Slice]:
        """Slices of a core without gaps: what a virtual core neither booked nor slept was stolen."""
        slices, at = [], self.start_ps
        for piece in self.slices[c]:
            if piece.begin_ps > at:
                slices.append(Slice(at, piece.begin_ps, STOLEN, STOLEN))
            slices.append(piece)
            at = piece.end_ps
        if at < end_ps:
            slices.append(Slice(at, end_ps, STOLEN, STOLEN))
        return slices

    def _add(self, c: int, now_ps: int, amount_ps: int, context: str, name: str) -> None:
        if amount_ps == 0:
            return
        slices, begin_ps = self.slices[c], now_ps - amount_ps
        if slices:
            last = slices[-1]
            if begin_ps < last.end_ps:
                raise AssertionError(f"core {c} books the time from {begin_ps} ps twice")
            if begin_ps == last.end_ps and (context, name) == last[2:]:
                begin_ps = slices.pop().begin_ps
        slices.append(Slice(begin_ps, now_ps, context, name))

    def _names_now(self) -> list[str]:
        """What each core does now. Machines come to the same few states again and again, so names are kept by state."""
        state = (*self._level.tolist(), *self._context.tolist(), *self._curr.tolist(), *self._reason.tolist())
        names = self._names.get(state)
        if names is None:
            names = self._names[state] = [self._name(c) for c in range(len(self.slices))]
        return names

    def _name(self, c: int) -> str:
        level, context, curr = int(self._level[c]), int(self._context[c]), int(self._curr[c])
        kind, subject = (NOBODY, NOBODY) if curr == NOBODY else self._tasks[curr]
        if level == WAKING:
            return "leaving the C-state"
        if level == SWITCH:
            return "context switch"
        if context == IN_EXITS:
            return f"exit: {EXIT_REASONS[EXTERNAL if level == EXIT else int(self._reason[subject])]}"
        if level != TASK:
            return CONTEXTS[context]
        task = TASK_NAMES.get(kind, f"task of kind {kind}")
        if kind == VCPU:
            task = f"{task} {self.machine.cpus[subject].number}"
        return task if context == IN_GUEST else f"{task}: {CONTEXTS[context]}"
