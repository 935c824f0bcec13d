"""Pages from templates: self-contained, everything that comes from a user escaped."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jinja2

from simnet.report.explain import percent, setting
from simnet.report.text import STOP_REASONS, number, with_interval
from simnet.results.statistics import Estimate

MINUS = "\N{MINUS SIGN}"
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"


def thin(text: str) -> str:
    """The same with spaces at which no line breaks."""
    return text.replace(" ", THIN_SPACE)


def share(value: float) -> str:
    """A share in percent; one that is not 0 never looks as if it were."""
    if 0 < value < 0.0005:
        return thin("< 0.1 %")
    return thin(f"{value * 100:.1f} %")


def whole(value: int) -> str:
    """A whole number in groups."""
    return f"{value:,}".replace(",", THIN_SPACE)


def signed(estimate: Estimate) -> str:
    """A difference with its interval."""
    return thin(f"{'+' if estimate.mean > 0 else ''}{with_interval(estimate)}").replace("-", MINUS)


def words(name: str) -> str:
    """A key of the results as words."""
    return name.replace("_", " ")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("simnet.report.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda value: thin(number(value)),
        "interval": lambda estimate: thin(with_interval(estimate)),
        "gain": lambda estimate: thin(percent(estimate)),
        "setting": setting,
        "signed": signed,
        "share": share,
        "whole": whole,
        "words": words,
        "place": lambda value: f"{value * 100:.3f}%",
        "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        "stop_reason": lambda reason: STOP_REASONS.get(reason, words(reason)),
    }
    return environment


def render(template: str, **content: Any) -> str:
    """A page.

    Parameters
    ----------
    template
        Name of a file in `templates`.
    content
        What it shows.
    """
    return _environment().get_template(template).render(**content)
