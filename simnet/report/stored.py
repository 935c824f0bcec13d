"""What a report is made of, as it stands in files: results, the cells of a sweep, its design. Everything else in the files is ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simnet.errors import UserError
from simnet.files import read_json
from simnet.results.statistics import Estimate


class Stored(BaseModel):
    """Base of all parts: unknown keys are ignored, except where a part says otherwise."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


Label = bool | int | float | str | None
Share = Annotated[float, Field(ge=-1e-6, le=1.000001)]


class StoredRate(Stored):
    """A rate in its three conventions."""

    kpps: Estimate
    mbps_wire: Estimate
    mbps_frame: Estimate


class StoredDrop(Stored):
    """Packets lost at one place."""

    place: str
    reason: str
    counter: str
    packets: int


class StoredPackets(Stored):
    """Where the packets went."""

    offered: int
    captured: int
    in_flight: int
    dropped: tuple[StoredDrop, ...]


class Shares(Stored):
    """Whatever is beside the named fields is a share of time by context, in the order of the file."""

    shares: Mapping[str, Share]

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        own = {name: data[name] for name in cls.model_fields if name in data}
        return own | {"shares": {name: share for name, share in data.items() if name not in own}}


class StoredCore(Shares):
    """A CPU's time."""

    cpu: int


class StoredVcpu(Shares):
    """A vCPU's time."""

    vcpu: int
    cpu: int


class StoredQuantity(Stored):
    """A cost, and where it comes from."""

    value: float
    low: float
    high: float
    unit: str
    kind: str
    source: str


class StoredProvenance(Stored):
    """What was run, and where its numbers come from."""

    version: str
    parameters: Mapping[str, StoredQuantity]
    nic: Mapping[str, Any]
    kernel: Mapping[str, Any]
    scenario: Mapping[str, Any]
    host: Mapping[str, Any] = {}


class StoredResult(Stored):
    """What `simnet run` writes as result.json."""

    schema_: Literal["simnet-result/1"] = Field(alias="schema")
    scenario: str
    parameters: str
    seed: int
    engine: str
    replications: int
    simulated_seconds: float
    warmup_seconds: float
    measured_seconds: float
    stop_reason: str
    offered: StoredRate
    captured: StoredRate
    packets: StoredPackets
    cores: tuple[StoredCore, ...]
    vcpus: tuple[StoredVcpu, ...] = ()
    rates: Mapping[str, float | Mapping[str, float]]
    latency_us: Mapping[str, float | None]
    flow_table: Mapping[str, float] = {}
    notes: tuple[str, ...]
    provenance: StoredProvenance


class StoredCell(StoredResult):
    """What `simnet sweep` writes for a cell."""

    cell: str
    factors: Mapping[str, Label]


class StoredFailure(Stored):
    """What it writes for a cell that failed."""

    cell: str
    factors: Mapping[str, Label]
    error: str


class PlannedCell(Stored):
    """A cell that a design has."""

    cell: str
    factors: Mapping[str, Label]


class StoredDesign(Stored):
    """What `simnet sweep` writes as design.json."""

    schema_: Literal["simnet-sweep/1"] = Field(alias="schema")
    design: str
    title: str
    seed: int
    version: str
    mechanisms: str
    factors: Mapping[str, tuple[Label, ...]]
    cells: tuple[PlannedCell, ...]


class StoredChange(Stored):
    """A field that has another value than in the first scenario of a comparison."""

    field: str
    first: Any
    value: Any


class StoredDifference(Stored):
    """A scenario less the first one; `dropped_kpps` by place."""

    changed: tuple[StoredChange, ...]
    traffic_differs: tuple[StoredChange, ...]
    paired: bool
    offered_kpps: Estimate
    captured_kpps: Estimate
    dropped_kpps: Mapping[str, Estimate]


class StoredStage(Stored):
    """Cycles that a stage takes for a captured packet, scenario by scenario (None where none was captured)."""

    stage: str
    side: str
    cycles_per_captured: tuple[float | None, ...]


class StoredLoss(Stored):
    """What is lost at a place, scenario by scenario (None where there is no such place)."""

    place: str
    counter: str
    kpps: tuple[Estimate | None, ...]


class StoredBottleneck(Stored):
    """What limits, in a sentence or two."""

    text: str


class StoredComparison(Stored):
    """What `simnet compare` writes as comparison.json."""

    schema_: Literal["simnet-comparison/1"] = Field(alias="schema")
    scenarios: Annotated[tuple[str, ...], Field(min_length=2)]
    seed: int
    differences: tuple[StoredDifference, ...]
    stages: tuple[StoredStage, ...]
    busy_cycles_per_captured: tuple[float | None, ...]
    dropped_kpps: tuple[StoredLoss, ...]
    bottlenecks: tuple[StoredBottleneck, ...]
    notes: tuple[str, ...]
    results: tuple[StoredResult, ...]

    @model_validator(mode="after")
    def _check_counts(self) -> StoredComparison:
        """Everything is there once for each scenario."""
        count = len(self.scenarios)
        rows: list[Sized] = [self.busy_cycles_per_captured, self.bottlenecks, self.results]
        rows += [*(stage.cycles_per_captured for stage in self.stages), *(loss.kpps for loss in self.dropped_kpps)]
        if len(self.differences) != count - 1 or any(len(row) != count for row in rows):
            raise ValueError(f"not everything is there for each of the {count} scenarios")
        return self


Kind = TypeVar("Kind", bound=Stored)


def read_stored(path: Path, kind: type[Kind], what: str) -> Kind:
    """Read a file.

    Parameters
    ----------
    path
        Of a JSON file.
    kind
        What must be in it.
    what
        What that is called in a message.

    Raises
    ------
    UserError
        If it cannot be read, or something is missing.
    """
    content, _ = read_json(path)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        found = [(".".join(map(str, e["loc"])) or "the file", e) for e in error.errors()]
        missing = [place for place, e in found if e["type"] == "missing"]
        if "schema" in missing or any(place == "schema" for place, _ in found):
            given = content.get("schema") if isinstance(content, Mapping) else None
            raise UserError(f"{path}: not {what}: schema is {given!r}") from None
        if missing:
            raise UserError(f"{path}: half-written, or not {what}: {', '.join(missing)} missing") from None
        place, first = found[0]
        raise UserError(f"{path}: not {what}: {place}: {first['msg']}, not {str(first['input'])[:40]!r}") from None
