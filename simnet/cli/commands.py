"""What each command does."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simnet.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simnet.experiment.replicate import Progress


WHOLE_RUN_S = 1e9


def _print_json(content: Any) -> None:
    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


def list_command(options: Namespace) -> int:
    """Built-in scenarios, designs and parameter sets."""
    from simnet.experiment.design import load_design
    from simnet.params.schema import built_in_sets, parameter_set
    from simnet.scenario.loading import built_in_designs, built_in_scenarios, load

    scenarios = [load(name) for name in built_in_scenarios()]
    designs = [load_design(name) for name in built_in_designs()]
    sets = [parameter_set(name) for name in built_in_sets()]
    if options.json:
        _print_json(
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


def show_command(options: Namespace) -> int:
    """A resolved scenario, or a parameter set."""
    from simnet.params.schema import built_in_sets, parameter_set
    from simnet.report.text import parameter_table, scenario_table
    from simnet.scenario.loading import built_in_scenarios, load

    if options.name in built_in_sets():
        if options.set:
            raise UserError(f"--set {options.set[0]}: {options.name} is a parameter set; --set changes scenarios")
        params = parameter_set(options.name)
        if options.json:
            _print_json(
                {"name": params.name, "title": params.title, "host": dict(params.host), "quantities": [vars(q) for q in params]}
            )
        else:
            print(parameter_table(params))
        return 0
    if not options.name.endswith((".yaml", ".yml")) and options.name not in built_in_scenarios():
        names = [*built_in_scenarios(), *built_in_sets()]
        raise UserError(
            f"no scenario or parameter set {options.name!r}; there are {', '.join(names)}{nearest(options.name, names)}"
        )
    from simnet.experiment.run import provenance
    from simnet.system.choices import resolve
    from simnet.system.describe import describe

    scenario = load(options.name, options.set)
    params = resolve(scenario)
    structure = describe(scenario, params)
    if options.json:
        _print_json({**provenance(scenario, params), "resolved": dict(structure)})
    else:
        print(scenario_table(scenario, params, structure))
    return 0


@contextmanager
def _progress(what: str, left: bool = False, compiles: bool = True) -> Iterator[Progress | None]:
    """A progress bar on standard error, if that is a terminal; with the time that is `left`, or else the time that has passed."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from simnet import compiled

    time_column = TimeRemainingColumn() if left else TimeElapsedColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), time_column)
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=WHOLE_RUN_S) as bar:
        first = "compiling the mechanisms (once, about a minute)" if compiles and compiled.is_fresh() else what
        task = bar.add_task(first, total=None if first != what else 1.0)

        def show(doing: str, share: float) -> None:
            if not (compiles and compiled.is_fresh()):
                bar.update(task, description=f"{what}: {doing}", completed=share, total=1.0)

        yield show


def run_command(options: Namespace) -> int:
    """Simulate a scenario."""
    from simnet.scenario.loading import load

    scenario = load(options.scenario, options.set)
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers {options.workers}: at least 1")
    if options.replication is not None and not 0 <= options.replication < scenario.measure.replications:
        raise UserError(f"--replication {options.replication}: the run has replications 0 to {scenario.measure.replications - 1}")
    out = Path(options.out) if options.out else None
    if out is not None:
        from simnet.files import prepare

        prepare(out)
    from simnet.experiment.run import run

    with _progress(scenario.name) as progress:
        result = run(
            scenario,
            seed=options.seed,
            engine=options.engine,
            workers=options.workers,
            progress=progress,
            only=options.replication,
        )
    if options.json:
        _print_json(result.as_json())
    else:
        from simnet.report.text import result_table

        print(result_table(result))
    if out is not None:
        sys.stdout.flush()
        from simnet.report.files import write_result

        write_result(result, out)
    return 0


def explain_command(options: Namespace) -> int:
    """What limits, where packets and cycles go, what would help."""
    from simnet.experiment.again import question

    asked = question(options.name, options.set, options.seed)
    from simnet.experiment.explain import explain_question

    with _progress(asked.scenario.name) as progress:
        explanation = explain_question(asked, quick=options.quick, progress=progress)
    if options.json:
        _print_json(explanation.as_json())
    else:
        from simnet.report.explain import explanation_text

        print(explanation_text(explanation))
    return 0


def sweep_command(options: Namespace) -> int:
    """Run a design."""
    from simnet.experiment.sweep import sweep

    kept = "before another cell was finished"
    with _progress(options.design, left=True) as progress:

        def note(doing: str, share: float) -> None:
            nonlocal kept
            kept = f"{doing} are kept in {options.out}; --resume goes on"
            if progress is not None:
                progress(doing, share)

        try:
            done = sweep(
                options.design,
                out=options.out,
                seed=options.seed,
                jobs=options.jobs,
                resume=options.resume,
                dask=options.dask,
                progress=note,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(kept) from None
    if options.json:
        _print_json(done.as_json())
    else:
        from simnet.report.sweep import sweep_table

        print(sweep_table(done))
    return 1 if done.failed else 0


def validate_command(options: Namespace) -> int:
    """Hold the model against what is known."""
    from validation.suite import CHECKS, validate

    if options.scenarios is not None and options.scenarios < 1:
        raise UserError(f"--scenarios {options.scenarios}: at least 1")
    for name in options.checks:
        if name not in CHECKS:
            raise UserError(f"no check {name!r}; there are {', '.join(CHECKS)}{nearest(name, CHECKS)}")
    return validate(
        options.checks or [*CHECKS],
        as_json=options.json,
        out=Path(options.out) if options.out else None,
        scenarios=options.scenarios,
    )


def compare_command(options: Namespace) -> int:
    """The same packets through several scenarios."""
    from simnet.scenario.variants import load_variants

    labels, scenarios = zip(*load_variants(options.scenarios, options.set), strict=True)
    out = Path(options.out) if options.out else None
    if out is not None:
        from simnet.files import prepare

        prepare(out)
    from simnet.experiment.compare import compare

    with _progress("comparison") as progress:
        comparison = compare(scenarios, labels=labels, seed=options.seed, progress=progress)
    if options.json:
        _print_json(comparison.as_json())
    else:
        from simnet.report.compare import comparison_text

        print(comparison_text(comparison))
    if out is not None:
        sys.stdout.flush()
        from simnet.report.files import write_comparison

        write_comparison(comparison, out)
    return 0


def pin_command(options: Namespace) -> int:
    """Placements over the CPUs, ranked."""
    from simnet.scenario.loading import load

    if options.top < 1:
        raise UserError(f"--top {options.top}: at least 1")
    scenario = load(options.scenario, options.set)
    from simnet.experiment.pin import pin

    with _progress(scenario.name) as progress:
        ranking = pin(scenario, seed=options.seed, progress=progress)
    if options.json:
        _print_json(ranking.as_json())
    else:
        from simnet.report.pin import ranking_text

        print(ranking_text(ranking, options.top))
    return 0


def lesson_command(options: Namespace) -> int:
    """List the lessons, or open one."""
    from simnet.cli.lesson import as_json, lesson, lessons, open_lesson

    if options.name is not None:
        if options.json:
            raise UserError(f"lesson {options.name} --json: only the list of lessons is printed as JSON")
        open_lesson(lesson(options.name), edit=options.edit, port=options.port, headless=options.headless)
    if options.json:
        _print_json(as_json(lessons()))
        return 0
    print("lessons (simnet lesson NAME)")
    for each in lessons():
        print(f"  {each.name:<24}{each.title}\n  {'':<24}{each.question}")
    return 0


def report_command(options: Namespace) -> int:
    """One HTML page about what a folder holds."""
    from simnet.report.report import report

    with _progress(options.source) as progress:
        written = report(options.source, out=options.out, quick=options.quick, progress=progress)
    if options.json:
        _print_json(written.as_json())
    else:
        print("\n".join([*written.page.answer, "", f"The whole report: {written.out}"]))
    return 0


def trace_command(options: Namespace) -> int:
    """The last milliseconds of a replication, transition by transition."""
    from simnet.experiment.again import question
    from simnet.files import prepare_file

    asked = question(options.name, options.set, options.seed)
    files = {name: Path(path) for name in ("perfetto", "pcapng") if (path := getattr(options, name))}
    for name, path in files.items():
        prepare_file(path, f"--{name}")
    if "perfetto" in files:
        from simnet.report.perfetto import need_perfetto

        need_perfetto()
    from simnet.experiment.trace import trace
    from simnet.report.timeline import timeline_text, write_timeline

    with _progress(asked.scenario.name) as progress:
        timeline = trace(
            asked.scenario,
            last_ms=options.last_ms,
            until_ms=options.until_ms,
            replication=options.replication,
            seed=asked.seed,
            progress=progress,
        )
    for name, path in files.items():
        write_timeline(timeline, name, path)
    if options.json:
        _print_json({**timeline.as_json(), "files": {name: str(path) for name, path in files.items()}})
    else:
        print(timeline_text(timeline, files))
    return 0


def calibrate_command(options: Namespace) -> int:
    """Fit costs to a record; or to all that come with simnet."""
    from calibration.calibrate import calibrate
    from calibration.fit import Fit, parameter_set_yaml
    from calibration.residuals import draw_residuals
    from calibration.shipped import shipped_records
    from simnet.files import prepare_file, write_text, write_whole

    out, plot = (Path(name) if name else None for name in (options.out, options.plot))
    if out is not None and out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: a parameter set is a .yaml file")
    shipped = shipped_records()
    if options.record == "report":
        if out is not None or plot is not None:
            raise UserError("simnet calibrate report: --out and --plot go with one record; name one of " + ", ".join(shipped))
        results = {name: calibrate(folder) for name, folder in shipped.items()}
        if options.json:
            records = {name: result.as_json() for name, result in results.items()}
            _print_json({"schema": "simnet-calibrations/1", "records": records})
        else:
            print("\n\n".join(f"{name}\n{result.report()}" for name, result in results.items()))
        return 0
    for file, flag in ((out, "--out"), (plot, "--plot")):
        if file is not None:
            prepare_file(file, flag)
    result = calibrate(shipped.get(options.record, Path(options.record)))
    if not isinstance(result, Fit) and (out is not None or plot is not None):
        raise UserError("--out, --plot: two loads of a guest give no interval, so there is no parameter set; --json has the costs")
    if options.json:
        _print_json(result.as_json())
    else:
        print(result.report())
    if isinstance(result, Fit) and out is not None:
        write_text(out, parameter_set_yaml(result, out.stem))
    if isinstance(result, Fit) and plot is not None:
        fitted = result
        write_whole(plot, lambda path: draw_residuals(fitted, path))
    return 0


def capture_command(options: Namespace) -> int:
    """A real host."""
    actions = {"check": _capture_check, "plan": _capture_plan, "run": _capture_run, "restore": _capture_restore}
    return actions[options.action](options)


def _capture_check(options: Namespace) -> int:
    """Look at the host, and with --apply have it as wanted for a while."""
    from calibration.host.session import check_command

    return check_command(options)


def _capture_restore(options: Namespace) -> int:
    """Put back what a run that could not has left."""
    from calibration.host.session import restore_command

    return restore_command(options)


def _capture_plan(options: Namespace) -> int:
    """What a campaign would do."""
    from calibration.campaign import load_campaign
    from calibration.runner import plan
    from calibration.text import plan_text

    content = plan(load_campaign(options.campaign))
    if options.json:
        _print_json(content)
    else:
        print(plan_text(content))
    return 0


def _capture_run(options: Namespace) -> int:
    """Measure a campaign."""
    import signal

    from calibration.campaign import load_campaign
    from calibration.runner import SUMMARY_SCHEMA, run, summary
    from calibration.text import summary_text

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    campaign, kept = load_campaign(options.campaign), "before another window was finished"
    with _progress(campaign.content.name, left=True, compiles=False) as progress:

        def note(doing: str, share: float) -> None:
            nonlocal kept
            kept = f"{doing} are kept in {options.out}; --resume goes on"
            if progress is not None:
                progress(doing, share)

        before = signal.signal(signal.SIGTERM, stop)
        try:
            done = run(campaign, Path(options.out), resume=options.resume, note=options.note, progress=note)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(kept) from None
        finally:
            signal.signal(signal.SIGTERM, before)
    lines = summary(done.rows)
    if options.json:
        _print_json({"schema": SUMMARY_SCHEMA, "record": done.about, "points": lines})
    else:
        print(summary_text(done.about, lines, options.out))
    return 0
