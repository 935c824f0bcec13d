"""Tables of `simnet capture plan` and `run` for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def _generator(campaign: Mapping[str, Any]) -> str:
    link = campaign["link"]
    return (
        str(campaign["generator"]) if link is None else f"{link['generator']['program']} on the other host, to {link['interface']}"
    )


def plan_text(plan: Mapping[str, Any]) -> str:
    """A plan (see `calibration.runner.plan`)."""
    campaign, window = plan["campaign"], plan["campaign"]["window"]
    retries, wait = campaign["reject"]["retries"], campaign["reject"]["wait_seconds"]
    most = plan["seconds"] * (1 + retries) + plan["windows"] * retries * wait
    lines = [
        f"{campaign['name']}: {campaign['title']}",
        f"{plan['windows']} windows of {window['seconds']:g} s in {campaign['repeats']} blocks; about {_minutes(plan['seconds'])}, "
        f"at most {_minutes(most)} if windows are disturbed and repeated",
        "",
        "what is measured, every combination once a block, in an order drawn from the seed",
        f"  load         {', '.join(f'{kpps:g}' for kpps in campaign['offered_kpps'])} kpps ({_generator(campaign)})",
        f"  frames       {', '.join(map(str, campaign['frame_bytes']))} bytes, flows {', '.join(map(str, campaign['flows']))}",
        f"  methods      {', '.join(campaign['methods'])}",
    ]
    if campaign["program"]:
        lines.append(f"  program      {' '.join(campaign['program'])}")
    for name, placement in campaign["placements"].items():
        cpu = "" if placement["softirq_cpu"] is None else f" on CPU {placement['softirq_cpu']}"
        load = "" if campaign["link"] else f"generator on CPU {placement['load_cpu']}, "
        lines.append(f"  {name:<13}{load}softirq {placement['softirq']}{cpu}, reader on CPU {placement['reader_cpu']}")
    lines += ["", *(f"  softirq {name}: {text}" for name, text in plan["softirq"].items())]
    lines += ["", "the first block"]
    first = [window for window in plan["order"] if window["repeat"] == 0]
    lines += [f"  {window['window']:<8}{window['point']}" for window in first]
    lines += ["", "what is changed", *(f"  {text}" for text in plan["changes"])]
    if "script" in plan:
        lines += [
            "",
            "what the generator's host is told for the first window",
            *(f"  {line}" for line in plan["script"].splitlines()),
        ]
    if plan["problems"]:
        lines += ["", "cannot be run here", *(f"  {text}" for text in plan["problems"])]
    return "\n".join(lines)


def summary_text(about: Mapping[str, Any], lines: list[dict[str, Any]], out: str) -> str:
    """A line a point (see `calibration.runner.summary`)."""
    places = list(dict.fromkeys(name for line in lines for name in line if name.startswith("dropped_") and line[name]))
    heads = [name.removeprefix("dropped_").removesuffix("_kpps") for name in places]
    rows = [f"{'':<34}{'offered':>10}{'captured':>10}" + "".join(f"{head:>16}" for head in heads) + "   windows  (kpps, medians)"]
    for line in lines:
        point = f"{line['method']}, {line['placement']}, {line['target_kpps']:g}"
        rates = [line["offered_kpps"], line["captured_kpps"], *(line.get(name) for name in places)]
        widths = (10, 10, *(16 for _ in places))
        cells = "".join(f"{'' if rate is None else f'{rate:.1f}':>{width}}" for rate, width in zip(rates, widths, strict=True))
        counts = f"{line['windows'] - line['rejected']:>6}" + (f", {line['rejected']} rejected" if line["rejected"] else "")
        rows.append(f"{point:<34}{cells}{counts}")
    windows = about["windows"]
    rows.append("")
    rows.append(
        f"{windows['all']} windows, {windows['rejected']} of them rejected; every packet accounted for in the others; record in {out}"
    )
    if windows["rejected"] > windows["all"] / 2:
        rows.append("this host was busy with other work; measure again when it is quiet")
    return "\n".join(rows)
