"""A result's question, asked again: scenario, seed and costs from its provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simnet.documents import Document, Path_, parse
from simnet.errors import UserError
from simnet.files import read_json
from simnet.results.result import SCHEMA, Result
from simnet.scenario.loading import built_in_scenarios, changed, load, load_document
from simnet.scenario.schema import Scenario
from simnet.system.choices import resolve

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Question:
    """What to run. `packets` are those of the result that it comes from; None if it comes from a scenario."""

    scenario: Scenario
    seed: int
    source: str | None = None
    packets: Mapping[str, Any] | None = None
    version: str | None = None
    notes: tuple[str, ...] = ()

    def compared(self, result: Result, version: str) -> list[str]:
        """What running it again showed, in a sentence."""
        if self.source is None or self.packets is None:
            return []
        if self.packets == result.as_json()["packets"]:
            return [f"Run again from the scenario and seed in {self.source}: the same packets to the last one."]
        reason = (
            f"simnet {self.version} wrote it, this is {version}" if self.version != version else "the model or the changes differ"
        )
        return [f"Run again from {self.source}, and it is not the same any more ({reason}); what follows explains the new run."]


def _result_file(name: str) -> Path | None:
    """The result that a name on the command line means, if it does not mean a scenario.

    Raises
    ------
    UserError
        If it is a folder without a result.
    """
    path = Path(name)
    if name in built_in_scenarios():
        return None
    if name.endswith(".json"):
        return path
    if not path.is_dir():
        return None
    if not (path / RESULT_FILE).is_file():
        raise UserError(f"{name}: no {RESULT_FILE} in this folder; simnet run NAME --out {name} writes one")
    return path / RESULT_FILE


def _read(path: Path) -> tuple[dict[str, Any], Document]:
    """A result file's content, and the same with the lines where everything stands."""
    content, text = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        given = content.get("schema") if isinstance(content, dict) else None
        raise UserError(f"{path}: not a result of simnet run: schema is {given!r}, expected {SCHEMA!r}")
    return content, parse(text, str(path))


def _inside(document: Document, path: Path_) -> Document:
    """Part of a document, with its lines."""
    data = document.data
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
    lines = {place[len(path) :]: line for place, line in document.lines.items() if place[: len(path)] == path}
    return Document(document.source, data, lines)


def _costs(content: Mapping[str, Any], scenario: Scenario) -> dict[str, float]:
    """Costs of the result that are others than the scenario's parameter set has now."""
    then, now = content["provenance"].get("parameters"), resolve(scenario)
    if not isinstance(then, Mapping):
        return {}
    values = {name: entry.get("value") for name, entry in then.items() if isinstance(entry, Mapping)}
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
    return {q.name: numbers[q.name] for q in now if q.name in numbers and numbers[q.name] != q.value}


def question(name: str, sets: Iterable[str] = (), seed: int | None = None) -> Question:
    """The question that a name, a scenario file, a result file or a folder with one stands for.

    Parameters
    ----------
    name
        As on the command line.
    sets
        Changes 'path=value'.
    seed
        The result's, or 1, if not given.

    Raises
    ------
    UserError
        If there is no such thing, or it is broken.
    """
    path = _result_file(name)
    if path is None:
        return Question(load(name, sets), 1 if seed is None else seed)
    content, document = _read(path)
    provenance = content.get("provenance")
    if not isinstance(provenance, dict) or not isinstance(provenance.get("scenario"), dict):
        raise UserError(f"{path}: the result does not say what was run: provenance.scenario is missing")
    inside, sets = _inside(document, ("provenance", "scenario")), list(sets)
    notes: tuple[str, ...] = ()
    costs = _costs(content, load_document(inside))
    scenario = load_document(inside, sets)
    if costs:
        scenario = changed(scenario, {"costs": {**costs, **scenario.costs}})
        notes = (f"Its costs are those of the result where the parameter set now has others: {', '.join(costs)}.",)
    given = content.get("seed")
    was = given if isinstance(given, int) and not isinstance(given, bool) else 1
    packets = None if sets or seed not in (None, was) else content.get("packets")
    if packets is None:
        notes = (f"Scenario and seed from {path}, with changes.", *notes)
    return Question(scenario, was if seed is None else seed, str(path), packets, provenance.get("version"), notes)
