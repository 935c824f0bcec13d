"""The cells of a design: every combination with its scenario, loaded and checked before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simnet.documents import Document
from simnet.errors import UserError
from simnet.experiment.design import SCENARIO, Design, Label
from simnet.experiment.plan import expected_seconds
from simnet.scenario.loading import Change, build, stack
from simnet.scenario.schema import Scenario
from simnet.system.choices import generation_of, nic_model, resolve


@dataclass(frozen=True)
class Cell:
    """One combination. `scenario` is JSON; `fingerprint` differs if the scenario or a cost does; `seconds` are simulated ones."""

    key: str
    factors: Mapping[str, Label]
    scenario: str
    fingerprint: str
    seconds: float


def fingerprint(scenario: Mapping[str, Any], costs: Mapping[str, float]) -> str:
    """A hash of a scenario and of the costs that it is run with."""
    return hashlib.sha256(json.dumps([scenario, costs]).encode()).hexdigest()[:16]


def describe_cell(key: str, labels: Mapping[str, Label]) -> str:
    """A cell in a message."""
    return f"cell {key}: " + (", ".join(f"{name}={label}" for name, label in labels.items()) or "no settings")


class _Loader:
    """Loads the cells of a design; each scenario's documents are read once."""

    def __init__(self, design: Document) -> None:
        self.design = design
        self.documents: dict[str, list[Document]] = {}

    def _stack(self, choice: Change) -> list[Document]:
        if choice.value not in self.documents:
            try:
                self.documents[choice.value] = stack(choice.value)
            except UserError as error:
                raise UserError(f"{choice.label}: scenario: {error}") from None
        return self.documents[choice.value]

    def scenario(self, changes: Iterable[Change]) -> Scenario:
        """The scenario that the last setting `scenario` chooses, with all other changes."""
        choice, fields = None, []
        for change in changes:
            if change.path == (SCENARIO,):
                choice = change
            else:
                fields.append(change)
        if choice is None:
            raise UserError(f"{self.design.where(())}: scenario: none is given")
        return build(self._stack(choice), choice.value, fields)

    def cell(self, key: str, labels: Mapping[str, Label], changes: Iterable[Change]) -> Cell:
        """A checked cell."""
        scenario = self.scenario(changes)
        params = resolve(scenario)
        nic_model(scenario, params), generation_of(scenario, params)  # what is chosen by name exists
        content = scenario.model_dump(mode="json")
        costs = {quantity.name: quantity.value for quantity in params}
        return Cell(key, labels, json.dumps(content), fingerprint(content, costs), expected_seconds(scenario))


def expand(design: Design) -> list[Cell]:
    """All cells of a design, in its order.

    Raises
    ------
    UserError
        If the scenario of a cell does not load, or a cell is given twice.
    """
    loader = _Loader(design.document)
    first: dict[str, str] = {}
    cells = []
    for number, (labels, changes) in enumerate(design.combinations(), 1):
        key = f"{number:06d}"
        same = first.setdefault(json.dumps(labels, sort_keys=True), key)
        if same != key:
            raise UserError(f"{design.document.where(('cells',))}: {describe_cell(key, labels)}: the same as cell {same}")
        try:
            cells.append(loader.cell(key, labels, changes))
        except UserError as error:
            raise UserError(f"{error} ({describe_cell(key, labels)})") from None
    return cells
