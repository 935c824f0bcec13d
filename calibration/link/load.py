"""Load from the other host: it starts, stops and counts like a generator of the lab, only that its counter is asked for over a shell."""

from __future__ import annotations

import json
import re
import time

from calibration.link.other_host import GeneratorError, OtherHost
from calibration.link.programs import SPARE_S, Demand, Program

_STOP_S, _LONGEST_START_S, _LOOK_S = 15.0, 10.0, 0.02


class RemoteLoad:
    """Load on a link.

    Parameters
    ----------
    host
        The other host.
    program
        What generates there.
    interface
        The interface there, whose transmit counter is believed, whatever the generator says.
    frame_bytes, flows
        Frame length with FCS.
    seconds
        How long the load is needed; the generator ends by itself half a minute later.
    """

    worker = None
    skipped = 0

    def __init__(self, host: OtherHost, program: Program, interface: str, frame_bytes: int, flows: int, seconds: float) -> None:
        self._host, self._program, self._interface = host, program, interface
        self._frame_bytes, self._flows, self._seconds = frame_bytes, flows, seconds + SPARE_S
        self.sends = False
        self.says: int | None = None
        """What pktgen itself says it has sent."""
        self._first, _ = self._count()

    def start(self, kpps: float) -> None:
        """Begin to send; frames are on their way when this returns.

        Raises
        ------
        GeneratorError
            If the generator does not start, or nothing leaves by the interface.
        """
        self.sends = True
        self._host.forget_errors()
        self._host.run(self._program.begin(Demand(kpps, self._frame_bytes, self._flows, self._seconds)))
        limit = time.monotonic() + _LONGEST_START_S
        while not self.offered:
            self.check()
            if time.monotonic() > limit:
                raise GeneratorError(f"the generator has sent nothing for {_LONGEST_START_S:g} s", self._host.last_error())
            time.sleep(_LOOK_S)

    def read(self) -> tuple[int, int]:
        """Frames sent so far, and when by the other host's clock, nanoseconds.

        Raises
        ------
        GeneratorError
            If the generator, or its host, is gone.
        """
        count, at_ns = self._count()
        return count - self._first, at_ns

    def _count(self) -> tuple[int, int]:
        text = self._host.run(f"ip -s -j link show dev {self._interface} && echo && date +%s%N")
        try:
            counters, clock = text.strip().splitlines()[0], text.split()[-1]
            return int(json.loads(counters)[0]["stats64"]["tx"]["packets"]), int(clock)
        except (ValueError, KeyError, IndexError, TypeError):
            raise GeneratorError("the generator's host does not tell its transmit counter", text[:80]) from None

    def check(self) -> None:
        """See that the generator still runs.

        Raises
        ------
        GeneratorError
            If it does not.
        """
        if self._host.attempt('kill -0 "$generator" 2>/dev/null')[0]:
            status, _ = self._host.attempt('wait "$generator"')
            self._host.attempt("generator=")
            why = {126: "the command cannot be run", 127: "command not found"}.get(status, "before the window was over")
            raise GeneratorError(f"the generator ended by itself: {why} (exit status {status})", self._host.last_error())

    def stop(self) -> None:
        """Send no more, and see that it had not ended already.

        Raises
        ------
        GeneratorError
            If it had.
        """
        self.check()
        self.sends = False
        said = self._host.attempt(f"{self._program.halt}; {self._program.result}; {self._program.end}", _STOP_S)[1]
        counts = [int(number) for number in re.findall(r"pkts-sofar: (\d+)", said)]
        self.says = sum(counts) if counts else None

    @property
    def offered(self) -> int:
        """Frames that the other host has sent so far."""
        return self.read()[0]

    def close(self) -> None:
        """End it.

        Raises
        ------
        GeneratorError
            If the other host does not answer; then nobody knows whether it still sends.
        """
        if self.sends:
            self.sends = False
            self._host.attempt(self._program.end, _STOP_S)
