"""Which interfaces are never touched: those that carry the host's own traffic, and what stands above and below them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from calibration.host.access import AbsentError, Host, Link, Route
from simnet.errors import UserError, nearest

NOT_STACKED: Final = ("veth", "ip6tnl", "sit", "gre", "ipip", "vti")
"""Kinds whose `link` is a peer or an address and not the interface that they sit on."""


def carriers(links: Sequence[Link], routes: Sequence[Route]) -> dict[int, str]:
    """The interfaces that a default route leaves by, and all that are stacked with them: ports and masters of bridges, bonds and VRFs, VLANs.

    Returns
    -------
    dict
        Why, by index of the interface.

    Raises
    ------
    UserError
        If a default route names no interface (a next-hop object that the kernel does not resolve): then nothing is safe.
    """
    names = {link.index: link.name for link in links}
    carrying: dict[int, str] = {}
    for route in routes:
        kind = "default route" if route.prefix_length == 0 else "route to half of all addresses"
        if not route.interfaces:
            raise UserError(f"the {route.family} {kind} of table {route.table} names no interface; cannot tell which one it needs")
        for index in route.interfaces:
            carrying.setdefault(index, f"the {route.family} {kind} of table {route.table} leaves by {names.get(index, index)}")
    stacked: dict[int, set[int]] = {}
    for link in links:
        for other in (link.master, link.lower if link.kind not in NOT_STACKED else None):
            if other and other in names:
                stacked.setdefault(link.index, set()).add(other)
                stacked.setdefault(other, set()).add(link.index)
    waiting = list(carrying)
    while waiting:
        index = waiting.pop()
        for other in stacked.get(index, ()):
            if other not in carrying:
                carrying[other] = f"{names[other]} is stacked with {names.get(index, index)}, and {carrying[index]}"
                waiting.append(other)
    return carrying


def find(host: Host, interface: str) -> Link:
    """The interface of that name, seen alike by netlink and sysfs.

    Raises
    ------
    UserError
        If there is none, or if /sys shows another network namespace than this process is in (then its files are another interface's).
    """
    try:
        links = {link.name: link for link in host.links()}
    except AbsentError as error:
        raise UserError(str(error)) from None
    if interface not in links:
        raise UserError(f"--interface {interface}: no such interface; there are {', '.join(links)}{nearest(interface, links)}")
    link = links[interface]
    try:
        in_sysfs = host.read(f"/sys/class/net/{interface}/ifindex"), host.read(f"/sys/class/net/{interface}/address")
    except AbsentError:
        in_sysfs = None
    if in_sysfs != (str(link.index), link.address):
        raise UserError(
            f"--interface {interface}: /sys shows another network namespace than this process is in; enter it with ip netns exec, "
            "or mount sysfs after entering it"
        )
    return link


def why_never(host: Host, interface: str) -> str | None:
    """Why this interface must not be changed, or None if it may be.

    Raises
    ------
    UserError
        If there is no such interface, or if that cannot be found out.
    """
    link = find(host, interface)
    try:
        links = host.links()
        carrying = carriers(links, host.broad_routes())
    except AbsentError as error:
        raise UserError(str(error)) from None
    if link.index in carrying:
        return carrying[link.index]
    indices = {other.name: other.index for other in links}
    for function in host.names(f"/sys/class/net/{interface}/device"):
        if function.startswith("virtfn"):
            for name in host.names(f"/sys/class/net/{interface}/device/{function}/net"):
                if indices.get(name) in carrying:
                    return f"{name} is a virtual function of {interface}, and {carrying[indices[name]]}"
    return None
