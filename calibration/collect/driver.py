"""Statistics that a driver keeps of an interface (`ethtool -S`): names and meaning are its own.

A real NIC counts here what it missed for want of a descriptor; veth has packets and drops of each of its queues.
"""

from __future__ import annotations

from collections.abc import Mapping

from calibration.host.access import AbsentError, Host
from calibration.lab.namespaces import Namespace


def statistics(namespace: Namespace, interface: str) -> dict[str, int]:
    """All of them now; nothing if the driver has none."""
    try:
        with namespace.inside():
            return {name: int(count) for name, count in Host().ethtool("statistics", interface).items()}
    except AbsentError:
        return {}


def changes(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """By how much those have changed that have; the hundreds of a NIC's that stood still are left out."""
    return {name: count - before[name] for name, count in after.items() if name in before and count != before[name]}
