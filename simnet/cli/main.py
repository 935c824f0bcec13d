"""Arguments, exit status, and where output goes. What a command does is in `simnet.cli.commands`, imported only then."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Options = Callable[[argparse.ArgumentParser], None]
    """Adds options that several commands have."""

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130

EPILOGUE = """examples:
  simnet run paper/bare-metal
  simnet run paper/bare-metal --set capture.method=pf_packet --set traffic.frame_bytes=256 --json
  simnet run paper/bare-metal --set traffic.source=pcap --set traffic.pcap=trace.pcap
  simnet show paper/bare-metal
  simnet explain paper/vm
  simnet compare paper/vm :guest.io_cpus=7
  simnet pin paper/vm
  simnet sweep paper/factorial --out results
  simnet report results
  simnet validate theory
  simnet trace paper/vm --perfetto vm.pftrace --pcapng vm.pcapng
  simnet lesson livelock
  simnet capture check --interface eth1
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="simnet",
        description="Where do the packets go? A performance model of packet reception and capture on Linux.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def output(command: argparse.ArgumentParser) -> None:
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")

    def sets(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field, such as traffic.frame_bytes=256"
        )
        command.add_argument(
            "--pretend",
            dest="set",
            action="append_const",
            const="pretend=true",
            help="as if the host had hardware that it does not have; results say so",
        )
        command.add_argument(
            "--parameters",
            dest="set",
            action="append",
            type="parameters={}".format,
            metavar="SET",
            help="costs of another parameter set: a name or a .yaml file",
        )

    listing = commands.add_parser("list", help="built-in scenarios and parameter sets")
    output(listing)

    show = commands.add_parser("show", help="a scenario with everything resolved and the source of every cost, or a parameter set")
    show.add_argument("name", help="a scenario, a .yaml file, or a parameter set")
    sets(show)
    output(show)

    run = commands.add_parser("run", help="simulate a scenario")
    run.add_argument("scenario", help="a built-in name or a .yaml file")
    sets(run)
    run.add_argument("--seed", type=int, default=1, help="same scenario and seed: same result (default 1)")
    run.add_argument(
        "--engine", default="compiled", choices=("compiled", "simpy"), help="both give the same bytes (default compiled)"
    )
    run.add_argument(
        "--workers", type=int, default=None, metavar="N", help="threads (default: one a processor); does not change results"
    )
    run.add_argument(
        "--replication",
        type=int,
        default=None,
        metavar="K",
        help="run only replication K, over the window that the whole run measures",
    )
    run.add_argument("--out", metavar="DIR", help="also write result.json, samples.parquet and plots")
    output(run)

    explain = commands.add_parser("explain", help="what limits, where packets and cycles go, and what would help most")
    explain.add_argument("name", help="a built-in name, a .yaml file, a result.json or a folder with one")
    sets(explain)
    explain.add_argument("--seed", type=int, default=None, help="same scenario and seed: same answer (default: the result's, or 1)")
    explain.add_argument("--quick", action="store_true", help="only what one run shows: no elasticities, what-ifs and advice")
    output(explain)

    sweep = commands.add_parser("sweep", help="run all cells of an experimental design")
    sweep.add_argument("design", help="a built-in name or a .yaml file")
    sweep.add_argument("--out", metavar="DIR", required=True, help="where results go: a file a cell, and Parquet tables")
    sweep.add_argument("--resume", action="store_true", help="go on with what an earlier run left in DIR")
    sweep.add_argument("--seed", type=int, default=1, help="same design and seed: same results (default 1)")
    where = sweep.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=int, default=None, metavar="N", help="processes (default: one a processor); does not change results"
    )
    where.add_argument("--dask", metavar="ADDRESS", help="compute on the Dask cluster of this scheduler, such as tcp://host:8786")
    output(sweep)

    validate = commands.add_parser(
        "validate", help="hold the model against theory, its other engines, the paper, other measurements"
    )
    validate.add_argument("checks", nargs="*", metavar="CHECK", help="theory, engines, paper, published (default: all)")
    validate.add_argument("--scenarios", type=int, default=None, metavar="N", help="random scenarios for engines (default 200)")
    validate.add_argument("--out", metavar="DIR", help="also write tables and plots")
    output(validate)

    _compare_parser(commands, sets, output)
    _pin_parser(commands, sets, output)
    _lesson_parser(commands)
    _report_parser(commands, output)
    _trace_parser(commands, sets, output)
    _calibrate_parser(commands, output)
    _capture_parser(commands, output)
    return parser


def _compare_parser(commands: Commands, sets: Options, output: Options) -> None:
    compare = commands.add_parser("compare", help="the same packets through several scenarios: what differs, and why")
    compare.add_argument(
        "scenarios",
        nargs="+",
        metavar="SCENARIO",
        help="NAME or FILE.yaml, with changes as NAME:PATH=VALUE[,PATH=VALUE]; :PATH=VALUE is the first one with further changes",
    )
    sets(compare)
    compare.add_argument("--seed", type=int, default=1, help="same scenarios and seed: same comparison (default 1)")
    compare.add_argument("--out", metavar="DIR", help="also write comparison.json and comparison.png")
    output(compare)


def _pin_parser(commands: Commands, sets: Options, output: Options) -> None:
    pin = commands.add_parser("pin", help="which CPUs for NIC interrupts, I/O thread, vCPUs and process? every placement, ranked")
    pin.add_argument("scenario", help="a built-in name or a .yaml file")
    sets(pin)
    pin.add_argument("--seed", type=int, default=1, help="same scenario and seed: same ranking (default 1)")
    pin.add_argument("--top", type=int, default=12, metavar="N", help="placements in the table, and yours (default 12)")
    output(pin)


def _lesson_parser(commands: Commands) -> None:
    lesson = commands.add_parser("lesson", help="open a lesson in the browser, or list them")
    lesson.add_argument("name", nargs="?", metavar="NAME", help="such as livelock (default: list all)")
    lesson.add_argument("--edit", action="store_true", help="open a copy in this folder, NAME.py, with its code, to change it")
    lesson.add_argument("--port", type=int, default=None, metavar="N", help="port on this machine (default: a free one)")
    lesson.add_argument("--headless", action="store_true", help="serve it, but open no browser")
    lesson.add_argument("--json", action="store_true", help="list the lessons as one JSON object")


def _report_parser(commands: Commands, output: Options) -> None:
    report = commands.add_parser("report", help="one HTML page about a run, a sweep or a comparison: answer, charts, sources")
    report.add_argument("source", metavar="DIR", help="the folder that --out named")
    report.add_argument("--out", metavar="FILE", help="the page (default: report.html in DIR)")
    report.add_argument("--quick", action="store_true", help="only what one run shows: no load curve, what-ifs and advice")
    output(report)


def _trace_parser(commands: Commands, sets: Options, output: Options) -> None:
    trace = commands.add_parser("trace", help="the last milliseconds of a replication, as a Perfetto trace or a pcapng file")
    trace.add_argument("name", help="a built-in name, a .yaml file, a result.json or a folder with one")
    sets(trace)
    trace.add_argument(
        "--perfetto", metavar="FILE", help="write a trace for https://ui.perfetto.dev: cores, queues, sampled packets"
    )
    trace.add_argument("--pcapng", metavar="FILE", help="write what the simulated program stored in the window")
    trace.add_argument("--last-ms", type=float, default=10.0, metavar="MS", help="how long to look (default 10)")
    trace.add_argument(
        "--until-ms", type=float, default=None, metavar="MS", help="until when, in simulated time (default: end of pilot or replay)"
    )
    trace.add_argument("--replication", type=int, default=0, metavar="K", help="which replication (default 0)")
    trace.add_argument("--seed", type=int, default=None, help="as for run (default: the result's, or 1)")
    output(trace)


def _calibrate_parser(commands: Commands, output: Options) -> None:
    calibrate = commands.add_parser(
        "calibrate", help="fit costs to a record of `simnet capture run`, and predict what was held back"
    )
    calibrate.add_argument(
        "record", metavar="RECORD", help="the folder of a record, the name of one that comes with simnet, or `report`: all of those"
    )
    calibrate.add_argument("--out", metavar="SET", help="write the calibrated parameter set, a .yaml file")
    calibrate.add_argument(
        "--plot", metavar="FILE", help="draw measured and modelled load curves, and by how much the model is off"
    )
    output(calibrate)


def _capture_parser(commands: Commands, output: Options) -> None:
    capture = commands.add_parser("capture", help="a real host: how it is set, how it should be, and back again")
    actions = capture.add_subparsers(dest="action", metavar="ACTION", required=True)

    def state(action: argparse.ArgumentParser) -> None:
        action.add_argument(
            "--state",
            metavar="DIR",
            help="where what was there is written down (default /var/lib/simnet, or the user's state directory)",
        )

    check = actions.add_parser(
        "check", help="what the host is, what it should be for a measurement, and why; changes nothing by itself"
    )
    check.add_argument("--interface", required=True, metavar="IF", help="the interface that captures")
    check.add_argument("--cpus", metavar="LIST", help="CPUs that receive, such as 2-5 (default: those of the NIC's NUMA node)")
    check.add_argument("--ring", type=int, default=None, metavar="N", help="descriptors of a receive ring (default 4096)")
    check.add_argument("--usecs", type=int, default=None, metavar="N", help="interrupt moderation (default: as it is, but fixed)")
    check.add_argument("--only", metavar="NAMES", help="only these settings, such as rings,irq-affinity")
    check.add_argument(
        "--apply", action="store_true", help="set it so, until Ctrl-C or the program's end, and put back what was there"
    )
    check.add_argument("--keep", action="store_true", help="with --apply: leave it so; simnet capture restore puts it back")
    check.add_argument("program", nargs="*", metavar="-- PROGRAM", help="with --apply: run this program meanwhile")
    state(check)
    output(check)

    restore = actions.add_parser("restore", help="put back what was there before a run that was killed, or before a crash")
    restore.add_argument("--forget", action="store_true", help="put nothing back and drop what is written down, after printing it")
    state(restore)
    output(restore)

    plan = actions.add_parser("plan", help="what a campaign measures, how long it takes and what it changes; changes nothing")
    plan.add_argument("campaign", help="a built-in name such as lab/veth, or a .yaml file")
    output(plan)

    run = actions.add_parser("run", help="measure a campaign, in network namespaces or on a link, and write a record")
    run.add_argument("campaign", help="a built-in name such as lab/veth, or a .yaml file")
    run.add_argument("--out", metavar="DIR", required=True, help="where the record goes")
    run.add_argument("--resume", action="store_true", help="go on with what an earlier run left in DIR")
    run.add_argument("--note", default="", metavar="TEXT", help="free text for the record, which has no names of hosts otherwise")
    output(run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0 for success, 1 for a failed check or cell, 2 for a mistake of the user's, 130 after Ctrl-C.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from importlib.metadata import version

        print(version("simnet-rx"))
        return 0
    if options.command is None:
        parser.print_help()
        return EXIT_USER
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices; starting its threads costs time
    gc.set_threshold(100_000)  # importing makes many objects and hardly any garbage
    try:
        return _run(options)
    except KeyboardInterrupt as stop:
        _leave(": ".join(["interrupted", *map(str, stop.args)]), EXIT_INTERRUPTED)
    return EXIT_INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    """Run a command; its output is written when this returns."""
    from simnet.errors import UserError

    try:
        from simnet.cli import commands

        status = int(getattr(commands, f"{options.command}_command")(options))
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"simnet: {error}", file=sys.stderr)
    except BrokenPipeError:
        _close_output()
    except OSError as error:
        _close_output()
        print(f"simnet: standard output: {error.strerror}", file=sys.stderr)
    return EXIT_USER


def _close_output() -> None:
    """Nobody takes the output: do not try again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(message: str, status: int) -> None:
    """Leave at once: threads that compute or compile are not waited for. Files are written whole or not at all, so nothing is lost."""
    print(f"simnet: {message}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if threading.active_count() > 1:
        os._exit(status)
