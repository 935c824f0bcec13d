"""What the paper printed as tables, from the model's own scenarios, and its statistics."""

from __future__ import annotations

from collections.abc import Mapping

import simnet
from validation.anova import analyse, table
from validation.paper import FLOWS, METHODS, MONITORS, SIZES, Cell, all_cells

PLATFORMS = ("bare metal", "guest")


def paper_tables() -> str:
    """Tables I to III: the configurations as simulated, the factors, the most packets a link carries."""
    params, guest = simnet.parameter_set("e5520-linux-3.2"), simnet.load("paper/vm").guest
    assert guest is not None
    cores = params.host["sockets"] * params.host["cores_per_socket"]
    rows = (
        ("Linux kernel", params.host["kernel"], params.host["kernel"]),
        ("processor clock", f"{params['clock_ghz']} GHz", f"{params['clock_ghz']} GHz"),
        ("cores", cores, len(guest.vcpus)),
        ("private L2 / shared L3", f"{params['l2_bytes'] / 1024:.0f} KiB / {params['l3_bytes'] / 2**20:.0f} MiB", "the host's"),
        ("data NIC", params.host["nic"], f"virtio, {guest.backend}"),
    )
    lines = ["Table I: configurations as simulated", f"  {'':<26}{'bare metal':>22}{'guest':>22}"]
    lines += [f"  {name:<26}{host!s:>22}{virtual!s:>22}" for name, host, virtual in rows]
    lines += ["", "Table II: factors and levels"]
    for name, levels in (
        ("platform", PLATFORMS),
        ("method", METHODS),
        ("monitor", MONITORS),
        ("flows", FLOWS),
        ("frame bytes", SIZES),
    ):
        lines.append(f"  {name:<26}{', '.join(map(str, levels))}")
    lines += ["", "Table III: most packets a second (kpps)", f"  {'':<26}" + "".join(f"{f'{size} B':>12}" for size in SIZES)]
    for gbps in (10, 1):
        most = "".join(f"{gbps * 1e6 / ((size + 20) * 8):>12.2f}" for size in SIZES)
        lines.append(f"  {f'{gbps} Gbit/s':<26}{most}")
    return "\n".join(lines)


def factorial_anova(bare_metal: Mapping[Cell, simnet.Result], guest: Mapping[Cell, simnet.Result]) -> str:
    """Analysis of variance of the captured packet rate over the 72 settings with five replications each."""
    factors = (("platform", 2), ("method", 3), ("monitor", 2), ("flows", 2), ("size", 3))
    levels: tuple[tuple[object, ...], ...] = (METHODS, MONITORS, FLOWS, SIZES)
    cells = {}
    for p, results in enumerate((bare_metal, guest)):
        for cell in all_cells():
            index = tuple(level.index(value) for level, value in zip(levels, cell, strict=True))
            cells[p, *index] = [r.captured_kpps for r in results[cell].replications]
    effects = [e for e in analyse(factors, cells) if e.share >= 0.0005 or e.name == "within settings"]
    return table("Analysis of variance of the packet rate, 72 settings x 5 replications (effects above 0.05 %)", effects)
