"""`simnet list`: built-in scenarios, designs and parameter sets."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option
from simnet.cli.terminal import print_json

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("list", help="built-in scenarios and parameter sets")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Print what there is."""
    from simnet.experiment.design import built_in_designs, load_design
    from simnet.params.schema import built_in_sets, parameter_set
    from simnet.scenario.loading import built_in_scenarios, load

    scenarios = [load(name) for name in built_in_scenarios()]
    designs = [load_design(name) for name in built_in_designs()]
    sets = [parameter_set(name) for name in built_in_sets()]
    if options.json:
        print_json(
            {
                "scenarios": [{"name": s.name, "title": s.title, "question": s.question} for s in scenarios],
                "designs": [{"name": d.name, "title": d.title, "cells": d.count} for d in designs],
                "parameter_sets": [{"name": p.name, "title": p.title} for p in sets],
            }
        )
        return 0
    print("scenarios (simnet run NAME)")
    for scenario in scenarios:
        print(f"  {scenario.name:<24}{scenario.title}\n  {'':<24}{scenario.question}")
    print("\ndesigns (simnet sweep NAME --out DIR)")
    for design in designs:
        print(f"  {design.name:<24}{design.title} ({design.count} cells)")
    print("\nparameter sets (simnet show NAME)")
    for params in sets:
        print(f"  {params.name:<24}{params.title}")
    return 0
