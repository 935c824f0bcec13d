"""Parameter sets: what things cost on one host, each number with its range, unit, kind and source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from simnet.documents import Document, parse, read
from simnet.errors import UserError, nearest

KINDS = ("measured", "published", "derived", "assumed", "calibrated")
UNITS = ("GHz", "cycles", "ns", "us", "bytes", "lines", "entries", "share", "count", "s")


@dataclass(frozen=True)
class Quantity:
    """One number of a parameter set.

    `low` and `high` are the plausible range; `kind` says how the value came about: *measured* here, *published* in the named source,
    *derived* from published facts, *assumed*, or *calibrated* (fitted to the measurements that the source names).
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    kind: str
    source: str


@dataclass(frozen=True)
class ParameterSet:
    """The costs of one host: quantities by name, in groups as the file has them.

    Attributes
    ----------
    host
        Structural facts: processor, sockets, cores a socket, kernel, NIC.
    """

    name: str
    title: str
    host: Mapping[str, Any]
    quantities: Mapping[str, Quantity]

    def __getitem__(self, name: str) -> float:
        return self.quantity(name).value

    def __iter__(self) -> Iterator[Quantity]:
        return iter(self.quantities.values())

    def quantity(self, name: str) -> Quantity:
        """The quantity of this name.

        Raises
        ------
        UserError
            If the set has none, with the nearest name.
        """
        if name not in self.quantities:
            raise UserError(f"parameter set {self.name!r} has no quantity {name!r}{nearest(name, self.quantities)}")
        return self.quantities[name]

    def with_values(self, values: Mapping[str, float]) -> ParameterSet:
        """A copy with some values changed; ranges and sources stay, the kind becomes *assumed*."""
        changed = dict(self.quantities)
        for name, value in values.items():
            changed[name] = replace(self.quantity(name), value=float(value), kind="assumed", source="set by the user")
        return replace(self, quantities=changed)


def _quantity(document: Document, group: str, name: str, entry: Any) -> Quantity:
    where = document.where(("quantities", group, name))
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}: {name}: expected value, low, high, unit, kind, source")
    allowed = ("value", "low", "high", "unit", "kind", "source")
    for key in entry:
        if key not in allowed:
            raise UserError(f"{where}: {name}: unknown key {key!r}; allowed: {', '.join(allowed)}{nearest(str(key), allowed)}")
    for key in allowed:
        if key not in entry:
            raise UserError(f"{where}: {name}: {key} is missing")
    for key in ("value", "low", "high"):
        number = entry[key]
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number) or number < 0:
            raise UserError(f"{where}: {name}.{key}: {number!r} is not a number of 0 or more")
    if entry["kind"] not in KINDS:
        raise UserError(f"{where}: {name}.kind: {entry['kind']!r}; allowed: {', '.join(KINDS)}{nearest(str(entry['kind']), KINDS)}")
    if entry["unit"] not in UNITS:
        raise UserError(f"{where}: {name}.unit: {entry['unit']!r}; allowed: {', '.join(UNITS)}{nearest(str(entry['unit']), UNITS)}")
    if not entry["low"] <= entry["value"] <= entry["high"]:
        raise UserError(f"{where}: {name}: value {entry['value']} is outside its range {entry['low']} to {entry['high']}")
    return Quantity(
        name, float(entry["value"]), float(entry["low"]), float(entry["high"]), entry["unit"], entry["kind"], str(entry["source"])
    )


def _build(document: Document) -> ParameterSet:
    data = document.data
    if not isinstance(data, Mapping) or "name" not in data:
        raise UserError(f"{document.source}: not a parameter set: no name")
    allowed = ("name", "title", "based_on", "host", "quantities")
    for key in data:
        if key not in allowed:
            raise UserError(
                f"{document.where((key,))}: unknown key {key!r}; allowed: {', '.join(allowed)}{nearest(str(key), allowed)}"
            )
    base = parameter_set(data["based_on"]) if data.get("based_on") else None
    quantities = dict(base.quantities) if base else {}
    for group, entries in (data.get("quantities") or {}).items():
        for name, entry in (entries or {}).items():
            if base and name not in quantities:
                raise UserError(
                    f"{document.where(('quantities', group, name))}: {base.name} has no {name!r}{nearest(name, quantities)}"
                )
            quantities[name] = _quantity(document, group, name, entry)
    host = {**(base.host if base else {}), **(data.get("host") or {})}
    return ParameterSet(str(data["name"]), str(data.get("title", "")), host, quantities)


def built_in_sets() -> list[str]:
    """Names of the parameter sets that come with simnet."""
    return sorted(
        p.name.removesuffix(".yaml")
        for p in resources.files("simnet.params").joinpath("sets").iterdir()
        if p.name.endswith(".yaml")
    )


@cache
def parameter_set(name_or_path: str) -> ParameterSet:
    """A built-in parameter set by name, or one from a YAML file.

    Raises
    ------
    UserError
        If there is none of this name, or the file is not a parameter set.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return _build(read(Path(name_or_path)))
    names = built_in_sets()
    if name_or_path not in names:
        raise UserError(f"no parameter set {name_or_path!r}; there are {', '.join(names)}{nearest(name_or_path, names)}")
    text = resources.files("simnet.params").joinpath("sets", f"{name_or_path}.yaml").read_text(encoding="utf-8")
    return _build(parse(text, f"parameter set {name_or_path}"))
