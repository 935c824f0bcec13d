"""Bars: a list whose rows have a label, a drawing and values. Positions are shares of the width, so that they fit any screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from simnet.report.html.page import share, words

QUIET = ("idle", "halted")
"""Contexts in which nothing happens."""
COLOURS = 12
"""Colours for contexts that the style sheet has: k0 to k11."""
SHOWN = 0.0005
"""Shares below this are not named."""


@dataclass(frozen=True)
class Segment:
    """Part of a bar, from `start` on and `width` wide; `kind` is its class in the style sheet."""

    start: float
    width: float
    kind: str
    title: str = ""


@dataclass(frozen=True)
class Bar:
    """A row. `aside` stands beside the label, `note` and `code` below, `dots` and `mark` are drawn over the segments."""

    label: str
    segments: Sequence[Segment]
    values: Sequence[str]
    note: str = ""
    code: str = ""
    aside: str = ""
    dots: Sequence[float] = ()
    mark: float | None = None
    strong: bool = False


def scaled(value: float, most: float) -> float:
    """A value as a share of the largest."""
    return value / most if most > 0 else 0.0


def colours(shares: Iterable[Mapping[str, float]]) -> dict[str, str]:
    """A class of the style sheet for each context that takes any time, in the order of the results."""
    names = dict.fromkeys(name for each in shares for name in each)
    busy = [name for name in names if name not in QUIET]
    classes = {name: f"k{i % COLOURS}" for i, name in enumerate(busy)}
    return {name: classes.get(name, "idle") for name in names}


def used(shares: Iterable[Mapping[str, float]], classes: Mapping[str, str]) -> list[tuple[str, str]]:
    """The legend: class and name of all contexts that somebody spends time in."""
    shares = list(shares)
    return [
        (kind, name) for name, kind in classes.items() if name not in QUIET and any(each.get(name, 0) >= SHOWN for each in shares)
    ]


def in_words(shares: Mapping[str, float]) -> str:
    """Shares that are worth naming, the largest first; idle ones left out."""
    named = sorted(((s, name) for name, s in shares.items() if s >= SHOWN and name not in QUIET), reverse=True)
    return ", ".join(f"{words(name)} {share(s)}" for s, name in named)


def stacked(label: str, shares: Mapping[str, float], classes: Mapping[str, str], aside: str = "") -> Bar:
    """A bar of shares that add up to 1."""
    segments, at = [], 0.0
    for name, width in shares.items():
        if width > 0 and name not in QUIET:
            segments.append(Segment(at, width, classes[name], f"{words(name)} {share(width)}"))
            at += width
    return Bar(label, segments, (share(at),), in_words(shares), aside=aside)
