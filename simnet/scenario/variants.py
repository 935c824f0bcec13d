"""Several scenarios on one command line: `paper/vm paper/vm:guest.io_cpus=7 :guest.reads=drain,capture.cpu=0`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from simnet.errors import UserError
from simnet.scenario.loading import Change, build, setting, stack
from simnet.scenario.schema import Scenario

_PATH = r"[A-Za-z_][\w-]*(?:\.[\w-]+)*="
_WITH_CHANGES = re.compile(rf"(.*?):({_PATH}.*)", re.DOTALL)
_NEXT_CHANGE = re.compile(rf",\s*(?={_PATH})")
"""A comma inside a value, as in [1, 3], is followed by something else."""


def split_variant(text: str) -> tuple[str, list[str]]:
    """The name and the changes 'path=value' of `NAME:PATH=VALUE,PATH=VALUE`."""
    if text.startswith(":"):
        return "", _NEXT_CHANGE.split(text[1:])
    found = _WITH_CHANGES.fullmatch(text)
    return (text, []) if found is None else (found[1], _NEXT_CHANGE.split(found[2]))


def _change(text: str, label: str) -> Change:
    return Change(*setting(text, label), label)


def load_variants(texts: Sequence[str], sets: Iterable[str] = ()) -> list[tuple[str, Scenario]]:
    """Load scenarios that may each have changes of their own.

    Parameters
    ----------
    texts
        `NAME`, `NAME:PATH=VALUE[,PATH=VALUE]`, or `:PATH=VALUE[,PATH=VALUE]` for the first one with further changes. NAME is a built-in name or
        a .yaml file.
    sets
        Changes 'path=value' to all of them; what a variant says itself comes after these.

    Returns
    -------
    list of (str, Scenario)
        The text of each, written out, and its scenario.

    Raises
    ------
    UserError
        As `simnet.load` does.
    """
    common = [_change(text, f"--set {text}") for text in sets]
    first_name, first_changes = split_variant(texts[0])
    if not first_name:
        raise UserError(f"{texts[0]}: the first scenario needs a name; only those after it may leave it out")
    loaded = []
    for text in texts:
        name, changes = split_variant(text)
        if not name:
            name, changes = first_name, [*first_changes, *changes]
        own = [_change(change, f"{name}:{change}") for change in changes]
        label = f"{name}:{','.join(changes)}" if changes else name
        loaded.append((label, build(stack(name), name, [*common, *own])))
    return loaded
