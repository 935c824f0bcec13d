"""What `--out DIR` leaves behind. Each file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

from simnet.files import write_json, write_whole
from simnet.results.comparison import Comparison
from simnet.results.result import Result


def write_result(result: Result, directory: Path) -> None:
    """Write a result's files: result.json, samples.parquet and the plots.

    Raises
    ------
    UserError
        If one cannot be written; those already written stay.
    """
    from simnet.report.plots import PLOTS, write_plot
    from simnet.results.frames import samples_frame

    write_json(directory / "result.json", result.as_json())
    samples = samples_frame(result)
    write_whole(directory / "samples.parquet", lambda file: samples.to_parquet(file, index=False))
    for name, draw in PLOTS.items():
        write_whole(directory / f"{name}.png", lambda file, draw=draw: write_plot(result, draw, file))  # type: ignore[misc]


def write_comparison(comparison: Comparison, directory: Path) -> None:
    """Write comparison.json and comparison.png.

    Raises
    ------
    UserError
        If one cannot be written; what was already written stays.
    """
    from simnet.report.comparison_plot import write_comparison_plot

    write_json(directory / "comparison.json", comparison.as_json())
    write_whole(directory / "comparison.png", lambda file: write_comparison_plot(comparison, file))
