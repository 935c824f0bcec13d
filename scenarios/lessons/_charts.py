"""Small SVG charts, drawn in a millisecond: what moves with a slider cannot wait for matplotlib, which takes a tenth of a second or more."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 24, 34
COLOURS = ("#2166ac", "#b2182b", "#5aae61", "#762a83")

Curve = tuple[str, Sequence[float], Sequence[float]]
"""Name, abscissae, ordinates."""


class _Axes:
    """Linear axes from 0: maps values to places in the picture, and draws itself."""

    def __init__(self, most_x: float, most_y: float) -> None:
        ticks = MaxNLocator(5)
        self.x_ticks, self.y_ticks = ([float(t) for t in ticks.tick_values(0, most or 1.0)] for most in (most_x, most_y))
        self.most_x, self.most_y = self.x_ticks[-1], self.y_ticks[-1]

    def x(self, value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / self.most_x, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.most_y, 1)

    def svg(self, inside: str, labels: tuple[str, str], description: str) -> str:
        """The whole picture: grid, tick labels and axis labels around what is `inside`."""
        grid = "".join(
            f'<path d="M{LEFT} {self.y(t)}H{WIDTH - RIGHT}" stroke="#ddd"/><text x="{LEFT - 4}" y="{self.y(t) + 3}" text-anchor="end">{t:g}</text>'
            for t in self.y_ticks
        )
        grid += "".join(
            f'<path d="M{self.x(t)} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/><text x="{self.x(t)}" y="{HEIGHT - BOTTOM + 12}" text-anchor="middle">{t:g}</text>'
            for t in self.x_ticks
        )
        names = (
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(labels[0])}</text>'
            f'<text x="4" y="11">{escape(labels[1])}</text>'
        )
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}" font-family="sans-serif" font-size="9" '
            f'style="width:100%;max-width:34rem;height:auto;background:white;display:block">{grid}{names}{inside}</svg>'
        )


def curves(lines: Sequence[Curve], here: tuple[float, float], labels: tuple[str, str], description: str) -> str:
    """SVG: curves over the offered load, and a ring where the sliders are."""
    axes = _Axes(max(here[0], *(max(x) for _, x, _ in lines)), max(here[1], *(max(y) for _, _, y in lines)))
    inside = ""
    for row, ((name, xs, ys), colour) in enumerate(zip(lines, COLOURS, strict=False)):
        points = " ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in zip(xs, ys, strict=True))
        inside += f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        inside += f'<text x="{WIDTH - RIGHT - 4}" y="{TOP + 12 + 12 * row}" text-anchor="end" fill="{colour}">{escape(name)}</text>'
    inside += f'<circle cx="{axes.x(here[0])}" cy="{axes.y(here[1])}" r="5" fill="none" stroke="black" stroke-width="2"/>'
    return axes.svg(inside, labels, description)


def histogram(counts: Sequence[float], labels: tuple[str, str], description: str) -> str:
    """SVG: how often each number came up, in per cent; `counts` by number."""
    total = sum(counts) or 1.0
    shares = {i: 100 * count / total for i, count in enumerate(counts) if count}
    axes = _Axes(max([*shares, 8]) + 1, max(shares.values(), default=1.0))
    wide = max(axes.x(0.8) - LEFT, 1.0)
    inside = "".join(
        f'<rect x="{axes.x(i) - wide / 2:.1f}" y="{axes.y(part)}" width="{wide:.1f}" height="{axes.y(0) - axes.y(part):.1f}" fill="{COLOURS[0]}"/>'
        for i, part in shares.items()
    )
    return axes.svg(inside, labels, description)
