"""A link for the time of a campaign: the other host is looked at, used window after window, and left as it was."""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack, closing
from typing import Any

from calibration.campaign import CampaignFile, Point
from calibration.capture import methods
from calibration.link.counters import LinkCounters
from calibration.link.load import RemoteLoad
from calibration.link.other_host import GeneratorError, OtherHost
from calibration.link.port import Port
from calibration.link.programs import program
from calibration.link.safety import refuse_over_there
from calibration.link.settings import Link
from calibration.window import Row, Wired
from simnet.errors import UserError

TRIES = 3
"""How often a host that was lost is called, and how many windows may fail one after the other."""
_QUIET_S = 2.5
"""Drivers bring counters of the hardware up to date every second or two."""


class LinkSession:
    """The link of a campaign.

    Raises
    ------
    UserError
        If the other host cannot be reached, or the interface there must not be used.
    """

    def __init__(self, settings: Link) -> None:
        self._settings = settings
        self._program = program(settings.generator)
        self.name = self._program.name
        self._host: OtherHost | None = None
        self._may_send = False
        self._failures = 0
        self._connect()

    def _connect(self) -> OtherHost:
        """The other host; called, and looked at, if there is no connection."""
        if self._host is not None:
            return self._host
        host = OtherHost(self._settings.generator.prefix)
        try:
            if self._may_send:
                host.attempt(self._program.end)
                self._may_send = False
            refuse_over_there(host, self._settings.generator, self._program)
            host.at_end(self._program.end)
        except BaseException:
            host.close()
            raise
        self._host = host
        return host

    def wire(self, stack: ExitStack, point: Point, settings: CampaignFile) -> Wired:
        """The port, a back end on it, and the generator over there."""
        window = settings.window
        host = self._connect()
        port = stack.enter_context(closing(Port(self._settings.interface)))
        backend = methods.start(point.method, port, point.placement.reader_cpu, settings)
        stack.callback(backend.close)
        seconds = window.warm_up_seconds + window.seconds + window.poll_trace_seconds
        load = RemoteLoad(host, self._program, self._settings.generator.interface, point.frame_bytes, point.flows, seconds)
        self._may_send = True
        stack.callback(load.close)
        counters = stack.enter_context(closing(LinkCounters(port, backend, load)))

        def after() -> Row:
            self._may_send, self._failures = False, 0
            return {"whole_arrived": counters.arrived} | ({} if load.says is None else {"generator_says": load.says})

        return Wired(port, backend, load, counters, after, _QUIET_S)

    def failed(self, error: GeneratorError) -> Row:
        """The row of a window in which the generator failed.

        Raises
        ------
        UserError
            If the other host does not come back, or window after window fails.
        """
        self._failures += 1
        self._drop()
        if self._failures >= TRIES:
            raise UserError(f"{self._failures} windows failed one after the other: {error}; finished windows are kept")
        for attempt in range(TRIES):
            try:
                self._connect()
                break
            except GeneratorError as again:
                if attempt == TRIES - 1:
                    by_hand, self._may_send = self._by_hand, False
                    raise UserError(f"{again}; it does not come back; finished windows are kept{by_hand}") from None
                time.sleep(self._settings.retry_seconds)
        return {"seconds": 0.0, "offered": 0, "captured": 0, "generator": self.name, "rejected": error.reason}

    def _drop(self) -> None:
        """End the generator, if the other host still listens, and the connection."""
        if self._host is not None:
            with contextlib.suppress(GeneratorError):
                self._host.attempt(self._program.end)
                self._may_send = False
            self._host.close()
            self._host = None

    @property
    def _by_hand(self) -> str:
        """What to do over there, if it may still send and nobody could tell it to stop."""
        return f"; it may still send: on that host, {self._program.by_hand}" if self._may_send else ""

    def facts(self) -> dict[str, Any]:
        """What a record says about both ends."""
        interface = self._settings.generator.interface
        with closing(Port(self._settings.interface)) as port:
            here = port.facts()
        host = self._connect()
        kernel, driver = host.attempt("uname -r")[1], host.attempt(f"readlink /sys/class/net/{interface}/device/driver")[1]
        return {**here, "generator_kernel": kernel, "generator_driver": driver.rpartition("/")[2]}

    def close(self) -> None:
        """Stop what is over there and end the connection.

        Raises
        ------
        UserError
            If the other host could not be told, with what to do by hand.
        """
        self._drop()
        if self._may_send:
            raise UserError(f"the generator's host could not be told to stop; finished windows are kept{self._by_hand}")
