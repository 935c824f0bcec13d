"""EEVDF and load weights on one core of an eight-CPU host: expected times are arithmetic from kernel/sched/fair.c of Linux 6.6 and 6.12.

Eight CPUs multiply the base slice of 0.75 ms by 4: slices of 3 ms. Nothing costs time but what a test says.
"""

from __future__ import annotations

from typing import Any

import pytest
from test_kernel import MS, US, add_hogs, host, receive, row_at

from simnet.engine.simulation import Simulation
from simnet.kernel.rules import generation_for


def reader_beside_a_hog(read_ms: float, kernel: str = "6.6", **changes: Any) -> tuple[Simulation, Any, Any]:
    """A reader that takes `read_ms` for a frame, and a task that never sleeps; the reader finds nothing at 0 and sleeps, without lag."""
    made = host(host__kernel=kernel, capture__method="pf_packet", host__hz=1000, **changes)
    made.machine.sockets[0].read_ps = round(read_ms * MS)
    hog = add_hogs(made, 1)[0]
    return made, made.machine.tasks[made.machine.sockets[0].reader], hog


@pytest.mark.parametrize(("hz", "turn_ms"), [(1000, 3), (250, 4), (100, 10)])
def test_a_slice_ends_at_the_first_tick_after_it(hz: int, turn_ms: int) -> None:
    made = host(host__kernel="6.6", host__hz=hz)
    add_hogs(made, 2)
    for turn in range(1, 6):
        assert row_at(made, turn * turn_ms * MS).context_switches == turn
        assert row_at(made, turn * turn_ms * MS + 1).context_switches == turn + 1


def test_the_slice_is_shorter_since_6_15() -> None:
    # 4 x 0.70 ms: at HZ 1000 it still ends at the third tick. Deadlines are 2.8 ms after the start.
    made = host(host__kernel="6.15")
    hogs = add_hogs(made, 2)
    assert [int(hog.deadline_ps) for hog in hogs] == [2.8 * MS] * 2


@pytest.mark.parametrize("kernel", ["3.2", "6.6", "6.12"])
@pytest.mark.parametrize("weight", [512, 256, 2048])
def test_time_is_shared_by_weight(kernel: str, weight: int) -> None:
    made = host(host__kernel=kernel)
    light, other = add_hogs(made, 2)
    light.weight = weight
    row_at(made, 3000 * MS)
    share = int(light.ran_ps) / (int(light.ran_ps) + int(other.ran_ps))
    assert share == pytest.approx(weight / (weight + 1024), abs=0.01)


@pytest.mark.parametrize(
    ("woken_ms", "runs_ms"),
    [
        pytest.param(2.0, 3.0, id="in the slice in which the other one was picked: at its end"),
        pytest.param(4.5, 6.0, id="in a later slice: the other one has the earlier deadline"),
        pytest.param(5.5, 6.0, id="just before the other one's deadline"),
    ],
)
def test_a_sleeper_without_lag_waits_for_the_end_of_the_slice(woken_ms: float, runs_ms: float) -> None:
    made, _, _ = reader_beside_a_hog(0.1)
    receive(made, [round(woken_ms * MS) - US])
    assert row_at(made, round(runs_ms * MS) + 1).captured == 0
    assert row_at(made, round((runs_ms + 0.1) * MS) + 1).captured == 1


def test_one_that_is_owed_time_preempts() -> None:
    # Woken at 1 ms (placed at V = 1), it runs from the tick at 3 to 3.5 and sleeps at 1.5 while the other one is at 3: lag 0.75.
    # At 10 ms V is 9.5; joining moves V by half of the lag, so it is placed 2 x 0.75 behind and the other one is ahead of V.
    made, reader, _ = reader_beside_a_hog(0.5)
    receive(made, [MS - US, 10 * MS - US])
    row_at(made, 4 * MS)
    assert int(reader.lag_ps) == 0.75 * MS
    assert row_at(made, round(10.5 * MS) - 1).captured == 1
    assert row_at(made, round(10.5 * MS) + 1).captured == 2
    assert int(reader.vruntime_ps) == pytest.approx(8.5 * MS, abs=2 * US)


@pytest.mark.parametrize(("kernel", "placed_ms"), [("6.6", 8.0), ("6.12", 7.5)])
def test_a_debt_is_kept_or_slept_off(kernel: str, placed_ms: float) -> None:
    # It runs from 3 to 5.5 ms and sleeps at 3.5 while the other one is at 3: lag -0.25. At 10 ms the other one is at 7.5.
    # 6.6 places it at 7.5 + 2 x 0.25. Since 6.12 it stays queued until V has passed it, and is placed at V.
    made, reader, other = reader_beside_a_hog(2.5, kernel)
    receive(made, [MS - US, 10 * MS - US])
    row_at(made, 6 * MS)
    assert (int(reader.lag_ps), int(reader.delayed)) == ((round(-0.25 * MS), 0) if kernel == "6.6" else (0, 1))
    row_at(made, 10 * MS + 1)
    assert int(other.vruntime_ps) == pytest.approx(7.5 * MS, abs=2 * US)
    assert int(reader.vruntime_ps) == pytest.approx(placed_ms * MS, abs=4 * US)


def test_nobody_stays_behind_in_an_empty_queue() -> None:
    made = host(host__kernel="6.12", capture__method="pf_packet")
    made.machine.sockets[0].read_ps = MS
    receive(made, [MS, 3 * MS])
    row_at(made, 10 * MS)
    reader = made.machine.tasks[made.machine.sockets[0].reader]
    assert (int(reader.delayed), int(reader.lag_ps)) == (0, 0)


@pytest.mark.parametrize(
    ("release", "generation"),
    [
        ("2.6.32-5-amd64", None),
        ("2.6.38", "2.6.37"),
        ("3.2.0-4-amd64", "3.2"),
        ("4.8.17", "4.8"),
        ("4.19.0-26-amd64", "4.9"),
        ("6.1.0-25-amd64", "5.15"),
        ("6.6.0", "6.6"),
        ("6.12.48+deb13", "6.12"),
        ("6.18.44-fc", "6.15"),
        ("7.0", "6.15"),
    ],
)
def test_a_release_names_its_generation(release: str, generation: str | None) -> None:
    assert generation_for(release) == generation
