"""Arguments that several commands have."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[ArgumentParser]
    """Where a command adds itself."""


def json_option(parser: ArgumentParser) -> None:
    """Output for programs."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")


def set_options(parser: ArgumentParser) -> None:
    """Changes of a scenario, all of them in `set`."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field, such as traffic.frame_bytes=256"
    )
    parser.add_argument(
        "--pretend",
        dest="set",
        action="append_const",
        const="pretend=true",
        help="as if the host had hardware that it does not have; results say so",
    )
    parser.add_argument(
        "--parameters",
        dest="set",
        action="append",
        type="parameters={}".format,
        metavar="SET",
        help="costs of another parameter set: a name or a .yaml file",
    )
