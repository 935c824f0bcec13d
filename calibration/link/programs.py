"""What generates: the kernel's pktgen, or any command. Each is shell scripts for the other host: begin, halt, result, and end, which leaves nothing.

After `begin` the shell over there knows the process as `$generator`. Every generator ends by itself some time after its window would have, so that
one that nobody can stop any more does not go on for ever.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.link.settings import Generator

if TYPE_CHECKING:
    from calibration.campaign import Point

PKTGEN = "/proc/net/pktgen"
FIRST_PORT = 1024
FCS_BYTES = 4
SPARE_S = 30.0
"""How long after its window a generator that nobody stops goes on."""
_NS_PER_S = 10**9


@dataclass(frozen=True)
class Demand:
    """What is asked of a generator; it stops by itself after `seconds`."""

    kpps: float
    frame_bytes: int
    flows: int
    seconds: float


_PUT = f'put() {{ echo "$2" > {PKTGEN}/$1 || {{ echo "pktgen refuses: $2" >&2; exit 3; }}; }}'
"""One line for one of pktgen's files; to be called in a shell of its own, which ends with the first refusal."""


class Pktgen:
    """The kernel's packet generator (net/core/pktgen.c), a kernel thread per CPU; thread and queue n send what is added as INTERFACE@n."""

    name = "pktgen"
    missing = f"test -e {PKTGEN}/pgctrl"
    how_to_have_it = "modprobe pktgen, as root over there"
    in_use = f"grep -hE '^(Running|Stopped): +[^ ]' {PKTGEN}/kpktgend_* | head -n 1"
    halt = (
        f'test -z "$generator" || {{ kill "$generator"; wait "$generator"; }} 2>/dev/null; generator=; echo stop > {PKTGEN}/pgctrl'
    )
    """Older kernels keep a lock while one writes "start", so the writer ends first; a signal makes it stop the threads."""
    end = f"{halt}; echo reset > {PKTGEN}/pgctrl"
    by_hand = f"echo stop > {PKTGEN}/pgctrl; echo reset > {PKTGEN}/pgctrl"

    def __init__(self, settings: Generator) -> None:
        self._settings = settings
        self.result = f"cat {' '.join(f'{PKTGEN}/{device}' for device in self._devices)}"

    @property
    def _devices(self) -> list[str]:
        return [f"{self._settings.interface}@{number}" for number in range(self._settings.threads)]

    def begin(self, demand: Demand) -> str:
        """Set up and start; the first line that the kernel refuses ends it."""
        of_each = demand.kpps * 1e3 / self._settings.threads
        writes = [("pgctrl", "reset")]
        for number, device in enumerate(self._devices):
            thread = f"kpktgend_{number}"
            writes += [(thread, f"add_device {device}")]
            lines = [
                f"count {max(1, round(of_each * demand.seconds))}",
                "clone_skb 0",
                f"pkt_size {demand.frame_bytes - FCS_BYTES}",
                f"delay {round(_NS_PER_S / of_each)}",
                f"queue_map_min {number}",
                f"queue_map_max {number}",
                "src_min 198.18.0.1",
                "src_max 198.18.0.1",
                "dst 198.18.0.2",
                f"dst_mac {self._settings.destination}",
                f"udp_src_min {FIRST_PORT}",
                f"udp_src_max {FIRST_PORT + demand.flows}",  # the first port that is not used
                "udp_dst_min 9",
                "udp_dst_max 9",
                *self._settings.options,
            ]
            writes += [(device, line) for line in lines]
        set_up = "\n".join(f"  put {file} {shlex.quote(words)}" for file, words in writes)
        return f"{_PUT}\n(\n{set_up}\n) && {{ sh -c 'echo start > {PKTGEN}/pgctrl' & generator=$!; }}"


class Command:
    """A command of the user's, in a process group of its own."""

    name = "command"
    missing = "command -v setsid timeout > /dev/null"
    how_to_have_it = "install setsid and timeout (util-linux, coreutils) over there"
    in_use = ":"
    halt = (
        'test -z "$generator" || { kill -s TERM -- "-$generator"; sleep 0.1; kill -s KILL -- "-$generator"; '
        'wait "$generator"; } 2>/dev/null; generator='
    )
    end = halt
    by_hand = "end the generator's command there; it also ends by itself"
    result = ":"

    def __init__(self, settings: Generator) -> None:
        self._settings = settings

    def begin(self, demand: Demand) -> str:
        """Start it."""
        assert self._settings.command is not None
        line = self._settings.command.format(
            interface=self._settings.interface,
            destination=self._settings.destination,
            kpps=f"{demand.kpps:g}",
            pps=round(demand.kpps * 1e3),
            frame_bytes=demand.frame_bytes,
            flows=demand.flows,
        )
        # --foreground: timeout stays in the process group that setsid made, so that one signal reaches all of it
        quoted = shlex.quote(line)
        return f"setsid timeout --foreground --kill-after=1 {demand.seconds:.0f} sh -c {quoted} > /dev/null & generator=$!"


Program = Pktgen | Command


def program(settings: Generator) -> Program:
    """The generator that a campaign asks for."""
    return Pktgen(settings) if settings.program == "pktgen" else Command(settings)


def script_of(settings: Generator, point: Point) -> str:
    """What the other host would be told for a point; for people to read before it is."""
    chosen = program(settings)
    return f"{chosen.begin(Demand(point.offered_kpps, point.frame_bytes, point.flows, SPARE_S))}\n{chosen.end}"
