"""`simnet explain`: what limits, where packets and cycles go, what would help."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option, set_options
from simnet.cli.terminal import print_json, progress_bar

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("explain", help="what limits, where packets and cycles go, and what would help most")
    parser.add_argument("name", help="a built-in name, a .yaml file, a result.json or a folder with one")
    set_options(parser)
    parser.add_argument("--seed", type=int, default=None, help="same scenario and seed: same answer (default: the result's, or 1)")
    parser.add_argument("--quick", action="store_true", help="only what one run shows: no elasticities, what-ifs and advice")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Print the explanation."""
    from simnet.experiment.again import question

    asked = question(options.name, options.set, options.seed)
    from simnet.experiment.explain import explain_question

    with progress_bar(asked.scenario.name) as progress:
        explanation = explain_question(asked, quick=options.quick, progress=progress)
    if options.json:
        print_json(explanation.as_json())
    else:
        from simnet.report.explain import explanation_text

        print(explanation_text(explanation))
    return 0
