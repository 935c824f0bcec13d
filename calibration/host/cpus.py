"""Sets of CPUs as the kernel writes them, and the CPUs that receive."""

from __future__ import annotations

from calibration.host.access import AbsentError, Host


def receiving_cpus(host: Host, interface: str, wished: tuple[int, ...]) -> tuple[int, ...]:
    """The CPUs that receive: those wished for, or those of the NIC's NUMA node, or all that are online."""
    if wished:
        return wished
    online = online_cpus(host)
    try:
        near = parse_cpus(host.read(f"/sys/class/net/{interface}/device/local_cpulist"))
    except (AbsentError, ValueError):
        near = ()
    return tuple(cpu for cpu in online if cpu in near) or online


def online_cpus(host: Host) -> tuple[int, ...]:
    """The host's CPUs."""
    try:
        return parse_cpus(host.read("/sys/devices/system/cpu/online"))
    except AbsentError:
        return (0,)


def parse_cpus(text: str) -> tuple[int, ...]:
    """The CPUs of a list such as 0-3,8.

    Raises
    ------
    ValueError
        If it is not one.
    """
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        if int(last or first) < int(first):
            raise ValueError(part)
        cpus.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cpus))


def bits_of(mask: str) -> int:
    """A mask such as 00000001,ffffffff as one number."""
    return int(mask.replace(",", "") or "0", 16)


def mask_of(cpu: int) -> str:
    """The kernel's way to write a mask: groups of 32 bits."""
    groups = [f"{1 << cpu % 32:x}", *["00000000"] * (cpu // 32)]
    return ",".join(groups)
