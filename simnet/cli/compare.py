"""`simnet compare`: the same packets through several scenarios."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option, set_options
from simnet.cli.terminal import print_json, progress_bar

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("compare", help="the same packets through several scenarios: what differs, and why")
    parser.add_argument(
        "scenarios",
        nargs="+",
        metavar="SCENARIO",
        help="NAME or FILE.yaml, with changes as NAME:PATH=VALUE[,PATH=VALUE]; :PATH=VALUE is the first one with further changes",
    )
    set_options(parser)
    parser.add_argument("--seed", type=int, default=1, help="same scenarios and seed: same comparison (default 1)")
    parser.add_argument("--out", metavar="DIR", help="also write comparison.json and comparison.png")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Compare, print the differences and write their files."""
    from pathlib import Path

    from simnet.scenario.variants import load_variants

    labels, scenarios = zip(*load_variants(options.scenarios, options.set), strict=True)
    out = Path(options.out) if options.out else None
    if out is not None:
        from simnet.files import prepare

        prepare(out)
    from simnet.experiment.compare import compare

    with progress_bar("comparison") as progress:
        comparison = compare(scenarios, labels=labels, seed=options.seed, progress=progress)
    if options.json:
        print_json(comparison.as_json())
    else:
        from simnet.report.compare import comparison_text

        print(comparison_text(comparison))
    if out is not None:
        sys.stdout.flush()
        from simnet.report.files import write_comparison

        write_comparison(comparison, out)
    return 0
