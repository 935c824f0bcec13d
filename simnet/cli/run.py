"""`simnet run`: simulate a scenario."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option, set_options
from simnet.cli.terminal import print_json, progress_bar
from simnet.errors import UserError

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("run", help="simulate a scenario")
    parser.add_argument("scenario", help="a built-in name or a .yaml file")
    set_options(parser)
    parser.add_argument("--seed", type=int, default=1, help="same scenario and seed: same result (default 1)")
    parser.add_argument(
        "--engine", default="compiled", choices=("compiled", "simpy"), help="both give the same bytes (default compiled)"
    )
    parser.add_argument(
        "--workers", type=int, default=None, metavar="N", help="threads (default: one a processor); does not change results"
    )
    parser.add_argument(
        "--replication",
        type=int,
        default=None,
        metavar="K",
        help="run only replication K, over the window that the whole run measures",
    )
    parser.add_argument("--out", metavar="DIR", help="also write result.json, samples.parquet and plots")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Simulate, print the result and write its files."""
    from pathlib import Path

    from simnet.scenario.loading import load

    scenario = load(options.scenario, options.set)
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers {options.workers}: at least 1")
    if options.replication is not None and not 0 <= options.replication < scenario.measure.replications:
        raise UserError(f"--replication {options.replication}: the run has replications 0 to {scenario.measure.replications - 1}")
    out = Path(options.out) if options.out else None
    if out is not None:
        from simnet.files import prepare

        prepare(out)
    from simnet.experiment.run import run

    with progress_bar(scenario.name) as progress:
        result = run(
            scenario,
            seed=options.seed,
            engine=options.engine,
            workers=options.workers,
            progress=progress,
            only=options.replication,
        )
    if options.json:
        print_json(result.as_json())
    else:
        from simnet.report.text import result_table

        print(result_table(result))
    if out is not None:
        sys.stdout.flush()
        from simnet.report.files import write_result

        write_result(result, out)
    return 0
