"""What goes wrong in ways a user can mend."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: one message, exit status 2, no traceback.

    The message says where it is, what was given, what is allowed and the nearest name.
    """


class NotFoundError(UserError):
    """Something that was named is not there; whoever named it can say where."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """'; did you mean ...?' for the allowed name closest to `given`, or nothing if none is close."""
    import difflib

    close = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
