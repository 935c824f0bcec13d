"""Records that come with simnet: real hosts, measured by this runner."""

from __future__ import annotations

from pathlib import Path

from calibration.record import ABOUT

REPORTED = (("epyc-vm", "epyc-vm-counters"), ("epyc-vm-tcg",))
"""What is fitted together where all of them are reported; the first gives the parameter set of its name."""
FOLDER = Path(__file__).parent / "records"


def shipped_records() -> dict[str, Path]:
    """Folders of the records by name."""
    return {file.parent.name: file.parent for file in sorted(FOLDER.glob(f"*/{ABOUT}"))}
