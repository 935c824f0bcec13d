"""`simnet show`: a resolved scenario, or a parameter set."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option, set_options
from simnet.cli.terminal import print_json
from simnet.errors import UserError, nearest

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser(
        "show", help="a scenario with everything resolved and the source of every cost, or a parameter set"
    )
    parser.add_argument("name", help="a scenario, a .yaml file, or a parameter set")
    set_options(parser)
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Print either."""
    from simnet.params.schema import built_in_sets
    from simnet.scenario.loading import built_in_scenarios

    if options.name in built_in_sets():
        if options.set:
            raise UserError(f"--set {options.set[0]}: {options.name} is a parameter set; --set changes scenarios")
        _show_set(options)
        return 0
    if not options.name.endswith((".yaml", ".yml")) and options.name not in built_in_scenarios():
        names = [*built_in_scenarios(), *built_in_sets()]
        raise UserError(
            f"no scenario or parameter set {options.name!r}; there are {', '.join(names)}{nearest(options.name, names)}"
        )
    _show_scenario(options)
    return 0


def _show_set(options: Namespace) -> None:
    from simnet.params.schema import parameter_set
    from simnet.report.text import parameter_table

    params = parameter_set(options.name)
    if options.json:
        print_json({"name": params.name, "title": params.title, "host": dict(params.host), "quantities": [vars(q) for q in params]})
    else:
        print(parameter_table(params))


def _show_scenario(options: Namespace) -> None:
    from simnet.experiment.run import provenance
    from simnet.report.text import scenario_table
    from simnet.scenario.loading import load
    from simnet.system.choices import resolve
    from simnet.system.describe import describe

    scenario = load(options.name, options.set)
    params = resolve(scenario)
    structure = describe(scenario, params)
    if options.json:
        print_json({**provenance(scenario, params), "resolved": dict(structure)})
    else:
        print(scenario_table(scenario, params, structure))
