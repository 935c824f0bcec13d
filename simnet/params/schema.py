"""Parameter sets: what things cost on one host, each number with its range, unit, kind and source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from simnet.documents import Document
from simnet.errors import NotFoundError, UserError, nearest
from simnet.kinds import Kind

SETS = Kind("parameter set", "name, host, quantities", "simnet.params", folder="sets", pattern="*")
KINDS = ("measured", "published", "derived", "assumed", "calibrated")
REASON = {
    "GHz": (0.01, 100.0),
    "cycles": (0.0, 1e9),
    "us": (0.0, 1e6),
    "bytes": (1.0, 1e12),
    "lines": (0.0, 1e4),
    "entries": (1.0, 1e9),
    "share": (0.0, 1.0),
    "times": (0.01, 1e4),
}
"""Units, and the numbers of each that the model can compute with."""
HOST = {
    "processor": str,
    "sockets": int,
    "cores_per_socket": int,
    "numbering": str,
    "kernel": str,
    "nic": str,
    "posted_interrupts": bool,
}
NUMBERINGS = ("interleaved", "sequential")
"""Consecutive CPU numbers on alternating sockets, or socket by socket."""


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
        Structural facts: processor, sockets, cores a socket, kernel, NIC, whether its IOMMU posts interrupts.
    """

    name: str
    title: str
    host: Mapping[str, Any]
    quantities: Mapping[str, Quantity]
    document: Document | None = field(default=None, compare=False, repr=False)

    def __getitem__(self, name: str) -> float:
        return self.quantity(name).value

    def __iter__(self) -> Iterator[Quantity]:
        return iter(self.quantities.values())

    def mistake(self, path: str, message: str) -> UserError:
        """An error about one of the facts, with the file and line where it is written."""
        place = self.document.where(tuple(path.split("."))) if self.document else self.name
        return UserError(f"{place}: {path}: {message}")

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

    def with_value(self, name: str, value: float) -> ParameterSet:
        """A copy with one value changed; range and unit stay, the kind becomes *assumed*.

        Raises
        ------
        UserError
            If there is no such quantity, or the value is out of all reason.
        """
        quantity = self.quantity(name)
        _check_reason(quantity.unit, value)
        changed = replace(quantity, value=float(value), kind="assumed", source="set by the user")
        return replace(self, quantities={**self.quantities, name: changed})

    def with_values(self, values: Mapping[str, float]) -> ParameterSet:
        """A copy with several values changed (see `with_value`)."""
        changed = self
        for name, value in values.items():
            changed = changed.with_value(name, value)
        return changed


def _check_reason(unit: str, value: float) -> None:
    """Refuse numbers that no host has and arithmetic cannot bear."""
    least, most = REASON[unit]
    if not least <= value <= most:
        raise UserError(f"{value:g} {unit} is out of all reason; {least:g} to {most:g} can be computed")


def _refuse_unknown(document: Document, path: tuple[str, ...], entry: Mapping[Any, Any], allowed: Iterable[str], what: str) -> None:
    names = list(allowed)
    for key in entry:
        if key not in names:
            where = document.where((*path, key))
            raise UserError(f"{where}: {what}unknown key {key!r}; allowed: {', '.join(names)}{nearest(str(key), names)}")


def _quantity(document: Document, group: str, name: str, entry: Any) -> Quantity:
    path = ("quantities", group, name)
    where = document.where(path)
    allowed = ("value", "low", "high", "unit", "kind", "source")
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}: {name}: expected {', '.join(allowed)}")
    _refuse_unknown(document, path, entry, allowed, f"{name}: ")
    for key in allowed:
        if key not in entry:
            raise UserError(f"{where}: {name}: {key} is missing")
    for key, options in (("kind", KINDS), ("unit", tuple(REASON))):
        if entry[key] not in options:
            near = nearest(str(entry[key]), options)
            raise UserError(f"{where}: {name}.{key}: {entry[key]!r}; allowed: {', '.join(options)}{near}")
    numbers = [_number(document, path, name, key, entry) for key in ("value", "low", "high")]
    value, low, high = numbers
    if not low <= value <= high:
        raise UserError(f"{where}: {name}: value {value:g} is outside its range {low:g} to {high:g}")
    return Quantity(name, value, low, high, entry["unit"], entry["kind"], str(entry["source"]))


def _number(document: Document, path: tuple[str, ...], name: str, key: str, entry: Mapping[str, Any]) -> float:
    """One of a quantity's three numbers."""
    number, where = entry[key], document.where((*path, key))
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise UserError(f"{where}: {name}.{key}: {number!r} is not a number of 0 or more")
    try:
        _check_reason(entry["unit"], number)
        return float(number)
    except (UserError, OverflowError) as error:
        raise UserError(f"{where}: {name}.{key}: {str(number)[:20]} is not a number of 0 or more: {error}") from None


def _host(document: Document, given: Any, base: Mapping[str, Any]) -> dict[str, Any]:
    """Structural facts of the host, those of the base set under them."""
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise UserError(f"{document.where(('host',))}: host: expected {', '.join(HOST)}, not {given!r}")
    _refuse_unknown(document, ("host",), given, HOST, "host: ")
    host = {**base, **{key: str(value) if HOST[key] is str else value for key, value in given.items()}}
    for key, kind in HOST.items():
        where = document.where(("host", key))
        if key not in host:
            raise UserError(f"{where}: host.{key} is missing")
        value = host[key]
        if kind is bool and not isinstance(value, bool):
            raise UserError(f"{where}: host.{key}: {value!r} is neither true nor false")
        if kind is int and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4096):
            raise UserError(f"{where}: host.{key}: {value!r} is not a whole number of 1 or more")
    if host["numbering"] not in NUMBERINGS:
        where = document.where(("host", "numbering"))
        near = nearest(str(host["numbering"]), NUMBERINGS)
        raise UserError(f"{where}: host.numbering: {host['numbering']!r}; allowed: {', '.join(NUMBERINGS)}{near}")
    return host


def _base(document: Document, name: Any, above: tuple[str, ...]) -> ParameterSet | None:
    """The set that a document is based on, if any."""
    where = document.where(("based_on",))
    if name is None:
        return None
    if not isinstance(name, str):
        raise UserError(f"{where}: based_on: expected the name of a parameter set, not {name!r}")
    if name in above:
        raise UserError(f"{where}: based_on goes round in a circle: {' -> '.join([*above, name])}")
    try:
        return _load(name, (*above, name))
    except NotFoundError as error:
        raise UserError(f"{where}: based_on: {error}") from None


def _build(document: Document, above: tuple[str, ...]) -> ParameterSet:
    data = document.data
    if "name" not in data:
        raise UserError(f"{document.source}: not a parameter set: no name")
    _refuse_unknown(document, (), data, ("name", "title", "based_on", "host", "quantities"), "")
    base = _base(document, data.get("based_on"), above)
    quantities = dict(base.quantities) if base else {}
    groups = data.get("quantities") or {}
    if not isinstance(groups, Mapping):
        raise UserError(f"{document.where(('quantities',))}: quantities: expected groups of quantities, not {groups!r}")
    for group, entries in groups.items():
        if not isinstance(entries, Mapping):
            raise UserError(f"{document.where(('quantities', group))}: {group}: expected quantities by name, not {entries!r}")
        for name, entry in entries.items():
            if base and name not in quantities:
                raise UserError(
                    f"{document.where(('quantities', group, name))}: {base.name} has no {name!r}{nearest(name, quantities)}"
                )
            quantities[name] = _quantity(document, group, name, entry)
    host = _host(document, data.get("host"), base.host if base else {"posted_interrupts": False})
    return ParameterSet(str(data["name"]), str(data.get("title", "")), host, quantities, document)


def built_in_sets() -> list[str]:
    """Names of the parameter sets that come with simnet."""
    return SETS.names()


@cache
def _built_in(name: str, above: tuple[str, ...]) -> ParameterSet:
    return _build(SETS.open(name), above)


def _load(name_or_path: str, above: tuple[str, ...]) -> ParameterSet:
    if name_or_path in SETS.names():
        return _built_in(name_or_path, above)
    return _build(SETS.open(name_or_path), above)


def parameter_set(name_or_path: str) -> ParameterSet:
    """A built-in parameter set by name, or one from a YAML file.

    Raises
    ------
    UserError
        If there is none of this name, or the file is not a parameter set.
    """
    return _load(name_or_path, (name_or_path,))
