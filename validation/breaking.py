"""Does breaking a mechanism make a check fail? Each mutant is one changed line in a copy of the package.

    python -m validation.breaking

prints the first check that notices each mutant. The copies run under the interpreter (SIMNET_JIT=0), so that no compiled code of the unbroken mechanisms can be
mistaken for theirs. A check that fails without a mutant, or a mutant that no check notices, ends it with status 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("simnet", "validation", "scenarios")

ORACLE = """
import validation.receive_path as path
path.FRAMES = 5000
failed = [n for n in (54, 9, 11, 34) if path.differences(n)]
"""
THEORY = """
import validation.theory as theory
failed = [c for c in theory.check_toeplitz() if not c.passed]
"""
ENGINES = """
import validation.engines as engines
engines.FRAMES = 300
failed = [n for n in range(6) if engines.digest_of(n, "compiled") != engines.digest_of(n, "simpy")]
"""
CHECKS = {"theory": THEORY, "oracle": ORACLE, "engines": ENGINES}
"""Parts of `simnet validate theory` and `engines`, as short as an interpreter needs them, quickest first."""
_FRAME = "import sys, numpy\nnumpy.seterr(over='ignore')\n{}\nsys.exit(1 if failed else 0)"


@dataclass(frozen=True)
class Mutant:
    """One line of one file, and what stands there instead."""

    name: str
    file: str
    line: str
    instead: str


MUTANTS = (
    Mutant("weight 63 instead of 64", "simnet/hardware/models.py", "    weight=64,\n    returns_work_done=False", "    weight=63,\n    returns_work_done=False"),
    Mutant("budget 256 instead of 300", "simnet/kernel/rules.py", "budget: int = 300", "budget: int = 256"),
    Mutant("nine rounds instead of ten", "simnet/kernel/rules.py", "max_restart: int = 10", "max_restart: int = 9"),
    Mutant("ksoftirqd's wake-up is lost", "simnet/kernel/softirq.py", "return wake_up(m, core.ksoftirqd, c, now)", "return 0"),
    Mutant("a poll that is done leaves its vector masked", "simnet/kernel/driver.py", "        unmask(m, napi.queue, now)\n", ""),
    Mutant("descriptors go back in batches of 15", "simnet/kernel/driver.py", "queue.cleaned >= m.nic.refill_batch", "queue.cleaned >= m.nic.refill_batch - 1"),
    Mutant("one packet more fits the packet buffer", "simnet/hardware/packet_buffer.py", "<= port.buffer_bytes and", "<= port.buffer_bytes + 64 and"),
    Mutant("the Toeplitz key is off by a bit", "simnet/hardware/rss.py", "width - 32 - i", "width - 31 - i"),
    Mutant("an arrival at t is not visible at t", "simnet/hardware/nic.py", "link.arriving.arrival_ps <= now", "link.arriving.arrival_ps < now"),
    Mutant("a core runs past the next actor's time", "simnet/agenda.py", "agenda.quiet_until_ps = others", "agenda.quiet_until_ps = others + 1000000"),
)  # fmt: skip


def broken_copy(folder: Path, mutant: Mutant | None) -> Path:
    """Copy the packages into `folder` and break one mechanism there.

    Raises
    ------
    LookupError
        If the line is not there exactly once: the mutant is out of date.
    """
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    if mutant is not None:
        file = folder / mutant.file
        source = file.read_text(encoding="utf-8")
        if source.count(mutant.line) != 1:
            raise LookupError(f"{mutant.name}: {mutant.line!r} stands {source.count(mutant.line)} times in {mutant.file}")
        file.write_text(source.replace(mutant.line, mutant.instead), encoding="utf-8")
    return folder


def notices(folder: Path, check: str) -> bool:
    """Does a check fail on a copy? A crash counts: no result is no pass."""
    done = subprocess.run(
        [sys.executable, "-c", _FRAME.format(CHECKS[check])],
        cwd=folder,
        env={**os.environ, "SIMNET_JIT": "0", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode != 0


def who_notices(mutant: Mutant | None) -> str | None:
    """The first check that fails on a mutant, or on the unbroken copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = broken_copy(Path(folder), mutant)
        return next((check for check in CHECKS if notices(copy, check)), None)


def main() -> int:
    """Print who notices each mutant."""
    missed = 0
    for mutant in (None, *MUTANTS):
        found = who_notices(mutant)
        missed += (found is None) != (mutant is None)
        print(f"{mutant.name if mutant else 'nothing broken':<48}{found or 'nobody'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
