"""`simnet capture`: a real host, looked at and tuned (check, restore) or measured (plan, run)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from simnet.cli.options import json_option
from simnet.cli.terminal import print_json, resumable_progress

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its actions, each with its arguments."""
    parser = commands.add_parser("capture", help="a real host: how it is set, how it should be, and back again")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for add_action in (_add_check, _add_restore, _add_plan, _add_run):
        add_action(actions)


def _state_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="where what was there is written down (default /var/lib/simnet, or the user's state directory)",
    )


def _campaign_argument(parser: ArgumentParser) -> None:
    parser.add_argument("campaign", help="a built-in name such as lab/veth, or a .yaml file")


def _add_check(actions: Commands) -> None:
    parser = actions.add_parser(
        "check", help="what the host is, what it should be for a measurement, and why; changes nothing by itself"
    )
    parser.add_argument("--interface", required=True, metavar="IF", help="the interface that captures")
    parser.add_argument("--cpus", metavar="LIST", help="CPUs that receive, such as 2-5 (default: those of the NIC's NUMA node)")
    parser.add_argument("--ring", type=int, default=None, metavar="N", help="descriptors of a receive ring (default 4096)")
    parser.add_argument("--usecs", type=int, default=None, metavar="N", help="interrupt moderation (default: as it is, but fixed)")
    parser.add_argument("--only", metavar="NAMES", help="only these settings, such as rings,irq-affinity")
    parser.add_argument(
        "--apply", action="store_true", help="set it so, until Ctrl-C or the program's end, and put back what was there"
    )
    parser.add_argument("--keep", action="store_true", help="with --apply: leave it so; simnet capture restore puts it back")
    parser.add_argument("program", nargs="*", metavar="-- PROGRAM", help="with --apply: run this program meanwhile")
    _state_option(parser)
    json_option(parser)
    parser.set_defaults(act=_check)


def _check(options: Namespace) -> int:
    """Look at the host, and with --apply have it as wanted for a while."""
    from calibration.host.session import check_command

    return check_command(options)


def _add_restore(actions: Commands) -> None:
    parser = actions.add_parser("restore", help="put back what was there before a run that was killed, or before a crash")
    parser.add_argument("--forget", action="store_true", help="put nothing back and drop what is written down, after printing it")
    _state_option(parser)
    json_option(parser)
    parser.set_defaults(act=_restore)


def _restore(options: Namespace) -> int:
    """Put back what a run that could not has left."""
    from calibration.host.session import restore_command

    return restore_command(options)


def _add_plan(actions: Commands) -> None:
    parser = actions.add_parser("plan", help="what a campaign measures, how long it takes and what it changes; changes nothing")
    _campaign_argument(parser)
    json_option(parser)
    parser.set_defaults(act=_plan)


def _plan(options: Namespace) -> int:
    """What a campaign would do."""
    from calibration.campaign import load_campaign
    from calibration.runner import plan
    from calibration.text import plan_text

    content = plan(load_campaign(options.campaign))
    if options.json:
        print_json(content)
    else:
        print(plan_text(content))
    return 0


def _add_run(actions: Commands) -> None:
    parser = actions.add_parser("run", help="measure a campaign, in network namespaces or on a link, and write a record")
    _campaign_argument(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="where the record goes")
    parser.add_argument("--resume", action="store_true", help="go on with what an earlier run left in DIR")
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="free text for the record, which has no names of hosts otherwise"
    )
    json_option(parser)
    parser.set_defaults(act=_run)


def _run(options: Namespace) -> int:
    """Measure a campaign; SIGTERM ends it as Ctrl-C does."""
    import signal
    from pathlib import Path

    from calibration.campaign import load_campaign
    from calibration.runner import SUMMARY_SCHEMA, run, summary
    from calibration.text import summary_text

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    campaign = load_campaign(options.campaign)
    with resumable_progress(campaign.content.name, "window", options.out, compiles=False) as progress:
        before = signal.signal(signal.SIGTERM, stop)
        try:
            done = run(campaign, Path(options.out), resume=options.resume, note=options.note, progress=progress)
        finally:
            signal.signal(signal.SIGTERM, before)
    lines = summary(done.rows)
    if options.json:
        print_json({"schema": SUMMARY_SCHEMA, "record": done.about, "points": lines})
    else:
        print(summary_text(done.about, lines, options.out))
    return 0
