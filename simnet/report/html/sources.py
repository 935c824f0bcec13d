"""Which costs results were computed with, and where those come from."""

from __future__ import annotations

from collections.abc import Iterable

from simnet.report.stored import StoredQuantity, StoredResult


def sources(results: Iterable[StoredResult]) -> list[tuple[str, StoredQuantity]]:
    """All costs by name; one that differs between results is there once for each value."""
    found = {
        (name, quantity.model_dump_json()): (name, quantity)
        for result in results
        for name, quantity in result.provenance.parameters.items()
    }
    return sorted(found.values(), key=lambda row: row[0])
