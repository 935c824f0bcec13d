"""A calibration as a parameter set, for `parameters:` of a scenario or `--parameters`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import simnet
from calibration.cost_groups import GROUPS
from calibration.identification import IDENTIFIED
from simnet.errors import UserError

if TYPE_CHECKING:
    from calibration.fit import Fit

FACTS = {"kernel": "host.kernel", "nic": "host.nic.model"}
"""What a parameter set says of its host, and the fields of a scenario that say it, too."""


def parameter_set_yaml(found: Fit, name: str) -> str:
    """The calibrated set as a file that `parameters:` of a scenario may name; kernel and NIC are the host's, if they are known.

    In it is what the record says more about than the prior does (`Parameter.is_informed`), identified or not: what several costs come to may be known well, and is lost if one of them keeps its prior.

    Raises
    ------
    UserError
        If none is identified.
    """
    if not any(parameter.verdict.startswith(IDENTIFIED) for parameter in found.parameters):
        raise UserError(
            "no cost is identified by this record, so there is no parameter set to write; the report says what to measure"
        )
    prior = simnet.parameter_set(found.prior)
    lines = [f"name: {name}", f"title: {prior.title.split(' (')[0]}, calibrated", f"based_on: {found.prior}"]
    settings = found.observations[0].settings if found.model is None else found.model.settings
    facts = [f'  {fact}: "{settings[field]}"' for fact, field in FACTS.items() if field in settings]
    lines += [*(["host:"] if facts else []), *facts, "quantities:", "  calibrated:"]
    for parameter in found.parameters:
        if not parameter.is_informed:
            continue
        sure = parameter.verdict.startswith(IDENTIFIED)
        known = parameter.verdict.removeprefix(IDENTIFIED).split(";")[0] if sure else ", not identified"
        for quantity in GROUPS[parameter.name]:
            value = prior[quantity]
            lines.append(
                f"    {quantity}: {{value: {value * parameter.factor:.6g}, low: {value * parameter.low:.6g}, high: {value * parameter.high:.6g}, "
                f'unit: {prior.quantity(quantity).unit}, kind: calibrated, source: "{found.source}; {parameter.factor:.3g} times the prior, with {parameter.name}{known}"}}'
            )
    return "\n".join(lines) + "\n"
