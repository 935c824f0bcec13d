"""`simnet sweep`: run all cells of a design."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option
from simnet.cli.terminal import print_json, resumable_progress

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("sweep", help="run all cells of an experimental design")
    parser.add_argument("design", help="a built-in name or a .yaml file")
    parser.add_argument("--out", metavar="DIR", required=True, help="where results go: a file a cell, and Parquet tables")
    parser.add_argument("--resume", action="store_true", help="go on with what an earlier run left in DIR")
    parser.add_argument("--seed", type=int, default=1, help="same design and seed: same results (default 1)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=int, default=None, metavar="N", help="processes (default: one a processor); does not change results"
    )
    where.add_argument("--dask", metavar="ADDRESS", help="compute on the Dask cluster of this scheduler, such as tcp://host:8786")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Run what is not there yet, and print the table."""
    from simnet.experiment.sweep import sweep

    with resumable_progress(options.design, "cell", options.out) as progress:
        done = sweep(
            options.design,
            out=options.out,
            seed=options.seed,
            jobs=options.jobs,
            resume=options.resume,
            dask=options.dask,
            progress=progress,
        )
    if options.json:
        print_json(done.as_json())
    else:
        from simnet.report.sweep import sweep_table

        print(sweep_table(done))
    return 1 if done.failed else 0
