"""`simnet calibrate`: fit costs to a record, or to all that come with simnet."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option
from simnet.cli.terminal import print_json
from simnet.errors import UserError

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("calibrate", help="fit costs to a record of `simnet capture run`, and predict what was held back")
    parser.add_argument(
        "records",
        metavar="RECORD",
        nargs="+",
        help="the folder of a record, or of several of one host to be fitted together; the name of one that comes with simnet, or `report`: all of those",
    )
    parser.add_argument("--out", metavar="SET", help="write the calibrated parameter set, a .yaml file")
    parser.add_argument("--plot", metavar="FILE", help="draw measured and modelled load curves, and by how much the model is off")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Fit, print the report and write its files."""
    from pathlib import Path

    from calibration.calibrate import calibrate
    from calibration.calibrated_set import parameter_set_yaml
    from calibration.fit import Fit
    from calibration.residuals import draw_residuals
    from calibration.shipped import REPORTED, shipped_records
    from simnet.files import prepare_file, write_text, write_whole

    out, plot = (Path(name) if name else None for name in (options.out, options.plot))
    if out is not None and out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: a parameter set is a .yaml file")
    shipped = shipped_records()
    if options.records == ["report"]:
        if out is not None or plot is not None:
            raise UserError("simnet calibrate report: --out and --plot go with records by name: " + ", ".join(shipped))
        results = {" ".join(names): calibrate(*(shipped[name] for name in names)) for names in REPORTED}
        if options.json:
            records = {name: result.as_json() for name, result in results.items()}
            print_json({"schema": "simnet-calibrations/1", "records": records})
        else:
            print("\n\n".join(f"{name}\n{result.report()}" for name, result in results.items()))
        return 0
    for file, flag in ((out, "--out"), (plot, "--plot")):
        if file is not None:
            prepare_file(file, flag)
    result = calibrate(*(shipped.get(name, Path(name)) for name in options.records))
    if not isinstance(result, Fit) and (out is not None or plot is not None):
        raise UserError("--out, --plot: two loads of a guest give no interval, so there is no parameter set; --json has the costs")
    if options.json:
        print_json(result.as_json())
    else:
        print(result.report())
    if isinstance(result, Fit) and out is not None:
        write_text(out, parameter_set_yaml(result, out.stem))
    if isinstance(result, Fit) and plot is not None:
        fitted = result
        write_whole(plot, lambda path: draw_residuals(fitted, path))
    return 0
