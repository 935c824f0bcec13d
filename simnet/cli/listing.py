"""`simnet list`: what comes with simnet: scenarios, designs, parameter sets, campaigns and records."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from simnet.cli.options import json_option
from simnet.cli.terminal import print_json

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("list", help="built-in scenarios, designs, parameter sets, campaigns and records")
    json_option(parser)
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Print what there is."""
    from calibration.campaign import built_in_campaigns, load_campaign
    from calibration.record import read_about
    from calibration.shipped import shipped_records
    from simnet.experiment.design import built_in_designs, load_design
    from simnet.params.schema import built_in_sets, parameter_set
    from simnet.scenario.loading import built_in_scenarios, load

    scenarios = [load(name) for name in built_in_scenarios()]
    designs = [load_design(name) for name in built_in_designs()]
    sets = [parameter_set(name) for name in built_in_sets()]
    campaigns = {name: load_campaign(name) for name in built_in_campaigns()}
    records = {name: read_about(folder) for name, folder in shipped_records().items()}
    if options.json:
        print_json(
            {
                "scenarios": [{"name": s.name, "title": s.title, "question": s.question} for s in scenarios],
                "designs": [{"name": d.name, "title": d.title, "cells": d.count} for d in designs],
                "parameter_sets": [{"name": p.name, "title": p.title} for p in sets],
                "campaigns": [
                    {"name": name, "title": c.content.title, "windows": c.windows, "seconds": c.whole_seconds}
                    for name, c in campaigns.items()
                ],
                "records": [
                    {"name": name, "title": r["campaign"]["title"], "host": _host(r), "windows": r["windows"]["all"]}
                    for name, r in records.items()
                ],
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
    print("\ncampaigns (simnet capture plan NAME; simnet capture run NAME --out DIR)")
    for name, campaign in campaigns.items():
        print(f"  {name:<24}{campaign.content.title} ({campaign.windows} windows, {campaign.whole_seconds / 60:.0f} min)")
    print("\nrecords of real hosts (simnet calibrate NAME)")
    for name, about in records.items():
        print(f"  {name:<24}{about['campaign']['title']} ({_host(about)})")
    return 0


def _host(about: dict[str, Any]) -> str:
    """The host of a record, in a few words."""
    host = about["host"]
    return f"{host['cpu_model']}, Linux {host['kernel']}"
