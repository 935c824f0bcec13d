"""A ranking of placements as a table for people, and the commands that apply the best."""

from __future__ import annotations

from collections.abc import Sequence

from simnet.report.explain import setting
from simnet.report.text import with_interval
from simnet.results.ranking import Ranked, Ranking, surely_less

PREAMBLE = {
    "$IFACE": "IFACE=eth0        # the port that captures",
    "$DOMAIN": "DOMAIN=guest      # as virsh list calls it",
    "$PROGRAM": "PROGRAM=tcpdump   # the process that captures",
}
"""What commands need to know, by the variable that they use."""
ON_HOST = "service irqbalance stop   # it would move the vectors again"


def _where(ranked: Ranked, names: Sequence[str]) -> list[str]:
    """The CPU of each movable thing."""
    return [",".join(map(str, ranked.cpus[name])) if name in ranked.cpus else "-" for name in names]


def _names(ranking: Ranking) -> list[str]:
    return list(dict.fromkeys(name for ranked in ranking.placements for name in ranked.cpus))


def _table(ranking: Ranking, top: int) -> list[str]:
    """One line a placement."""
    names, rows = _names(ranking), list(ranking.placements)
    has_process = any(ranked.process for ranked in rows)
    heads = [
        "",
        "captured kpps",
        "behind the best",
        *names,
        *(["process"] if has_process else []),
        "cores",
        "busy",
        "stands for",
        "",
    ]
    lines = [heads]
    for rank, ranked in enumerate(rows, 1):
        if rank > top and not ranked.yours:
            continue
        above = rows[rank - 2].behind_next if rank > 1 else None
        same = "=" if above is not None and not surely_less(above) else " "
        lines.append(
            [
                f"{same}{rank}",
                with_interval(ranked.result.captured.kpps),
                with_interval(ranked.behind) if rank > 1 else "",
                *_where(ranked, names),
                *([ranked.process or "-"] if has_process else []),
                str(ranked.cores_used),
                f"{ranked.cores_busy:.2f}",
                str(ranked.stands_for),
                "<- yours" if ranked.yours else "",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    hidden = len(rows) - len(lines) + 1
    return [*table, *([f"  {hidden} more; --top N shows N"] if hidden else [])]


def _answer(ranking: Ranking) -> str:
    """What the best placement brings and costs, in a sentence or two."""
    best, yours = ranking.placements[0], ranking.yours
    rate = with_interval(best.result.captured.kpps)
    cost = f"{best.cores_used} core{'s' if best.cores_used > 1 else ''}, {best.cores_busy:.2f} of them busy"
    if best.yours:
        return f"Yours is the best: {rate} kpps on {cost}."
    like = surely_less(yours.behind)
    gain = (
        f"{with_interval(yours.behind)} kpps more than yours, which takes {yours.cores_used} and keeps {yours.cores_busy:.2f} busy"
    )
    told = "" if like else " Yours cannot be told from it: there is no reason to move."
    return f"The best captures {rate} kpps on {cost}: {gain}.{told}"


def _alike(ranking: Ranking) -> str:
    """Who cannot be told from the best."""
    alike = [str(rank) for rank, ranked in enumerate(ranking.placements, 1) if rank > 1 and not surely_less(ranked.behind)]
    if not alike:
        return "No other placement is as good."
    return f"Not to be told from the best: {', '.join(alike)}."


def _command_lines(best: Ranked) -> list[str]:
    commands = [*([] if not best.commands else [ON_HOST]), *best.commands]
    needed = [line for variable, line in PREAMBLE.items() if any(variable in command for command in commands)]
    return [f"  {line}" for line in [*needed, *commands]]


def ranking_text(ranking: Ranking, top: int) -> str:
    """The whole ranking; the `top` placements and the user's own."""
    best = ranking.placements[0]
    classes = len(ranking.placements)
    return "\n".join(
        [
            f"{ranking.scenario}  ({ranking.parameters}, seed {ranking.seed}): {ranking.raw} placements, {classes} that differ by more than "
            f"the numbering of CPUs; {ranking.seconds:.1f} s of yours",
            "",
            f"{_answer(ranking)} {_alike(ranking)}",
            "",
            "CPUs by rank, with 95 % intervals; behind: paired, the same packets; '=': not to be told from the line above",
            *_table(ranking, top),
            "",
            *(
                [
                    "To apply the best (as root)",
                    *_command_lines(best),
                    "",
                    f"To look at it: simnet explain ... {setting(best.settings)}",
                ]
                if best.commands
                else ["The best is what the scenario says; nothing is to be moved."]
            ),
            *(["", *ranking.notes] if ranking.notes else []),
        ]
    )
