"""`simnet lesson`: list the lessons, or open one."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from simnet.cli.terminal import print_json
from simnet.errors import UserError

if TYPE_CHECKING:
    from simnet.cli.options import Commands


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = commands.add_parser("lesson", help="open a lesson in the browser, or list them")
    parser.add_argument("name", nargs="?", metavar="NAME", help="such as livelock (default: list all)")
    parser.add_argument("--edit", action="store_true", help="open a copy in this folder, NAME.py, with its code, to change it")
    parser.add_argument("--port", type=int, default=None, metavar="N", help="port on this machine (default: a free one)")
    parser.add_argument("--headless", action="store_true", help="serve it, but open no browser")
    parser.add_argument("--json", action="store_true", help="list the lessons as one JSON object")
    parser.set_defaults(act=act)


def act(options: Namespace) -> int:
    """Hand over to marimo, or print the list."""
    from simnet.cli.lessons import as_json, lesson, lessons, open_lesson

    if options.name is not None:
        if options.json:
            raise UserError(f"lesson {options.name} --json: only the list of lessons is printed as JSON")
        open_lesson(lesson(options.name), edit=options.edit, port=options.port, headless=options.headless)
    if options.json:
        print_json(as_json(lessons()))
        return 0
    print("lessons (simnet lesson NAME)")
    for each in lessons():
        print(f"  {each.name:<24}{each.title}\n  {'':<24}{each.question}")
    return 0
