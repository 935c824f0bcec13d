"""One shell on the other host for as long as a campaign lasts: scripts go in, what they print comes back.

The shell holds what must end with the campaign: when its standard input ends, because the campaign ended in whatever way or the connection
broke, it runs what it was told to run last (`trap ... EXIT`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence

from simnet.errors import UserError

ANSWER_S = 20.0
"""How long a script may take that does nothing but read or write settings."""
_ENDING_S = 10.0
_ERROR_BYTES = 4096


class GeneratorError(UserError):
    """The generator or its host failed; the window does not count, and another may. `reason` has no names of hosts."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class OtherHost:
    """A shell over there.

    Parameters
    ----------
    prefix
        The command that runs a line of shell over there.

    Raises
    ------
    GeneratorError
        If it cannot be reached.
    """

    def __init__(self, prefix: Sequence[str]) -> None:
        self._marker, self._asked = secrets.token_hex(8), 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._rest = b""
        try:
            self._process = subprocess.Popen(
                [*prefix, "exec sh"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for this program, which then ends the shell in good order
                bufsize=0,
            )
        except OSError as error:
            self._errors.close()
            raise GeneratorError("the generator's host cannot be reached", f"{prefix[0]}: {error.strerror}") from None
        try:
            self.run("generator=")
        except BaseException:
            self.close()
            raise

    def run(self, script: str, seconds: float = ANSWER_S) -> str:
        """What a script prints.

        Raises
        ------
        GeneratorError
            If it fails, or the other host does not answer.
        """
        status, text = self.attempt(script, seconds)
        if status:
            raise GeneratorError(
                f"the generator's host refused what it was asked (exit status {status})", self.last_error() or text
            )
        return text

    def attempt(self, script: str, seconds: float = ANSWER_S) -> tuple[int, str]:
        """Exit status of a script, and what it prints.

        Raises
        ------
        GeneratorError
            If the other host does not answer.
        """
        # In this shell, not in one of its own: `generator=$!` must be known to the next script.
        self._asked += 1  # an answer to a question that was given up is told from this one's
        message = f"{{ {script}\n}} </dev/null; printf '\\n{self._marker}-{self._asked} %s\\n' $?\n"
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(message.encode())
        except OSError:
            raise self._gone() from None
        return self._answer(seconds)

    def _answer(self, seconds: float) -> tuple[int, str]:
        limit, marker = time.monotonic() + seconds, f"\n{self._marker}-{self._asked} ".encode()
        assert self._process.stdout is not None
        while True:
            text, found, tail = self._rest.partition(marker)
            if found and b"\n" in tail:
                status, _, self._rest = tail.partition(b"\n")
                return int(status), text.decode(errors="replace").strip()
            left = limit - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise GeneratorError(f"the generator's host has not answered for {seconds:g} s", self.last_error())
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise self._gone()
            self._rest += part

    def _gone(self) -> GeneratorError:
        """The connection ended."""
        try:
            status = self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            status = 0
        return GeneratorError(f"the generator's host is out of reach (exit status {status})", self.last_error())

    def at_end(self, script: str) -> None:
        """Have the shell run a script when it ends, however it ends, short of SIGKILL."""
        self.run(f"trap {shlex.quote(script)} EXIT; trap 'exit 1' HUP INT TERM PIPE")

    def last_error(self) -> str:
        """The last line that came on standard error."""
        descriptor = self._errors.fileno()
        length = os.fstat(descriptor).st_size
        text = os.pread(descriptor, _ERROR_BYTES, max(0, length - _ERROR_BYTES))  # the other process goes on writing where it was
        lines = text.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def forget_errors(self) -> None:
        """Begin to collect anew."""
        os.lseek(self._errors.fileno(), 0, os.SEEK_SET)
        os.ftruncate(self._errors.fileno(), 0)

    def close(self) -> None:
        """End the shell, and wait until it has done what it does at its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
