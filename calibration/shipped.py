"""Records that come with simnet: real hosts, measured by this runner."""

from __future__ import annotations

from pathlib import Path

from calibration.record import ABOUT

FOLDER = Path(__file__).parent / "records"


def shipped_records() -> dict[str, Path]:
    """Folders of the records by name."""
    return {file.parent.name: file.parent for file in sorted(FOLDER.glob(f"*/{ABOUT}"))}
