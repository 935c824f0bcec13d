"""Experimental designs: which settings are run against which. A YAML file becomes checked cells, with file:line in every message."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from simnet.documents import Document, Path_
from simnet.errors import UserError, nearest
from simnet.experiment.tables import is_column
from simnet.kinds import SUFFIXES, Kind
from simnet.scenario.loading import DESIGN_SUFFIX, Change, beside, validated

DESIGNS = Kind("design", "scenario, factors, sets", "scenarios", suffix=DESIGN_SUFFIX)
MOST_CELLS = 100_000
SCENARIO = "scenario"
"""The setting that is not a field: it chooses what the other settings change."""

Label = str | int | float
"""A level as it stands in tables."""


def label_of(value: Any) -> Label:
    """A value of a setting as a label: numbers, words and truth values as they are, `64.0` as `64`, everything else as text."""
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (str, int, float)) else json.dumps(value)


def _levels(value: Any) -> Any:
    if not isinstance(value, (list, dict)):
        raise ValueError("expected a list of values, or names of levels with their settings")
    if not value:
        raise ValueError("a factor needs at least one level")
    for name, settings in value.items() if isinstance(value, dict) else ():
        if not isinstance(settings, dict) or not all(isinstance(path, str) for path in settings):
            raise ValueError(f"level {name}: expected settings such as {{traffic.frame_bytes: 256}}, not {settings!r}")
    return value


Settings = dict[str, Any]


class DesignFile(BaseModel):
    """What a design file says: all combinations of the levels of `factors`, and single `cells`, with `sets` in all of them.

    A factor is a path with a list of values, or a name with named levels, each of which has settings (path: value). The setting `scenario`
    chooses the scenario. Files are relative to the design's folder. A cell has settings; a factor with named levels may be set to a
    name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    scenario: str | None = None
    sets: Settings = {}
    factors: dict[str, Annotated[Any, BeforeValidator(_levels)]] = {}
    cells: list[Settings] = []


@dataclass(frozen=True)
class Level:
    """A level of a factor: its label, and what it changes."""

    label: Label
    changes: tuple[Change, ...]


class Design:
    """A design as it was read; its combinations are made one by one."""

    def __init__(self, document: Document, content: DesignFile) -> None:
        self.document = document
        self.name, self.title = content.name, content.title
        fixed = {SCENARIO: content.scenario} if content.scenario is not None else {}
        self.sets = (*self._changes(fixed, ()), *self._changes(content.sets, ("sets",)))
        self.factors = {name: self._factor(name, levels) for name, levels in content.factors.items()}
        self.named = {name for name, levels in content.factors.items() if isinstance(levels, dict)}
        self.single = [self._single(number, settings) for number, settings in enumerate(content.cells)]
        self._check_names()
        self._check_overlaps()
        if not self.factors and not self.single:
            raise UserError(f"{document.where(())}: nothing to run: neither factors nor cells")
        if self.count > MOST_CELLS:
            raise UserError(f"{document.where(('factors',))}: factors: {self.count} cells; at most {MOST_CELLS}")

    @property
    def count(self) -> int:
        """Number of cells."""
        return (math.prod(map(len, self.factors.values())) if self.factors else 0) + len(self.single)

    def _changes(self, settings: Mapping[str, Any], at: Path_) -> tuple[Change, ...]:
        """Settings as changes that know their lines."""
        source = self.document.source
        changes = []
        for path, value in settings.items():
            place = self.document.where((*at, path))
            if path == SCENARIO and not isinstance(value, str):
                raise UserError(f"{place}: scenario: expected a scenario's name or file, not {value!r}")
            is_file = isinstance(value, str) and (path == "traffic.pcap" or (path == SCENARIO and value.endswith(SUFFIXES)))
            changes.append(Change(tuple(path.split(".")), beside(source, value) if is_file else value, place))
        return tuple(changes)

    def _factor(self, name: str, levels: Any) -> tuple[Level, ...]:
        """The levels of a factor; no two with the same label."""
        at: Path_ = ("factors", name)
        if isinstance(levels, dict):
            found = [((*at, key), Level(label_of(key), self._changes(settings, (*at, key)))) for key, settings in levels.items()]
        else:
            found = []
            for number, value in enumerate(levels):
                [change] = self._changes({name: value}, at)
                place = (*at, number)
                found.append((place, Level(label_of(value), (Change(change.path, change.value, self.document.where(place)),))))
        seen: set[Label] = set()
        for place, level in found:
            if level.label in seen:
                raise UserError(f"{self.document.where(place)}: {'.'.join(map(str, at))}: level {level.label!r} is given twice")
            seen.add(level.label)
        return tuple(level for _, level in found)

    def _single(self, number: int, settings: Settings) -> tuple[dict[str, Label], tuple[Change, ...]]:
        """Labels and changes of a cell that is written out."""
        changes: list[Change] = []
        for name, value in settings.items():
            if name not in self.named:
                changes += self._changes({name: value}, ("cells", number))
                continue
            levels = {level.label: level.changes for level in self.factors[name]}
            if label_of(value) not in levels:
                known = [str(label) for label in levels]
                raise UserError(
                    f"{self.document.where(('cells', number, name))}: {name}: no level {value!r}; "
                    f"there are {', '.join(known)}{nearest(str(value), known)}"
                )
            changes += levels[label_of(value)]
        return {name: label_of(value) for name, value in settings.items()}, tuple(changes)

    def _check_names(self) -> None:
        """Factors become columns beside those of the results."""
        for at, name in chain(
            ((("factors", name), name) for name in self.factors),
            ((("cells", i, name), name) for i, (labels, _) in enumerate(self.single) for name in labels),
        ):
            if is_column(name):
                raise UserError(f"{self.document.where(at)}: {name}: a column of the results has this name; choose another")

    def _check_overlaps(self) -> None:
        """No two factors may set the same field: one of them would have no effect."""
        fields = {
            name: {change.path: change.label for level in levels for change in level.changes}
            for name, levels in self.factors.items()
        }
        for (first, ours), (second, theirs) in combinations(fields.items(), 2):
            for mine, (path, label) in product(ours, theirs.items()):
                if mine[: len(path)] == path[: len(mine)]:
                    raise UserError(f"{label}: {second}: {'.'.join(path)} is set by factor {first} too")

    def combinations(self) -> Iterator[tuple[dict[str, Label], tuple[Change, ...]]]:
        """Labels and changes of all cells, in the order of the design: the last factor changes fastest, single cells come last."""
        if self.factors:
            for levels in product(*self.factors.values()):
                labels = {name: level.label for name, level in zip(self.factors, levels, strict=True)}
                yield labels, (*self.sets, *chain.from_iterable(level.changes for level in levels))
        for labels, changes in self.single:
            yield labels, (*self.sets, *changes)


def built_in_designs() -> list[str]:
    """Names of the designs that come with simnet, as 'folder/name'."""
    return DESIGNS.names()


def load_design(name_or_path: str) -> Design:
    """Read a design and check all that can be checked without expanding it.

    Parameters
    ----------
    name_or_path
        A built-in name (see `built_in_designs`) or the path of a .yaml file.

    Raises
    ------
    UserError
        With file:line, what was given, what is allowed, and the nearest name.
    """
    document = DESIGNS.open(name_or_path)
    return Design(document, validated(DesignFile, document, DESIGNS.name_of(name_or_path)))
