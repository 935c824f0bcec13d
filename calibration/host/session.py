"""`simnet capture check` and `simnet capture restore`: what they print, and how long a host stays tuned."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from calibration.host import journal as journals
from calibration.host.access import Host
from calibration.host.check import check, choose, content, cpus_of, outcomes_text, table
from calibration.host.cpus import online_cpus
from calibration.host.operation import RING, Operation, Wish
from calibration.host.operations import operations
from calibration.host.routes import find
from calibration.host.tuning import Outcome, apply, check_allowed, put_back, tuned
from simnet.errors import UserError

RESTORE_SCHEMA: Final = "simnet-capture-restore/1"
PATIENCE_SECONDS: Final = 10
"""How long a program may take to end before the host is put back without it."""


def check_command(options: Namespace, host: Host | None = None) -> int:
    """Print what is and what should be; with --apply make it so.

    Returns
    -------
    int
        0 if everything is as it should be (with --apply: was taken and put back), 1 if not; the program's exit status if one was run.
    """
    host = host or Host()
    find(host, options.interface)
    wish = _wish(options, host)
    chosen = choose(operations(options.interface, wish), options.only)
    if not options.apply:
        if options.keep or options.program:
            raise UserError(f"{'--keep' if options.keep else options.program[0]}: only with --apply")
        found = check(host, options.interface, wish, chosen)
        _print(content(found) if options.json else f"{table(found, _width())}{_waiting(options)}")
        return 0 if found.as_wanted else 1
    if options.keep and options.program:
        raise UserError(f"{options.program[0]}: not with --keep, which does not wait for a program")
    return _apply_and_keep(host, chosen, options) if options.keep else _apply_for_a_while(host, chosen, options, wish)


def restore_command(options: Namespace, host: Host | None = None) -> int:
    """Put back what the journal says was there.

    Returns
    -------
    int
        0 if it is all there again, 1 if something is not; then the journal stays.
    """
    state = _state(options)
    if options.forget:
        return _forget(state, options.json)
    host = host or Host()
    if not (state / journals.FILE).exists():
        _print(_restored([], state) if options.json else f"Nothing to put back ({state / journals.FILE} is not there).")
        return 0
    with journals.locked(state):
        if not host.may_change():
            raise UserError("changing settings of the host needs root")
        outcomes = put_back(host, state)
    _print(_restored(outcomes, state) if options.json else outcomes_text(outcomes, _put_back_words(outcomes)))
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def _apply_for_a_while(host: Host, chosen: Sequence[Operation], options: Namespace, wish: Wish) -> int:
    """Until Ctrl-C, another signal that ends a process, or the program's end."""
    left: list[Outcome] = []

    def report(outcomes: list[Outcome]) -> None:
        left.extend(outcome for outcome in outcomes if outcome.problem)
        print(f"simnet: {outcomes_text(outcomes, _put_back_words(outcomes))}", file=sys.stderr, flush=True)

    if options.program and shutil.which(options.program[0]) is None:
        raise UserError(f"{options.program[0]}: no such program")
    status, refused = 0, False
    try:
        with tuned(host, chosen, _state(options), report) as outcomes:
            refused = any(outcome.problem for outcome in outcomes)
            if options.json:
                _print(content(check(host, options.interface, wish, chosen), outcomes))
            else:
                _print(outcomes_text(outcomes, "changed"))
            if options.program:
                status = _run(options.program)
            else:
                print("simnet: Ctrl-C puts everything back", file=sys.stderr, flush=True)
                while True:
                    signal.pause()
    except KeyboardInterrupt:
        if options.program:
            raise
        return 1 if left or refused else 0
    return status or (1 if left else 0)


def _apply_and_keep(host: Host, chosen: Sequence[Operation], options: Namespace) -> int:
    state = _state(options)
    with journals.locked(state):
        check_allowed(host, chosen, state)
        outcomes = apply(host, chosen, state)
    if options.json:
        _print(content(check(host, options.interface, _wish(options, host), chosen), outcomes))
    else:
        _print(outcomes_text(outcomes, "changed"))
        if outcomes:
            _print("simnet capture restore puts everything back.")
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def _run(program: list[str]) -> int:
    """Run the user's program; a signal that ends simnet ends it too."""
    with subprocess.Popen(program) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE_SECONDS)
            child.kill()
            raise


def _forget(state: Path, as_json: bool) -> int:
    file = state / journals.FILE
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    with journals.locked(state):
        journals.remove(state)
    _print({"schema": RESTORE_SCHEMA, "forgotten": text.splitlines()} if as_json else f"{text}Forgotten: {file}")
    return 0


def _restored(outcomes: Sequence[Outcome], state: Path) -> dict[str, Any]:
    left = (state / journals.FILE).exists()
    return {"schema": RESTORE_SCHEMA, "complete": not left, "settings": [asdict(outcome) for outcome in outcomes]}


def _put_back_words(outcomes: Sequence[Outcome]) -> str:
    gone = sum(outcome.gone for outcome in outcomes)
    untouched = sum(not (outcome.changed or outcome.problem or outcome.gone) for outcome in outcomes)
    notes = [*([f"{untouched} as before"] if untouched else []), *([f"{gone} gone with the interface"] if gone else [])]
    return "put back" + (f" ({', '.join(notes)})" if notes else "")


def _waiting(options: Namespace) -> str:
    """A word about what an earlier run has left, if it has."""
    state = _state(options)
    left = (state / journals.FILE).exists()
    return f"\nAn earlier run has left settings changed; simnet capture restore puts them back ({state})." if left else ""


def _wish(options: Namespace, host: Host) -> Wish:
    for name, value, least in (("--ring", options.ring, 1), ("--usecs", options.usecs, 0)):
        if value is not None and value < least:
            raise UserError(f"{name} {value}: at least {least}")
    return Wish(cpus_of(options.cpus, online_cpus(host)), RING if options.ring is None else options.ring, options.usecs)


def _state(options: Namespace) -> Path:
    return Path(options.state) if options.state else journals.default_state()


def _width() -> int:
    return max(60, shutil.get_terminal_size().columns)


def _print(what: Any) -> None:
    print(json.dumps(what, indent=1) if isinstance(what, dict) else what, flush=True)
