"""`simnet report`: one HTML page about what a folder holds."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option
from simnet.cli.terminal import print_json, progress_bar

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("report", help="one HTML page about a run, a sweep or a comparison: answer, charts, sources")
    parser.add_argument("source", metavar="DIR", help="the folder that --out named")
    parser.add_argument("--out", metavar="FILE", help="the page (default: report.html in DIR)")
    parser.add_argument("--quick", action="store_true", help="only what one run shows: no load curve, what-ifs and advice")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Write the page, and print its answer."""
    from simnet.report.report import report

    with progress_bar(options.source) as progress:
        written = report(options.source, out=options.out, quick=options.quick, progress=progress)
    if options.json:
        print_json(written.as_json())
    else:
        print("\n".join([*written.page.answer, "", f"The whole report: {written.out}"]))
    return 0
