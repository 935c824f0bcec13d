"""A capture program of the user's, such as tcpdump: started as it is, on the reader's CPU in the capturing namespace, and ended with SIGINT.

Its packets are counted in one of two ways. By what it says when it has ended, if the campaign has patterns for that: then the count is its own, but exists only at the end, so the
window is the whole life of the lab, from the first packet to the last one. Or by PACKET_STATISTICS of its packet sockets, read through descriptors of our own
(`pidfd_getfd`), at any time: then a packet counts as captured when it is in the socket's buffer, and what the program does with it later is not known. Reading resets them, so
that the program's own statistics of the kernel's drops are too small then.

Whether it is ready, and whether it has read everything, nobody tells: it is taken to be so when none of its threads has run for a while.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from calibration import syscalls
from calibration.capture.packet_socket import Statistics
from calibration.lab.topology import Lab
from calibration.workers import READY, Worker
from simnet.errors import UserError

INTERFACE = "{interface}"
"""Stands for the interface in the command line."""
_READY_S, _LONGEST_READY_S = 0.5, 10.0
_DONE_S, _LONGEST_DONE_S = 1.3, 5.0
"""Longer than the second after which tcpdump's ring hands over a block that is not full; a program that polls without a pause is never idle."""
_LONGEST_END_S = 10.0


class Program:
    """A running program.

    Parameters
    ----------
    lab
        Where.
    cpu
        Its CPU.
    command
        Its command line, in which `INTERFACE` stands for the interface.
    captured_pattern
        Regular expression for the number of packets it has captured; the last match in what it prints counts, and of that the first group, if there is one.
    dropped_pattern
        The same for those it has lost; tp_drops of its packet sockets if None.

    Attributes
    ----------
    counts_when_stopped
        Whether `captured` is 0 until `stop`.

    Raises
    ------
    UserError
        If it ends at once, or its packets cannot be counted.
    """

    needs_tap = False
    place = "program"

    def __init__(
        self, lab: Lab, cpu: int, command: Sequence[str], captured_pattern: str | None, dropped_pattern: str | None
    ) -> None:
        self.counts_when_stopped = captured_pattern is not None
        self._captured_pattern, self._dropped_pattern = captured_pattern, dropped_pattern
        self._captured = self._dropped = 0
        self._sockets: list[socket.socket] = []
        self._output = os.memfd_create("output")
        words = [word.replace(INTERFACE, lab.interface) for word in command]
        try:
            self.worker = Worker(__name__, cpu, lab.receiver, (self._output,), command=words, output=self._output)
        except BaseException:
            os.close(self._output)
            raise
        try:
            self._wait_until_idle(_READY_S, _LONGEST_READY_S)
            if dropped_pattern is None:
                self._sockets = packet_sockets(self.worker.pid)
                if not self._sockets:
                    missing = "captured_pattern and dropped_pattern are" if captured_pattern is None else "dropped_pattern is"
                    raise UserError(f"program: it has no packet socket, so what it loses cannot be known: {missing} needed")
            self._statistics = Statistics(*self._sockets)
        except BaseException:
            self.close()
            raise

    @property
    def captured(self) -> int:
        """Packets that it says it has, once it has ended; or packets that are or were in its buffer."""
        if self.counts_when_stopped:
            return self._captured
        self._statistics.read()
        return self._statistics.seen - self._statistics.dropped

    @property
    def dropped(self) -> int:
        """Packets that it says it lost, once it has ended; or tp_drops so far."""
        if self._dropped_pattern is not None:
            return self._dropped
        self._statistics.read()
        return self._statistics.dropped

    def counts(self) -> dict[str, int]:
        """Packets that the softirq had brought when `dropped` was last read, dropped ones among them (tp_packets), if it is not left to the program."""
        return {"socket_packets": self._statistics.seen} if self._sockets else {}

    def stop(self) -> None:
        """Let it read what it has, end it, and take what it says.

        Raises
        ------
        UserError
            If it does not end, or does not say.
        """
        self._wait_until_idle(_DONE_S, _LONGEST_DONE_S)
        if not self.worker.interrupt(_LONGEST_END_S):
            raise UserError(f"program: SIGINT does not end it within {_LONGEST_END_S:g} s; {self._said()}")
        text = self._text()
        self._captured = self._number("captured_pattern", self._captured_pattern, text)
        self._dropped = self._number("dropped_pattern", self._dropped_pattern, text)

    def _number(self, field: str, pattern: str | None, text: str) -> int:
        number = 0 if pattern is None else last_number(pattern, text)
        if number is None:
            raise UserError(f"{field}: {pattern!r} finds no number in what the program says; {self._said()}")
        return number

    def _text(self) -> str:
        size = os.fstat(self._output).st_size
        return os.pread(self._output, size, 0).decode(errors="replace")

    def _said(self) -> str:
        lines = self._text().strip().splitlines()
        return f"its last words: {lines[-1]!r}" if lines else "it said nothing"

    def _wait_until_idle(self, seconds: float, longest_s: float) -> None:
        """Wait until no thread of it has run for some time."""
        now = since = time.monotonic()
        limit, before = now + longest_s, -1
        while now < limit and now - since < seconds:
            time.sleep(0.02)
            if not self.worker.alive:
                raise UserError(f"program: it ended too early; {self._said()}")
            now, ran = time.monotonic(), ran_ns(self.worker.pid)
            if ran != before:
                since, before = now, ran

    def close(self) -> None:
        """End it, if it has not ended."""
        self.worker.interrupt(1.0)
        self.worker.close()
        for packet_socket in self._sockets:
            packet_socket.close()
        os.close(self._output)


def last_number(pattern: str, text: str) -> int | None:
    """The number in the last match of a pattern (in its first group, if it has one), thousands separated or not; None if there is none."""
    for match in reversed(list(re.finditer(pattern, text))):
        digits = (match.group(1 if match.re.groups else 0) or "").replace(",", "").strip()
        if digits.isdecimal():
            return int(digits)
    return None


def ran_ns(pid: int) -> int:
    """How long all threads of a process have run."""
    whole = 0
    with suppress(OSError):  # it ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                whole += int(file.read().split()[0])
    return whole


def packet_sockets(pid: int) -> list[socket.socket]:
    """The packet sockets that another process has open; each once."""
    found: dict[str, socket.socket] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # closed meanwhile
            link = os.readlink(f"/proc/{pid}/fd/{name}")
            if not link.startswith("socket:") or link in found:
                continue
            descriptor = syscalls.descriptor_of(pid, int(name))
            try:
                candidate = socket.socket(fileno=descriptor)
            except OSError:  # of a family without names, such as AF_XDP
                os.close(descriptor)
                continue
            if candidate.family == socket.AF_PACKET:
                found[link] = candidate
            else:
                candidate.close()
    return list(found.values())


def work(page: memoryview, command: list[str], output: int) -> None:
    """Become the program, which hears SIGINT even if simnet does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for standard in (1, 2):
        os.dup2(output, standard)
    page[READY] = 1
    os.execvp(command[0], command)
