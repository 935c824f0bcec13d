"""What would change the captured rate: the scenario again with one thing changed, the same seeds, all in one pool of threads.

Every replication keeps its random streams (common random numbers), so that a change is compared with the same traffic. A quantity is first tried in
one replication; only if that moves are the others run, which spares most of the work: off the bottleneck nothing moves. Simulated times follow
from the scenario, never from the clock on the wall.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

from simnet.engine.simulation import Simulation
from simnet.engine.streams import seed_source
from simnet.errors import UserError
from simnet.experiment.knobs import questions
from simnet.experiment.plan import PILOT_FRAMES
from simnet.experiment.replicate import Progress
from simnet.params.schema import REASON, ParameterSet
from simnet.results.explanation import Elasticity, Sensitivity, WhatIf
from simnet.results.result import Result
from simnet.results.stages import ledger_of
from simnet.results.statistics import Estimate, t_interval
from simnet.scenario.loading import changed
from simnet.scenario.schema import Scenario
from simnet.system.choices import resolve
from simnet.system.machine import Machine
from simnet.system.wiring import build
from simnet.traffic.packets import PacketFile
from simnet.units import PS_PER_S

STEP = 0.1
"""Quantities are changed by this share, up and down."""
LEAST_S, MOST_S = 0.1, 0.5
"""Simulated seconds of a replication that are measured, if the run itself measured more and enough packets come: between these, to know the rate to NOISE."""
NOISE = 1e-3
TOUCHED = 1e-3
"""Share of some core's busy time that a quantity must stand for to be tried."""
MOVED = 2e-3
"""Elasticity in the first replication from which on the others are run."""
ADVICE, FINALISTS = 3, 3
"""Changes that are advised; knobs that are tried in all replications on top of the ones before."""

Key = tuple[str, int]
"""A variant and the number of a replication."""


@dataclass(frozen=True)
class Window:
    """What all variants are run for: the seed, the capture file, and the measured part of each replication in ps."""

    seed: int
    packets: PacketFile | None
    start_ps: int
    end_ps: int
    numbers: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_ps - self.start_ps) / PS_PER_S


def window_of(result: Result, seed: int, packets: PacketFile | None) -> Window:
    """The result's own window, its end cut off if it is long: what makes the interval of the captured rate NOISE is enough, because variants share it."""
    start = round(result.warmup_seconds * PS_PER_S)
    tight = result.measured_seconds * (result.captured.kpps.relative / NOISE) ** 2
    enough = PILOT_FRAMES / max(result.offered.kpps.mean * 1000, 1e-9)
    replay = result.stop_reason == "replay_end"
    seconds = result.measured_seconds if replay else min(result.measured_seconds, max(LEAST_S, min(MOST_S, tight), enough))
    return Window(seed, packets, start, start + round(seconds * PS_PER_S), tuple(r.number for r in result.replications))


class Pool:
    """Runs variants in threads; compiled code holds no GIL."""

    def __init__(self, window: Window, progress: Progress) -> None:
        self.window = window
        self.progress = progress
        self.stopping = Event()
        self.done: dict[Key, int] = {}

    def _captured(self, scenario: Scenario, number: int) -> int:
        """Packets that one replication of a variant captures in the window."""
        w = self.window
        simulation = Simulation(scenario, resolve(scenario), w.seed, number, "compiled", w.packets, self.stopping)
        simulation.run([t for t in (w.start_ps, w.end_ps) if t > 0])
        start = simulation.rows[simulation.times_ps.index(w.start_ps)] if w.start_ps else simulation.rows[0]
        return int(simulation.rows[-1].captured) - int(start.captured)

    def run(self, variants: Mapping[str, Scenario], numbers: Collection[int], doing: str) -> None:
        """Make sure that these replications of these variants are done."""
        jobs = [(name, k) for name in variants for k in numbers if (name, k) not in self.done]
        pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        try:
            futures = {pool.submit(self._captured, variants[name], k): (name, k) for name, k in jobs}
            for count, future in enumerate(as_completed(futures)):
                self.done[futures[future]] = future.result()
                self.progress(doing, count / len(jobs))
        except BaseException:
            self.stopping.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def logs(self, above: str, below: str, numbers: Sequence[int]) -> list[float]:
        """ln(captured in one variant / captured in another), replication by replication; a half where nothing was captured."""
        return [math.log(max(self.done[above, k], 0.5) / max(self.done[below, k], 0.5)) for k in numbers]


BASE = ""


def _relative(logs: Sequence[float]) -> Estimate:
    """A relative change from logarithms of ratios, with the interval of the logarithms."""
    estimate = t_interval(logs)
    grown = math.exp(estimate.mean)
    return Estimate(grown - 1.0, None if estimate.ci95 is None else grown * math.expm1(min(estimate.ci95, 50.0)))


def _steps(value: float, unit: str) -> tuple[float, float]:
    """The values that are tried, inside reason."""
    least, most = REASON[unit]
    return max(value * (1 - STEP), least), min(value * (1 + STEP), most)


def _facts(m: Machine) -> bytes:
    """What a quantity can change in a machine besides the unit costs of stages: sizes, flow table, sleep states."""
    socket, table = m.sockets[0], m.table
    numbers = [socket.limit_bytes, socket.header_bytes, socket.truesize_bytes, socket.queue.slots]
    numbers += [table.hash_ps, table.compare_ps, table.update_ps, table.insert_ps, table.new_ps, table.known_ps, table.pair_ps]
    cpu = m.cpus[0]
    states = [int(times[s]) for times in (cpu.exit_latency_ps, cpu.target_residency_ps) for s in range(cpu.c_states)]
    return repr([*map(int, numbers), float(table.overlap), *states]).encode()


def touched(scenario: Scenario, params: ParameterSet, result: Result, window: Window) -> list[str]:
    """Quantities that stand for a share of some core's busy time, or change something else than a unit cost."""
    first = result.replications[0]

    def machine(params: ParameterSet) -> Machine:
        return build(scenario, params, seed_source(window.seed, first.number), window.packets)

    def times(m: Machine) -> dict[int, float]:
        ledger = ledger_of(m, first.counts, 1.0)
        return {cpu: sum(s.ps for s in ledger.stages if s.cpu == cpu) for cpu in ledger.busy_ps}

    base = machine(params)
    before, facts = times(base), _facts(base)
    names = []
    for quantity in params:
        value = _steps(quantity.value, quantity.unit)[1]
        if value == quantity.value:
            value = _steps(quantity.value, quantity.unit)[0]
        if quantity.value == 0 or value == 0:
            continue
        m = machine(params.with_value(quantity.name, value))
        after, step = times(m), abs(value / quantity.value - 1)
        moves = any(abs(after[cpu] - before[cpu]) > TOUCHED * step * before[cpu] for cpu in before)
        if moves or _facts(m) != facts:
            names.append(quantity.name)
    return names


def _elasticities(scenario: Scenario, params: ParameterSet, names: Sequence[str], pool: Pool) -> list[Elasticity]:
    """Every quantity up and down, first in one replication, then in all if that moved."""
    numbers = pool.window.numbers
    values = {name: _steps(params[name], params.quantity(name).unit) for name in names}
    variants = {
        f"{name}={value!r}": changed(scenario, {"costs": {**scenario.costs, name: value}})
        for name in names
        for value in values[name]
    }

    def keys(name: str) -> tuple[str, str]:
        low, high = values[name]
        return f"{name}={high!r}", f"{name}={low!r}"

    def logs(name: str, numbers: Sequence[int]) -> list[float]:
        low, high = values[name]
        return [x / math.log(high / low) for x in pool.logs(*keys(name), numbers)]

    pool.run(variants, numbers[:1], "trying quantities")
    moved = [name for name in names if abs(logs(name, numbers[:1])[0]) >= MOVED]
    pool.run({key: variants[key] for name in moved for key in keys(name)}, numbers, "elasticities")
    rows = []
    for name in names:
        tested = numbers if name in moved else numbers[:1]
        estimate = t_interval(logs(name, tested))
        better = values[name][int(estimate.mean > 0)]
        gain = _relative(pool.logs(f"{name}={better!r}", BASE, tested))
        rows.append(Elasticity(name, params.quantity(name).unit, params[name], estimate, better, gain, len(tested)))
    return sorted(rows, key=lambda row: -abs(row.estimate.mean))


def _possible(wanted: Mapping[str, tuple[Scenario, Mapping[str, Any]]], window: Window) -> dict[str, Scenario]:
    """Scenarios with settings changed, by key, without those that cannot be."""
    variants = {}
    for key, (scenario, settings) in wanted.items():
        with suppress(UserError):
            variant = changed(scenario, settings)
            build(variant, resolve(variant), len, window.packets)
            variants[key] = variant
    return variants


def _what_ifs(scenario: Scenario, params: ParameterSet, pool: Pool) -> list[WhatIf]:
    """Every knob, in all replications."""
    wanted = dict(questions(scenario, params))
    variants = _possible({title: (scenario, settings) for title, settings in wanted.items()}, pool.window)
    pool.run(variants, pool.window.numbers, "what if")
    found = [WhatIf(title, wanted[title], _relative(pool.logs(title, BASE, pool.window.numbers))) for title in variants]
    return sorted(found, key=lambda what_if: -what_if.gain.mean)


def _costs(elasticities: Sequence[Elasticity]) -> list[WhatIf]:
    """Costs that would have to fall (or a clock to rise), those that help most first. Sleep states are no cost, but a knob."""
    costs = [
        WhatIf(f"{e.quantity} {e.changed_to / e.value - 1:+.0%}", {f"costs.{e.quantity}": round(e.changed_to, 6)}, e.gain, "cost")
        for e in elasticities
        if e.unit != "us"
    ]
    return sorted((cost for cost in costs if cost.helps()), key=lambda cost: -cost.gain.mean)


def _next(pool: Pool, scenario: Scenario, params: ParameterSet, chosen: Mapping[str, Any], before: str) -> WhatIf | None:
    """The knob that helps most on top of the chosen settings, or None. All are tried in one replication, the best in all."""
    now = changed(scenario, chosen)
    prefix = repr(dict(chosen))
    tried = {prefix + title: (title, wanted) for title, wanted in questions(now, params) if not set(wanted) & set(chosen)}
    variants = _possible({key: (now, wanted) for key, (_, wanted) in tried.items()}, pool.window)
    numbers = pool.window.numbers
    pool.run(variants, numbers[:1], "on top")
    best = sorted(variants, key=lambda key: -pool.done[key, numbers[0]])[:FINALISTS]
    pool.run({key: variants[key] for key in best}, numbers, "on top")
    found = [WhatIf(tried[key][0], tried[key][1], _relative(pool.logs(key, before, numbers))) for key in best]
    helping = [what_if for what_if in found if what_if.helps()]
    return max(helping, key=lambda what_if: what_if.gain.mean) if helping else None


def _advice(
    scenario: Scenario, params: ParameterSet, what_ifs: Sequence[WhatIf], elasticities: Sequence[Elasticity], pool: Pool
) -> tuple[list[WhatIf], WhatIf | None]:
    """The three changes that help most: the best knob, the best on top of it, and so on; then costs. And all knobs together."""
    numbers = pool.window.numbers
    advice = [what_if for what_if in what_ifs[:1] if what_if.helps()]
    settings = dict(advice[0].settings) if advice else {}
    before = advice[0].title if advice else BASE
    while advice and len(advice) < ADVICE:
        following = _next(pool, scenario, params, settings, before)
        if following is None:
            break
        before = repr(settings) + following.title
        advice.append(following)
        settings |= following.settings
    together = None
    if len(advice) > 1:
        title = "; ".join(what_if.title for what_if in advice)
        together = WhatIf(title, settings, _relative(pool.logs(before, BASE, numbers)))
    return [*advice, *_costs(elasticities)[: ADVICE - len(advice)]], together


def sensitivity(
    scenario: Scenario,
    params: ParameterSet,
    result: Result,
    window: Window,
    progress: Callable[[str, float], None],
) -> Sensitivity | None:
    """Run the scenario again with one thing changed at a time. None if nothing is captured.

    Parameters
    ----------
    scenario, params, result
        What is explained.
    window
        What to run the variants for (see `window_of`).
    progress
        Called with what is being done and the share that is done.
    """
    pool = Pool(window, progress)
    pool.run({BASE: scenario}, window.numbers, "once more")
    if not any(pool.done[BASE, k] for k in window.numbers):
        return None
    names = touched(scenario, params, result, window)
    elasticities = _elasticities(scenario, params, names, pool)
    what_ifs = _what_ifs(scenario, params, pool)
    untouched = [quantity.name for quantity in params if quantity.name not in names]
    advice, together = _advice(scenario, params, what_ifs, elasticities, pool)
    return Sensitivity(window.seconds, elasticities, what_ifs, untouched, advice, together)
