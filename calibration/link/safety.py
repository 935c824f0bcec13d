"""What must be true before anything is sent: neither end is an interface that its host needs for itself, and both are up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from calibration.host.access import UNICAST, AbsentError, Host, Link, Route
from calibration.host.drivers import vectors
from calibration.host.routes import carriers, why_never
from calibration.link.other_host import OtherHost
from calibration.link.programs import Program
from calibration.link.settings import Generator
from simnet.errors import UserError, nearest

_LINKS, _ADDRESSES = "ip -j -d link", "ip -j address"
_ROUTES = {"IPv4": "ip -N -j -d -4 route show table all", "IPv6": "ip -N -j -d -6 route show table all"}
_HALVES = ("default", "0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")
_MAIN_TABLE = 254


def problems_here(interface: str, softirq_cpus: Sequence[int], host: Host | None = None) -> list[str]:
    """What keeps a port of this host from capturing, each with what to do about it."""
    host = host or Host()
    try:
        if why := why_never(host, interface):
            return [f"link.interface {interface}: never this one, because {why}"]
    except UserError as error:
        return [str(error).replace("--interface", "link.interface")]
    if not is_up(host, interface):
        return [f"link.interface {interface}: is down, or has no carrier: ip link set {interface} up, and look at the cable"]
    wanted = ",".join(map(str, sorted(set(softirq_cpus))))
    elsewhere = {}
    for number, name in vectors(host, interface).items():
        try:
            affinity = host.read(f"/proc/irq/{number}/smp_affinity_list")
        except AbsentError:
            continue
        if affinity != wanted:
            elsewhere[name] = affinity
    if elsewhere:
        name, affinity = next(iter(elsewhere.items()))
        more = f" (and {len(elsewhere) - 1} more)" if len(elsewhere) > 1 else ""
        return [
            f"link.interface {interface}: interrupt {name}{more} goes to CPU {affinity}, the campaign says softirq_cpu {wanted}: "
            f"simnet capture check --interface {interface} --cpus {wanted} --apply"
        ]
    return []


def is_up(host: Host, interface: str) -> bool:
    """Whether frames can arrive."""
    try:
        return host.read(f"/sys/class/net/{interface}/carrier") == "1"
    except AbsentError:  # the file cannot be read while the interface is down
        return False


def refuse_over_there(host: OtherHost, settings: Generator, program: Program) -> None:
    """See that the other host has the interface, does not need it for itself, and can generate; only looks.

    Raises
    ------
    UserError
        With what is wrong and what to do about it.
    """
    name = settings.interface
    found = _json(host, _LINKS)
    if name not in (names := {entry["ifname"]: entry for entry in found}):
        raise UserError(
            f"link.generator.interface {name}: no such interface on the generator's host; there are {', '.join(names)}{nearest(name, names)}"
        )
    routes = [route for family, command in _ROUTES.items() for route in _routes(_json(host, command), family, found)]
    carrying = carriers(_links(found), routes)
    if (index := names[name]["ifindex"]) in carrying:
        raise UserError(
            f"link.generator.interface {name}: never this one, because on the generator's host {carrying[index].replace('table 254', 'table main')}"
        )
    connection = host.run('echo "$SSH_CONNECTION"').split()
    if len(connection) == 4 and connection[2] in _addresses(host, name):
        raise UserError(f"link.generator.interface {name}: never this one, because ssh comes in by it")
    if "LOWER_UP" not in names[name]["flags"]:
        raise UserError(
            f"link.generator.interface {name}: is down on the generator's host, or has no carrier: ip link set {name} up, and look at the cable"
        )
    if host.attempt(program.missing)[0]:
        raise UserError(f"link.generator.program {program.name}: not there on the generator's host: {program.how_to_have_it}")
    if busy := host.attempt(program.in_use)[1]:
        raise UserError(
            f"link.generator.program {program.name}: in use on the generator's host ({busy}); if nobody needs it: {program.by_hand}"
        )


def _json(host: OtherHost, command: str) -> list[dict[str, Any]]:
    text = host.run(command)
    try:
        found = json.loads(text or "[]")
    except ValueError:
        raise UserError(
            f"link.generator: {command} does not answer in JSON on the generator's host; it needs iproute2 4.14 or later"
        ) from None
    return [entry for entry in found if entry]


def _links(found: Sequence[dict[str, Any]]) -> list[Link]:
    index = {entry["ifname"]: entry["ifindex"] for entry in found}
    return [
        Link(
            entry["ifindex"],
            entry["ifname"],
            entry.get("address", ""),
            entry.get("linkinfo", {}).get("info_kind", ""),
            index.get(entry.get("master")),
            index.get(entry.get("link")),
        )
        for entry in found
    ]


def _routes(found: Sequence[dict[str, Any]], family: str, links: Sequence[dict[str, Any]]) -> list[Route]:
    """Those that lead anywhere, as `Host.broad_routes` finds them here."""
    index = {entry["ifname"]: entry["ifindex"] for entry in links}
    routes = []
    for entry in found:
        if entry.get("dst") not in _HALVES or str(entry.get("type", UNICAST)) not in (str(UNICAST), "unicast"):
            continue
        names = [entry.get("dev"), *(hop.get("dev") for hop in entry.get("nexthops", ()))]
        table = str(entry.get("table", _MAIN_TABLE))
        routes.append(
            Route(
                family,
                int(table) if table.isdecimal() else _MAIN_TABLE,
                0 if entry["dst"] == "default" else 1,
                tuple(dict.fromkeys(index[name] for name in names if name in index)),
            )
        )
    return routes


def _addresses(host: OtherHost, interface: str) -> list[str]:
    return [
        address["local"]
        for entry in _json(host, f"{_ADDRESSES} show dev {interface}")
        for address in entry.get("addr_info", ())
        if "local" in address
    ]
