"""`simnet trace`: the last milliseconds of a replication, transition by transition."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option, set_options
from simnet.cli.terminal import print_json, progress_bar

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("trace", help="the last milliseconds of a replication, as a Perfetto trace or a pcapng file")
    parser.add_argument("name", help="a built-in name, a .yaml file, a result.json or a folder with one")
    set_options(parser)
    parser.add_argument(
        "--perfetto", metavar="FILE", help="write a trace for https://ui.perfetto.dev: cores, queues, sampled packets"
    )
    parser.add_argument("--pcapng", metavar="FILE", help="write what the simulated program stored in the window")
    parser.add_argument("--last-ms", type=float, default=10.0, metavar="MS", help="how long to look (default 10)")
    parser.add_argument(
        "--until-ms", type=float, default=None, metavar="MS", help="until when, in simulated time (default: end of pilot or replay)"
    )
    parser.add_argument("--replication", type=int, default=0, metavar="K", help="which replication (default 0)")
    parser.add_argument("--seed", type=int, default=None, help="as for run (default: the result's, or 1)")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Write the files, and print the timeline."""
    from pathlib import Path

    from simnet.experiment.again import question
    from simnet.files import prepare_file

    asked = question(options.name, options.set, options.seed)
    files = {name: Path(path) for name in ("perfetto", "pcapng") if (path := getattr(options, name))}
    for name, path in files.items():
        prepare_file(path, f"--{name}")
    if "perfetto" in files:
        from simnet.report.perfetto import need_perfetto

        need_perfetto()
    from simnet.experiment.trace import trace
    from simnet.report.timeline import timeline_text, write_timeline

    with progress_bar(asked.scenario.name) as progress:
        timeline = trace(
            asked.scenario,
            last_ms=options.last_ms,
            until_ms=options.until_ms,
            replication=options.replication,
            seed=asked.seed,
            progress=progress,
        )
    for name, path in files.items():
        write_timeline(timeline, name, path)
    if options.json:
        print_json({**timeline.as_json(), "files": {name: str(path) for name, path in files.items()}})
    else:
        print(timeline_text(timeline, files))
    return 0
