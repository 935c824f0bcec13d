"""`simnet pin`: placements over the CPUs, ranked."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option, set_options
from simnet.cli.terminal import print_json, progress_bar
from simnet.errors import UserError

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser(
        "pin", help="which CPUs for NIC interrupts, I/O thread, vCPUs and process? every placement, ranked"
    )
    parser.add_argument("scenario", help="a built-in name or a .yaml file")
    set_options(parser)
    parser.add_argument("--seed", type=int, default=1, help="same scenario and seed: same ranking (default 1)")
    parser.add_argument("--top", type=int, default=12, metavar="N", help="placements in the table, and yours (default 12)")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Print the ranking."""
    from simnet.scenario.loading import load

    if options.top < 1:
        raise UserError(f"--top {options.top}: at least 1")
    scenario = load(options.scenario, options.set)
    from simnet.experiment.pin import pin

    with progress_bar(scenario.name) as progress:
        ranking = pin(scenario, seed=options.seed, progress=progress)
    if options.json:
        print_json(ranking.as_json())
    else:
        from simnet.report.pin import ranking_text

        print(ranking_text(ranking, options.top))
    return 0
