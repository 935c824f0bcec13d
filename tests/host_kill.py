"""Kill a process that tunes a host at its n-th function call, kill one that restores, restore, and compare: run by `test_host_faults.py`, in a process of its own.

    python tests/host_kill.py fixture DIR     a host made of text
    python tests/host_kill.py namespace DIR   the veth pair of the network namespace that this runs in; global settings are left alone

Prints one JSON object a kill: at which call of how many, whether a journal was there, and what differs after the restore.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from calibration.host import tuning
from calibration.host.access import Host
from calibration.host.check import choose
from calibration.host.journal import FILE
from calibration.host.operation import Wish
from calibration.host.operations import operations

KILLS = 20
INTERFACE_ONLY = "offloads,napi,rps,rfs,xps"
"""What belongs to a veth and its namespace."""


def in_child(work: Callable[[], None]) -> int:
    """Do something in a child; how it ended, as waitpid says."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def from_apply_on(count: Callable[[FrameType, str, Any], None]) -> None:
    """Have calls of functions, Python's and C's, counted from the moment at which settings begin to be written down."""
    apply = tuning.apply

    def counted(*arguments: Any) -> Any:
        sys.setprofile(count)
        return apply(*arguments)

    tuning.apply = counted


def killed_at(call: int) -> Callable[[FrameType, str, Any], None]:
    """What kills this process at that call."""
    left = call

    def count(frame: FrameType, event: str, argument: Any) -> None:  # noqa: ARG001
        nonlocal left
        if event in ("call", "c_call"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return count


def calls_of(work: Callable[[], None]) -> int:
    """How many calls it takes, counted in a child."""
    reader, writer = os.pipe()

    def counted() -> None:
        calls = 0

        def count(frame: FrameType, event: str, argument: Any) -> None:  # noqa: ARG001
            nonlocal calls
            calls += event in ("call", "c_call")

        from_apply_on(count)
        work()
        sys.setprofile(None)
        os.write(writer, str(calls).encode())

    in_child(counted)
    return int(os.read(reader, 32))


def main(kind: str, directory: Path) -> None:
    """Twenty kills, the same ones at each run."""
    state = directory / "state"
    if kind == "fixture":
        sys.path.insert(0, str(Path(__file__).parent))
        from hosts import FixtureHost, build, everything

        build(directory / "root", "ice")
        interface, wish, only = "eth2", Wish(cpus=(2, 3)), None

        def host() -> Host:
            return FixtureHost(directory / "root", "ice")

        def snapshot() -> Any:
            return everything(directory / "root")
    else:
        import pyroute2.ethtool.ioctl  # noqa: F401 (once, for all children)

        interface, wish, only, host = "veth0", Wish(), INTERFACE_ONLY, Host

        def snapshot() -> Any:
            found: dict[str, Any] = {}
            for operation in choose(operations(interface, wish), only):
                found[operation.name] = operation.read(Host())
            return found

    def session() -> None:
        here = host()
        with tuning.tuned(here, choose(operations(interface, wish), only), state) as outcomes:
            assert sum(outcome.changed and not outcome.problem for outcome in outcomes) > 3, outcomes

    results: list[Any] = []

    def look(results_path: Path) -> Any:
        in_child(lambda: results_path.write_text(json.dumps(snapshot())) and None)
        return json.loads(results_path.read_text())

    before = look(directory / "before.json")
    most = calls_of(session)
    assert look(directory / "after.json") == before, "a session that was not killed does not put everything back"
    draw = random.Random(20121)
    moments = draw.sample(range(1, most), KILLS)
    for call in moments:

        def killed_session(call: int = call) -> None:
            from_apply_on(killed_at(call))
            session()

        def killed_restore(call: int = draw.randrange(1, most // 2)) -> None:
            sys.setprofile(killed_at(call))
            tuning.put_back(host(), state)

        status = in_child(killed_session)
        journal = (state / FILE).exists()
        meanwhile = look(directory / "meanwhile.json")
        in_child(killed_restore)
        restored = in_child(lambda: tuning.put_back(host(), state) and None)
        after = look(directory / "after.json")
        results.append(
            {
                "call": call,
                "of": most,
                "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
                "journal": journal,
                "changed": [key for key in before if meanwhile.get(key) != before[key]],
                "restored": restored == 0 and not (state / FILE).exists(),
                "differs": [key for key in before if after.get(key) != before[key]],
            }
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
