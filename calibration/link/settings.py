"""What a campaign says about a link: the port here, and the generator on the other host."""

from __future__ import annotations

import string
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Interface = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}$")]
Mac = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$")]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]

PLACEHOLDERS = {
    "interface": "the interface that sends",
    "destination": "the MAC address that frames go to",
    "kpps": "the rate, thousands of packets a second",
    "pps": "the rate, packets a second, a whole number",
    "frame_bytes": "length of a frame with its FCS",
    "flows": "how many flows",
}
"""What a generator's command is told."""
SSH = (
    *("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2", "-o", "ClearAllForwardings=yes"),
)
"""It never asks for a password, and notices within ten seconds that the other host is gone."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Generator(_Section):
    """The other host: how it is reached, where it sends, and with what.

    `ssh` is what stands behind the ssh command; `reach` is any command that, given one line of shell more, runs it over there, such as
    `[ssh, -J, jump, root@sender]` or `[nsenter, --target, "42", --net, sh, -c]`.
    """

    ssh: Annotated[str, Field(pattern=r"^[^\s-]\S*$")] | None = None
    reach: Annotated[list[Line], Field(min_length=1)] | None = None
    interface: Interface
    destination: Mac
    program: Literal["pktgen", "command"] = "pktgen"
    command: Line | None = None
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    options: list[Line] = []

    @model_validator(mode="after")
    def _that_go_together(self) -> Self:
        if (self.ssh is None) == (self.reach is None):
            raise ValueError("ssh or reach: one of them says how the generator's host is reached")
        if (self.program == "command") != (self.command is not None):
            raise ValueError("command: needed with program command, and only then")
        if self.command is not None:
            if self.threads > 1 or self.options:
                raise ValueError("threads and options are pktgen's; a command says for itself")
            _check_template(self.command)
        if int(self.destination[:2], 16) & 1:
            raise ValueError("destination: the address of one port, not a group's")
        return self

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command that runs a line of shell over there."""
        return (*SSH, self.ssh) if self.ssh is not None else tuple(self.reach or ())


def _check_template(command: str) -> None:
    allowed = ", ".join(PLACEHOLDERS)
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(command) if name is not None}
    except ValueError as error:
        raise ValueError(f"command: {error}; a brace that is meant is written twice") from None
    if unknown := sorted(names - PLACEHOLDERS.keys()):
        raise ValueError(f"command: no {{{unknown[0]}}}; there are {allowed}")
    if "interface" not in names:
        raise ValueError("command: has no {interface}, so it would not know where to send")


class Link(_Section):
    """The port of this host that captures, and the generator.

    `stray_packets`: how many frames that are not the generator's a window may have on the link, either way, before it is rejected (LLDP, ARP).
    `retry_seconds`: how long between two calls to a generator's host that was lost.
    """

    interface: Interface
    generator: Generator
    stray_packets: Annotated[int, Field(ge=0)] = 10
    retry_seconds: Annotated[float, Field(ge=0, le=600)] = 5.0
