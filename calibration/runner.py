"""`simnet capture plan` and `run`: what a campaign will do, and doing it."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.campaign import SOFTIRQ, Campaign, Planned
from calibration.capture import af_xdp, libpcap
from calibration.collect.facts import facts
from calibration.collect.foreign_load import wait_until_quiet
from calibration.collect.reference import Reference
from calibration.journal import Journal
from calibration.lab import guest_image
from calibration.link.other_host import GeneratorError
from calibration.link.programs import script_of
from calibration.link.safety import problems_here
from calibration.link.session import LinkSession
from calibration.load.generators import choose
from calibration.record import ABOUT, write_record
from calibration.window import Row, measure
from simnet.errors import UserError

PLAN_SCHEMA, SUMMARY_SCHEMA = "simnet-capture-plan/1", "simnet-capture-run/1"

CHANGES = (
    "network namespaces without a name, held by this command alone, with a veth pair, and for tap_reader and guest a bridge and a tap, inside",
    "in them: GRO, TSO, rps_cpus, threaded and IPv6 of these interfaces",
    "processes pinned to the CPUs of the placement; they end with this command, however it ends",
    "a program that the campaign names runs as it is, with this command's rights: its network is the lab's, but files that it writes stay",
    "for a guest, its kernel and busybox are fetched as Debian packages into simnet's cache folder, once; nothing is installed",
    "nothing outside them: no interface, interrupt, sysctl or file of the host but --out; so there is nothing to restore",
)

LINK_CHANGES = (
    "on this host nothing is set: the port takes all frames while a window lasts, and processes are pinned to the CPUs of the placement",
    "on the generator's host the generator is told to send by link.generator.interface, and is stopped and reset at the end",
    "however this command ends: the shell over there then ends the generator, and if that is lost too, the generator ends by itself",
    "first both hosts are asked whether the interface carries a default route, or ssh; if so, nothing is sent at all",
)

Progress = Callable[[str, float], None]


def check(campaign: Campaign) -> list[str]:
    """What keeps a campaign from being run here, each with what to do about it; nothing if it can be run."""
    problems = []
    if os.geteuid() != 0:
        problems.append("root is needed (network namespaces, packet sockets, BPF): run it with sudo, or in a VM of your own")
    missing = [cpu for cpu in campaign.cpus if cpu not in os.sched_getaffinity(0)]
    if missing:
        there = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        problems.append(f"no CPU {', '.join(map(str, missing))} here (there are {there}): change the campaign's placements")
    methods = campaign.content.methods
    if {"tap_reader", "guest"} & {*methods} and not os.path.exists("/dev/net/tun"):
        problems.append("there is no /dev/net/tun: modprobe tun, or leave tap_reader and guest out")
    try:
        import pyroute2  # noqa: F401
    except ImportError:
        problems.append("pyroute2 is missing: pip install 'simnet-rx[capture]'")
    problems += _missing(campaign)
    if campaign.content.link is not None:
        cpus = [cpu for placement in campaign.content.placements.values() for cpu in placement.cpus_of_irq]
        problems += problems_here(campaign.content.link.interface, cpus)
    if "guest" in methods:
        problems += guest_image.missing()
    return problems


def _missing(campaign: Campaign) -> list[str]:
    """What some methods need of the system, and it has not."""
    problems, methods, program = [], campaign.content.methods, campaign.content.program
    if "libpcap" in methods:
        try:
            libpcap.library()
        except UserError as error:
            problems.append(str(error))
    if "af_xdp" in methods and not af_xdp.is_there():
        problems.append("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS): leave af_xdp out of methods")
    if program is not None and shutil.which(program[0]) is None:
        problems.append(f"program: there is no {program[0]} here, or it cannot be run: install it, or give its path")
    return problems


def plan(campaign: Campaign) -> dict[str, Any]:
    """What `run` would do, without doing it; plain JSON."""
    used = {placement.softirq for placement in campaign.content.placements.values()}
    return {
        "schema": PLAN_SCHEMA,
        "campaign": campaign.as_json(),
        "windows": campaign.windows,
        "seconds": campaign.whole_seconds,
        "cpus": campaign.cpus,
        "order": [
            {"window": planned.key, "repeat": planned.repeat, "point": planned.point.label}
            for block in campaign.blocks()
            for planned in block
        ],
        "changes": CHANGES if campaign.content.link is None else LINK_CHANGES,
        "softirq": {name: text for name, text in SOFTIRQ.items() if name in used},
        "problems": check(campaign),
        **({} if campaign.content.link is None else {"script": script_of(campaign.content.link.generator, campaign.points[0])}),
    }


@dataclass(frozen=True)
class Done:
    """A finished campaign: rows in the order of measuring, and what the record says about everything else."""

    about: dict[str, Any]
    rows: list[Row]


def run(campaign: Campaign, out: Path, resume: bool = False, note: str = "", progress: Progress | None = None) -> Done:
    """Measure all windows of a campaign and write the record.

    Parameters
    ----------
    campaign
        What to measure.
    out
        Folder of the record; during the campaign, of its journal.
    resume
        Go on with the windows that are there.
    note
        Free text for the record.
    progress
        Called after each window with what is done, and the share of the time.

    Raises
    ------
    UserError
        If it cannot be run here, or the folder cannot be used. Finished windows are kept.
    """
    if (out / ABOUT).exists():
        raise UserError(f"--out {out}: holds a finished record; choose another folder")
    if problems := check(campaign):
        raise UserError("; ".join(problems))
    guest = guest_image.describe() if "guest" in campaign.content.methods else None
    with ExitStack() as stack:
        link = None if campaign.content.link is None else stack.enter_context(closing(LinkSession(campaign.content.link)))
        journal = stack.enter_context(closing(Journal(out, campaign.as_json(), facts(), resume)))
        ends: dict[str, Any] = {}
        try:
            if link is None:
                generator, reason = choose(campaign.content.generator, campaign.cpus[0])
            else:
                generator, reason, ends = link.name, "asked for", link.facts()
            _windows(campaign, journal, generator, progress, link)
        except OSError as error:
            what = "the lab" if link is None else "the port"
            raise UserError(f"{what} cannot be used here: {error.strerror}; finished windows are kept") from None
        conditions: dict[str, Any] = {"generator": generator, "generator_because": reason, "guest": guest, "note": note}
        if ends:
            conditions["link"] = ends
        first = min(row["started_s"] for row in journal.rows)
        started = datetime.datetime.fromtimestamp(first, datetime.UTC).strftime("%Y-%m-%dT%H:%MZ")
        rows = [{**row, "started_s": row["started_s"] - first} for row in journal.rows]
        about = write_record(out, rows, facts(), campaign.for_record(), conditions, started)
        journal.remove()
    return Done(about, rows)


def _windows(
    campaign: Campaign, journal: Journal, generator: str, progress: Progress | None, link: LinkSession | None = None
) -> None:
    """Measure what is not in the journal yet: block after block, and at the end of a block what was rejected once more."""
    done_s, whole_s, done = 0.0, campaign.whole_seconds, 0
    retries = campaign.content.reject.retries
    references: dict[tuple[int, int], Reference] = {}
    try:
        for block in campaign.blocks():
            for attempt in range(retries + 1):
                for planned in block:
                    known = [row for row in journal.rows if row["window"] == planned.key]
                    if len(known) <= attempt and (attempt == 0 or known[-1]["rejected"] is not None):
                        journal.add(_measured(campaign, planned, attempt, len(journal.rows), generator, references, link))
                    if attempt == 0:
                        done, done_s = done + 1, done_s + campaign.seconds(planned.point)
                    if progress is not None:
                        progress(f"{done} of {campaign.windows} windows", done_s / whole_s)
    finally:
        for reference in references.values():
            reference.close()


def _measured(
    campaign: Campaign,
    planned: Planned,
    attempt: int,
    order: int,
    generator: str,
    references: dict[tuple[int, int], Reference],
    link: LinkSession | None,
) -> Row:
    """One row of the record."""
    point = planned.point
    cpus = (point.placement.reader_cpu, point.placement.busy_cpu)
    if cpus not in references:
        references[cpus] = Reference(*cpus)
    if attempt:
        reject = campaign.content.reject
        wait_until_quiet(point.placement.cpus, {os.getpid(), references[cpus].pid}, reject.foreign_share, reject.wait_seconds)
    started_s = time.time()
    try:
        row = measure(point, campaign.content, generator, references[cpus], None if link is None else link.wire)
    except GeneratorError as error:
        assert link is not None
        row = link.failed(error)
    return {
        "window": planned.key,
        "order": order,
        "attempt": attempt,
        "repeat": planned.repeat,
        "started_s": started_s,
        "method": point.method,
        "placement": point.placement_name,
        "frame_bytes": point.frame_bytes,
        "flows": point.flows,
        "target_kpps": point.offered_kpps,
        **row,
    }


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line a point: median rates of the windows that count, in the order of the campaign; plain JSON."""
    from statistics import median

    points: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        points.setdefault(tuple(row[name] for name in _POINT), []).append(row)
    lines = []
    for point, found in sorted(points.items(), key=lambda item: item[0]):
        good = [row for row in found if row["rejected"] is None]
        line: dict[str, Any] = {**dict(zip(_POINT, point, strict=True)), "windows": len(found), "rejected": len(found) - len(good)}
        for name in ("offered", "captured", *sorted({name for row in found for name in row if name.startswith("dropped_")})):
            rates = [row[name] / row["seconds"] / 1e3 for row in good if name in row]
            line[f"{name}_kpps"] = median(rates) if rates else None
        lines.append(line)
    return lines


_POINT = ("method", "placement", "frame_bytes", "flows", "target_kpps")
