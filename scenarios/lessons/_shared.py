"""What the lessons share: a quick question to the model, its answer as HTML that fits a telephone, and the steps of a lesson.

Lessons have no costs of their own. They ask built-in scenarios, with their cited parameter sets, and change what a user could change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any

import marimo as mo

import simnet
from simnet.report.plots import COLOURS
from simnet.report.text import number, with_interval

QUICK = {"measure.replications": 3, "measure.warmup_s": 0.08, "measure.limit_s": 0.16, "measure.precision": 1.0}
"""Three replications of 0.16 s, of which the second half counts: some turns of the scheduler (24 ms for two tasks), and an answer while one watches."""
BUSY = 0.001
"""Share of a core's time below which it is left out of a picture."""
VCPU_COLOURS = {**COLOURS, "halted": COLOURS["idle"], "stolen": "#4d4d4d"}


def ask(scenario: str, settings: Mapping[str, Any]) -> simnet.Result:
    """Run a built-in scenario with some fields changed, quickly (see `QUICK`); the same question is answered from memory.

    Parameters
    ----------
    scenario
        A built-in name.
    settings
        Values by path, as for `simnet.load`.
    """
    return _asked(scenario, tuple(sorted(settings.items())))


@lru_cache(maxsize=1024)
def _asked(scenario: str, settings: tuple[tuple[str, Any], ...]) -> simnet.Result:
    return simnet.run(simnet.load(scenario, {**QUICK, **dict(settings)}))


def share(result: simnet.Result, cpu: int, *contexts: str) -> float:
    """Share of a CPU's time in some contexts, all if none is named but idle."""
    shares = next(core.shares for core in result.cores if core.cpu == cpu)
    return sum(shares[c] for c in contexts) if contexts else 1 - shares["idle"]


def _bar(name: str, shares: Mapping[str, float], colours: Mapping[str, str]) -> str:
    parts = "".join(
        f'<div title="{escape(part)} {value:.1%}" style="width:{100 * value:.3f}%;background:{colours[part]}"></div>'
        for part, value in shares.items()
    )
    return (
        '<div style="display:flex;align-items:center;gap:.5rem;margin:.2rem 0">'
        f'<div style="width:4rem;flex:none;font-size:.85rem">{escape(name)}</div>'
        f'<div style="display:flex;flex:1;min-width:0;height:1.3rem;border-radius:3px;overflow:hidden">{parts}</div></div>'
    )


def _bar_with_key(name: str, shares: Mapping[str, float], colours: Mapping[str, str]) -> str:
    """A bar and, below it, what its colours mean."""
    shown = {part: value for part, value in shares.items() if value >= BUSY}
    key = "".join(
        f'<span style="white-space:nowrap"><span style="display:inline-block;width:.8rem;height:.8rem;background:{colours[part]}"></span> '
        f"{escape(part)} {value:.1%}</span>"
        for part, value in shown.items()
    )
    return (
        _bar(name, shown, colours)
        + f'<div style="display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.85rem;margin:.3rem 0">{key}</div>'
    )


def time_bars(result: simnet.Result) -> str:
    """HTML: where the time of each core went that did anything, by context; and of each vCPU, as the guest sees it."""
    rows = [_bar_with_key(f"cpu{core.cpu}", core.shares, COLOURS) for core in result.cores if core.shares["idle"] < 1 - BUSY]
    rows += [_bar_with_key(f"vCPU {v.vcpu}", v.shares, VCPU_COLOURS) for v in result.vcpus if v.shares["halted"] < 1 - 10 * BUSY]
    return "".join(rows) or "<p>All cores were idle.</p>"


def packets_table(result: simnet.Result) -> str:
    """HTML: which share of the packets was captured, and which was lost where, with the Linux counter that shows it."""
    frame = simnet.drops_frame(result)
    rows = [
        f'<tr><td style="padding-right:.8rem;vertical-align:top">{escape(place.replace("_", " "))}</td>'
        f'<td style="text-align:right;padding-right:.8rem;vertical-align:top;white-space:nowrap">{part:.2%}</td><td>{escape(counter)}</td></tr>'
        for place, part, packets, counter in zip(frame["place"], frame["share"], frame["packets"], frame["counter"], strict=True)
        if packets or place == "captured"
    ]
    return f'<table style="width:auto;font-size:.9rem;margin:.4rem 0"><tbody>{"".join(rows)}</tbody></table>'


def headline(result: simnet.Result) -> str:
    """Markdown: offered and captured, with the 95 % interval of the short run."""
    kpps = result.captured.kpps
    return f"Offered **{number(result.offered.kpps.mean)} kpps**, captured **{with_interval(kpps)} kpps**."


def sources(scenario: str) -> str:
    """Markdown: where a lesson's numbers come from."""
    return (
        f"*The numbers come from the model of `simnet run {scenario}`; `simnet show {scenario}` prints what each step costs, and the source of each cost. "
        "Nothing here is a recording: every answer is computed when you ask.*"
    )


def prediction_form(options: Sequence[str], keep: Callable[[Any], None]) -> mo.ui.form[Any, Any]:
    """A choice of predictions; the first that is handed in goes to `keep`, the setter of a state, and later ones do not."""
    return mo.ui.radio(options, label="I predict:").form(
        submit_button_label="That is my prediction", on_change=lambda answer: keep(lambda before: before or answer)
    )


def getting_ready() -> Any:
    """A sign that the machine code is loaded, or even made."""
    return mo.status.spinner(title="The model gets ready (the first time on a machine: about a minute)")


def revealed(predicted: str, right: str, answer: str) -> mo.Html:
    """The answer beside the student's prediction."""
    return mo.callout(
        mo.md(f"You predicted *{predicted}*.\n\nThe model: {answer}"), kind="success" if predicted == right else "info"
    )


def marked(verdict: tuple[bool, str]) -> mo.Html:
    """What a check of an exercise says."""
    right, why = verdict
    return mo.callout(mo.md(("**Right.** " if right else "**Not yet.** ") + why), kind="success" if right else "warn")
