"""`simnet validate`: hold the model against what is known."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option
from simnet.errors import UserError, nearest

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("validate", help="hold the model against theory, its other engines, the paper, other measurements")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="theory, engines, paper, published (default: all)")
    parser.add_argument("--scenarios", type=int, default=None, metavar="N", help="random scenarios for engines (default 200)")
    parser.add_argument("--out", metavar="DIR", help="also write tables and plots")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Check, and print what was found."""
    from pathlib import Path

    from validation.suite import CHECKS, validate

    if options.scenarios is not None and options.scenarios < 1:
        raise UserError(f"--scenarios {options.scenarios}: at least 1")
    for name in options.checks:
        if name not in CHECKS:
            raise UserError(f"no check {name!r}; there are {', '.join(CHECKS)}{nearest(name, CHECKS)}")
    return validate(
        options.checks or [*CHECKS],
        as_json=options.json,
        out=Path(options.out) if options.out else None,
        scenarios=options.scenarios,
    )
