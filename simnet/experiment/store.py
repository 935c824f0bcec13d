"""The folder of a sweep: what was asked, and a file for each finished cell. Whatever happens, each file is whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from simnet.compiled import source_hash
from simnet.errors import UserError
from simnet.experiment.cells import Cell, fingerprint
from simnet.experiment.design import Design
from simnet.experiment.executors import Outcome
from simnet.files import prepare, write_json

SCHEMA = "simnet-sweep/1"
MANIFEST, TIMINGS = "design.json", "timings.jsonl"


def manifest_of(design: Design, cells: Sequence[Cell], seed: int) -> dict[str, Any]:
    """All that decides about the bytes of the results."""
    return {
        "schema": SCHEMA,
        "design": design.name,
        "title": design.title,
        "seed": seed,
        "version": metadata.version("simnet-rx"),
        "mechanisms": source_hash(),
        "factors": {name: [level.label for level in levels] for name, levels in design.factors.items()},
        "cells": [{"cell": cell.key, "factors": dict(cell.factors), "fingerprint": cell.fingerprint} for cell in cells],
    }


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """What keeps the results of one manifest from being mixed with those of another."""
    if not found.keys() >= wanted.keys() or found["schema"] != SCHEMA:
        return f"holds results of another form ({found.get('schema')!r}, not {SCHEMA!r})"
    if found["design"] != wanted["design"]:
        return f"holds the results of another design, {found['design']!r}, not {wanted['design']!r}"
    if found["cells"] != wanted["cells"]:
        return f"holds the results of design {found['design']!r} with other cells or settings"
    if found["seed"] != wanted["seed"]:
        return f"holds results of seed {found['seed']}, not {wanted['seed']}"
    for name in ("version", "mechanisms"):
        if found[name] != wanted[name]:
            return f"holds results of another simnet ({name} {found[name]}, not {wanted[name]})"
    return None


class Store:
    """The folder of a sweep, held by one process at a time."""

    def __init__(self, directory: Path, manifest: dict[str, Any], resume: bool) -> None:
        prepare(directory)
        self.directory = directory
        self.cells = {cell["cell"]: cell for cell in manifest["cells"]}
        self.version = manifest["version"]
        self._lock()
        try:
            if not self._holds(manifest, resume):
                for name in ("cells", "failed"):
                    (directory / name).mkdir(exist_ok=True)
                write_json(directory / MANIFEST, manifest)
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        """Keep other processes out until this one ends, in whatever way. Where the file system knows no locks there is none."""
        self._descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise UserError(f"--out {self.directory}: another sweep is writing there") from None
        except OSError:
            pass

    def close(self) -> None:
        """Let others in."""
        os.close(self._descriptor)

    def _holds(self, manifest: dict[str, Any], resume: bool) -> bool:
        """Are there results that may be added to? False for an empty folder.

        Raises
        ------
        UserError
            If there is something else, or `resume` was not asked for.
        """
        try:
            found = dict(json.loads((self.directory / MANIFEST).read_text(encoding="utf-8")))
        except FileNotFoundError:
            others = [name for name in os.listdir(self.directory) if not name.startswith(".") and name not in ("cells", "failed")]
            if others:
                raise UserError(
                    f"--out {self.directory}: not empty, and not the folder of a sweep (it holds {min(others)})"
                ) from None
            return False
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"--out {self.directory}: {MANIFEST} cannot be read: {error}") from None
        different = _difference(found, json.loads(json.dumps(manifest)))
        if different:
            raise UserError(f"--out {self.directory}: {different}; choose another folder")
        if not resume:
            raise UserError(f"--out {self.directory}: holds results of this design; --resume goes on with them")
        return True

    def _path(self, key: str) -> Path:
        return self.directory / "cells" / f"{key}.json"

    def finished(self) -> set[str]:
        """Keys of the cells whose results are there."""
        return {name.removesuffix(".json") for name in os.listdir(self.directory / "cells") if not name.startswith(".")}

    def keep(self, outcome: Outcome) -> str:
        """Write down what became of a cell. Returns what went wrong, if anything.

        What differs between runs and machines goes into a file of its own, so that a cell's bytes do not.
        """
        key, error = outcome.key, outcome.error
        name = {"cell": key, "factors": self.cells[key]["factors"]}
        failed = self.directory / "failed" / f"{key}.json"
        if outcome.result is not None:
            result = dict(outcome.result)
            provenance = dict(result["provenance"])
            timing = {"cell": key, "wall_seconds": result.pop("wall_seconds"), "host": provenance.pop("host")}
            costs = {name: quantity["value"] for name, quantity in provenance["parameters"].items()}
            known = (self.version, self.cells[key]["fingerprint"])
            if (provenance["version"], fingerprint(provenance["scenario"], costs)) == known:
                write_json(self._path(key), name | result | {"provenance": provenance})
                failed.unlink(missing_ok=True)
                self._note(timing)
                return ""
            error = "computed by a simnet of another version or with other parameter sets"
        write_json(failed, name | {"error": error})
        return error

    def _note(self, timing: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError), (self.directory / TIMINGS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(timing) + "\n")

    def seconds(self) -> float:
        """Worker time that the stored results took, all runs of the sweep together."""
        taken: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError), (self.directory / TIMINGS).open(encoding="utf-8") as file:
            for timing in map(json.loads, file):
                taken[timing["cell"]] = timing["wall_seconds"]
        return sum(taken.values())

    def results(self) -> Iterator[dict[str, Any]]:
        """The stored results, in the order of the design.

        Raises
        ------
        UserError
            If a file was damaged.
        """
        finished = self.finished()
        for key in self.cells:
            if key in finished:
                path = self._path(key)
                try:
                    yield json.loads(path.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise UserError(f"{path}: cannot be read: {error}; delete it and use --resume") from None
