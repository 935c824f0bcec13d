"""A timeline as a table for people, and as files for programs. Each file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from simnet.files import write_whole
from simnet.report.pcapng import write_pcapng
from simnet.report.perfetto import write_perfetto
from simnet.results.timeline import CoreTrack, Timeline
from simnet.units import PS_PER_MS

WRITERS: Mapping[str, Callable[[Timeline, Path], None]] = {"perfetto": write_perfetto, "pcapng": write_pcapng}
LEAST_SHARE = 0.0005


def write_timeline(timeline: Timeline, kind: str, path: Path) -> None:
    """Write one of the files of `WRITERS`.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    write_whole(path, lambda file: WRITERS[kind](timeline, file))


def _core_line(core: CoreTrack) -> str:
    shares = sorted(((share, context) for context, share in core.shares().items() if share >= LEAST_SHARE), reverse=True)
    return f"  {core.name:<20}" + ", ".join(f"{context} {share:.1%}" for share, context in shares)


def timeline_text(timeline: Timeline, files: Mapping[str, Path]) -> str:
    """The table, and what was written."""
    content = timeline.as_json()
    packets, sampled = content["packets"], content["sampled"]
    lines = [
        f"{timeline.scenario}: {timeline.start_ps / PS_PER_MS:g} to {timeline.end_ps / PS_PER_MS:g} ms of replication {timeline.replication}, seed {timeline.seed}",
        "",
        f"packets      {packets['offered']} offered, {packets['captured']} captured, "
        + "".join(f"{place['packets']} lost at {place['place']}, " for place in packets["dropped"] if place["packets"])
        + f"{packets['in_flight']} on their way at the end ({packets['in_flight_at_start']} at the start)",
        f"stored       {packets['stored']} for the program, stamped in this time",
        "cores",
        *(_core_line(core) for core in timeline.cores),
        "queues       " + ", ".join(f"{queue['queue']} {queue['start']} to {queue['end']}" for queue in content["queues"]),
        "sampled      " + ", ".join(f"{count} {fate}" for fate, count in sampled["fates"].items()),
    ]
    if timeline.none_from_wire_to_monitor():
        lines.append("No packet that arrived in this time was captured in it: a longer --last-ms shows some from wire to monitor.")
    lines += [f"wrote {path} ({name})" for name, path in files.items()]
    return "\n".join(lines)
