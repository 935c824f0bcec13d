"""The only door to the host: files under a root directory, links and routes, ethtool, programs.

ethtool goes through the kernel's ioctl (`SIOCETHTOOL`) by way of pyroute2: one system call reads or writes one kind of setting on every kernel and
driver. Not netlink: pyroute2 has messages for rings only, and older kernels have none. Not the `ethtool` command: it need not be installed, and a
child that outlives a killed parent could still write after a restore.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Value = str | int | bool
"""What a setting can be: the text of a file, a number, on or off."""

RINGS: Final = {"rx": "rx", "rx-max": "rx_max", "tx": "tx", "tx-max": "tx_max"}
CHANNELS: Final = {
    "rx": "rx_count",
    "rx-max": "max_rx",
    "tx": "tx_count",
    "tx-max": "max_tx",
    "combined": "combined_count",
    "combined-max": "max_combined",
}
COALESCE: Final = {
    "adaptive-rx": "use_adaptive_rx_coalesce",
    "rx-usecs": "rx_coalesce_usecs",
    "rx-frames": "rx_max_coalesced_frames",
    "adaptive-tx": "use_adaptive_tx_coalesce",
    "tx-usecs": "tx_coalesce_usecs",
    "tx-frames": "tx_max_coalesced_frames",
}
FIELDS: Final = {"rings": RINGS, "channels": CHANNELS, "coalesce": COALESCE}
"""The kernel's field of each name that ethtool prints, by kind (`ethtool -g`, `-l`, `-c`)."""
FLAGS: Final = ("adaptive-rx", "adaptive-tx")
COMMAND_SECONDS: Final = 30


class AbsentError(Exception):
    """This host, driver or environment does not have what was asked for; says what is missing."""


class RefusedError(Exception):
    """The kernel, the driver or a program refuses a change; says why."""


@dataclass(frozen=True)
class Link:
    """A network interface. `master` and `lower` are the indices of what it is a port of and of what it is stacked on."""

    index: int
    name: str
    address: str = ""
    kind: str = ""
    master: int | None = None
    lower: int | None = None


@dataclass(frozen=True)
class Route:
    """A unicast route of any table: length of its prefix, and the interfaces (indices) it leaves by."""

    family: str
    table: int
    prefix_length: int
    interfaces: tuple[int, ...]


class Host:
    """The host, or the copy of one below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        """The text of a file without the white space around it.

        Raises
        ------
        AbsentError
            If it is not there or cannot be read.
        """
        try:
            return self._at(path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise AbsentError(f"{path}: {error.strerror}") from None

    def write(self, path: str, text: str) -> None:
        """Write an existing file of sysfs or procfs in one system call.

        Raises
        ------
        RefusedError
            With the kernel's reason.
        """
        try:
            file = os.open(self._at(path), os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(file, text.encode() + b"\n")
            finally:
                os.close(file)
        except OSError as error:
            raise RefusedError(f"{path}: {_reason(error)}") from None

    def names(self, path: str) -> list[str]:
        """What is in a directory, numbers in the order of numbers; nothing if it is not there."""
        try:
            return sorted(os.listdir(self._at(path)), key=lambda name: (len(name), name))
        except OSError:
            return []

    def destination(self, path: str) -> str | None:
        """The last part of where a symbolic link leads, such as the PCI address behind `device`."""
        try:
            return os.path.basename(os.readlink(self._at(path)))
        except OSError:
            return None

    def may_change(self) -> bool:
        """Whether this process is root."""
        return os.geteuid() == 0

    def run(self, *command: str) -> None:
        """Run a program to its end.

        Raises
        ------
        RefusedError
            If it is not there, fails, or takes more than half a minute.
        """
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        except FileNotFoundError:
            raise RefusedError(f"{command[0]} is not installed; do it by hand: {' '.join(command)}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RefusedError(f"{' '.join(command)}: {error}") from None
        if done.returncode:
            raise RefusedError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")

    def links(self) -> list[Link]:
        """All interfaces of this process's network namespace (netlink).

        Raises
        ------
        AbsentError
            Without pyroute2.
        """
        with _netlink() as netlink:
            return [_link(message) for message in netlink.get_links()]

    def broad_routes(self) -> list[Route]:
        """The routes of all tables, IPv4 and IPv6, that lead anywhere: default routes, and the halves (/1) that stand in for one.

        Raises
        ------
        AbsentError
            Without pyroute2.
        """
        import socket

        found = []
        with _netlink() as netlink:
            for family, name in ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")):
                found += [
                    _route(message, name)
                    for message in netlink.get_routes(family=family)
                    if message["dst_len"] <= 1 and message["type"] == UNICAST
                ]
        return found

    def ethtool(self, kind: str, interface: str) -> dict[str, Value]:
        """Settings of an interface under the names that ethtool prints.

        Parameters
        ----------
        kind
            `rings`, `channels`, `coalesce`, `features` (those that can be changed) or `statistics`.

        Raises
        ------
        AbsentError
            If the driver does not have it, or pyroute2 is missing.
        """
        try:
            with _nic(interface) as nic:
                if kind == "features":
                    features = nic.get_features()
                    names = [name for name in features.keys() if name]  # noqa: SIM118 (iterating gives something else)
                    return {
                        n: features.is_active(n) for n in names if features.is_available(n) and not features.is_never_changed(n)
                    }
                if kind == "statistics":
                    return {str(name): int(count) for name, count in nic.get_statistics()}
                now = getattr(nic, f"get_{kind}")()
                fields = FIELDS[kind].items()
                return {name: bool(now[field]) if name in FLAGS else int(now[field]) for name, field in fields}
        except OSError as error:
            raise AbsentError(f"the driver has no {kind} settings: {_reason(error)}") from None
        except _unsupported() as error:
            raise AbsentError(f"the driver has no {kind} settings") from error

    def set_ethtool(self, kind: str, interface: str, name: str, value: Value) -> None:
        """Change one setting.

        Raises
        ------
        RefusedError
            With the kernel's reason.
        """
        try:
            with _nic(interface) as nic:
                now = getattr(nic, f"get_{kind}")()
                if kind == "features":
                    now[name] = bool(value)
                else:
                    now[FIELDS[kind][name]] = int(value)
                getattr(nic, f"set_{kind}")(now)
        except AbsentError as error:
            raise RefusedError(str(error)) from None
        except OSError as error:
            raise RefusedError(f"{interface} {kind} {name} {value}: {_reason(error)}") from None
        except _unsupported():
            raise RefusedError(f"{interface} {kind} {name} {value}: the driver does not support it") from None


UNICAST: Final = 1
"""RTN_UNICAST: not one of the kernel's own unreachable routes."""
NO_PYROUTE2: Final = "pyroute2 is not installed; pip install 'simnet-rx[capture]'"


def _reason(error: OSError) -> str:
    """Why the kernel refused, in words that help."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"{error.strerror} (needs root, and the host's own namespaces)"
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"


@contextlib.contextmanager
def _nic(interface: str) -> Iterator[Any]:
    """The driver of an interface, by ioctl."""
    try:
        from pyroute2.ethtool.ioctl import IoctlEthtool
    except ImportError:
        raise AbsentError(NO_PYROUTE2) from None
    nic = IoctlEthtool(interface)
    try:
        yield nic
    finally:
        nic.close()


def _unsupported() -> tuple[type[Exception], ...]:
    """What pyroute2 raises when a driver lacks something."""
    try:
        from pyroute2.ethtool.ioctl import EthtoolError
    except ImportError:
        return ()
    return (EthtoolError,)


def _netlink() -> Any:
    try:
        from pyroute2 import IPRoute
    except ImportError:
        raise AbsentError(NO_PYROUTE2) from None
    return IPRoute()


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        address=message.get_attr("IFLA_ADDRESS") or "",
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        master=message.get_attr("IFLA_MASTER"),
        lower=message.get_attr("IFLA_LINK"),
    )


def _route(message: Any, family: str) -> Route:
    one = message.get_attr("RTA_OIF")
    several = [hop["oif"] for hop in message.get_attr("RTA_MULTIPATH") or ()]
    table = message.get_attr("RTA_TABLE") or message["table"]
    return Route(family, table, message["dst_len"], tuple(dict.fromkeys([*([one] if one else []), *several])))
