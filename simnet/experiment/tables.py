"""The results of a sweep as tables: one row a cell, and one row a cell and replication."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

DROPPED = "dropped_"
COLUMNS = (
    *("cell", "replication", "replications", "stop_reason", "warmup_seconds", "measured_seconds", "simulated_seconds"),
    *("offered_kpps", "offered_kpps_ci95", "captured_kpps", "captured_kpps_ci95", "captured_mbps_wire", "captured_mbps_wire_ci95"),
    *("packets_offered", "packets_captured", "packets_in_flight", "latency_p50_us", "latency_p99_us", "latency_p999_us"),
)
"""Columns of both tables beside the factors and one of packets for each place of loss."""


def is_column(name: str) -> bool:
    """Would a factor of this name collide with a column?"""
    return name in COLUMNS or name.startswith(DROPPED)


def cell_row(stored: Mapping[str, Any]) -> Row:
    """The row of a cell, from its stored result."""
    row: Row = {"cell": stored["cell"], **stored["factors"]}
    for column, estimate in (
        ("offered_kpps", stored["offered"]["kpps"]),
        ("captured_kpps", stored["captured"]["kpps"]),
        ("captured_mbps_wire", stored["captured"]["mbps_wire"]),
    ):
        row |= {column: estimate["mean"], f"{column}_ci95": estimate["ci95"]}
    packets = stored["packets"]
    row |= {f"packets_{name}": packets[name] for name in ("offered", "captured", "in_flight")}
    row |= {f"{DROPPED}{drop['place']}": drop["packets"] for drop in packets["dropped"]}
    row |= {f"latency_{name}_us": value for name, value in stored["latency_us"].items()}
    names = ("stop_reason", "replications", "warmup_seconds", "measured_seconds", "simulated_seconds")
    return row | {name: stored[name] for name in names}


def replication_rows(stored: Mapping[str, Any]) -> list[Row]:
    """A row for each replication of a cell, from its stored result."""
    return [{"cell": stored["cell"], **stored["factors"], **replication} for replication in stored["by_replication"]]


def _column(values: Sequence[Any]) -> list[Any]:
    """Values that have one type: truth values, numbers, or else text."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present):
        return list(values)
    if any(isinstance(value, (bool, str)) for value in present):
        return [None if value is None else str(value) for value in values]
    if any(isinstance(value, float) for value in present):
        return [None if value is None else float(value) for value in values]
    return list(values)


def _names(rows: Iterable[Row], factors: Sequence[str]) -> list[str]:
    """Column names: the cell, all factors, then the rest with the places of loss side by side."""
    names = dict.fromkeys(name for row in rows for name in row if name not in ("cell", *factors))
    lost = [name for name in names if name.startswith(DROPPED)]
    rest = [name for name in names if not name.startswith(DROPPED)]
    at = rest.index("packets_in_flight") + 1 if lost else len(rest)
    return ["cell", *factors, *rest[:at], *lost, *rest[at:]]


def write_parquet(rows: Sequence[Row], factors: Sequence[str], file: Path) -> None:
    """Write rows as a Parquet file. A place of loss that is not on a cell's way lost nothing there; a factor that a cell does not set is null."""
    import pyarrow
    from pyarrow import parquet

    columns = {}
    for name in _names(rows, factors):
        values = _column([row.get(name, 0 if name.startswith(DROPPED) else None) for row in rows])
        is_empty = all(value is None for value in values)
        columns[name] = pyarrow.array(values, pyarrow.float64() if is_empty else None)
    parquet.write_table(pyarrow.table(columns), file)
