"""The host behind a record of a link, as a scenario: its NIC, kernel and settings as the record has them, and where the model is not that host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calibration.host.drivers import DRIVERS
from calibration.host.interface_operations import ONE_FRAME_A_BUFFER
from calibration.observation import Modelled, of_the_kernel
from simnet.errors import UserError
from simnet.hardware.models import NIC_MODELS, NicModel
from simnet.kernel.rules import GENERATIONS, version_of

if TYPE_CHECKING:
    from calibration.record import Record

SCENARIO = "link/ten-gigabit"
SOFTIRQ_CPU, READER_CPU = 2, 3
"""The scenario's CPUs: the one that the NIC interrupts, and a reader's own."""
NICS = {"ixgbe": "82599", "igb": "82576", "i40e": "82599", "ice": "82599", "mlx5_core": "82599", "veth": "veth"}
"""Models of NICs by driver; one that is of another driver stands in."""
RECYCLING = ("mlx5_core",)
"""Drivers whose frames go back to a page pool when they are freed (skb_mark_for_recycle)."""
MOST_QUEUES, MOST_GENERATORS = 8, 16
QUICK_TO_LEAVE_US = 2
"""Exit latency up to which an idle state may pass for the model's only one."""


def host_of(record: Record) -> Modelled:
    """The host that a record was made on.

    Raises
    ------
    UserError
        If the record lacks what the model needs, or no model comes near the NIC or the kernel.
    """
    campaign, port = record.about["campaign"], record.about["conditions"].get("link", {})
    supposed = [
        f"CPU {SOFTIRQ_CPU} of the model is the one that the NIC interrupts, CPU {READER_CPU} the reader's own; both of one socket."
    ]
    settings = _rules(record.host, supposed)
    if record.host.get("hypervisor"):
        supposed.append(
            "The host is a virtual machine, where telling an idle CPU and coming out of idle cost a multiple of the prior set's."
        )
    settings |= _nic(port, record.host, supposed) | _traffic(campaign["link"]["generator"], port, supposed)
    if campaign.get("receive_buffer_bytes"):
        settings["capture.receive_buffer_bytes"] = campaign["receive_buffer_bytes"]
    else:
        default = record.host.get("sysctls", {}).get("net/core/rmem_default") or _missing("net/core/rmem_default")
        settings["capture.receive_buffer_bytes"] = int(default)
    _idle(record.host, campaign, supposed)
    return Modelled(SCENARIO, settings, tuple(supposed))


def _missing(fact: str) -> Any:
    """Refuse a record.

    Raises
    ------
    UserError
        Always.
    """
    raise UserError(f"the record does not tell {fact}, without which there is no model of the link; measure again with this simnet")


def _rules(host: Mapping[str, Any], supposed: list[str]) -> dict[str, Any]:
    """What the kernel decides about."""
    release, known = str(host.get("kernel") or _missing("the kernel's version")), of_the_kernel(host)
    if "host.kernel" not in known:
        names = ", ".join(name for name in GENERATIONS if "-" not in name)
        raise UserError(f"the record's kernel, {release}, is older than any that the model has rules of: {names}")
    name = known["host.kernel"]
    if version_of(release)[: len(version_of(name))] != version_of(name):
        supposed.append(f"Rules of Linux {name} stand for those of {release}.")
    if "host.hz" not in known:
        supposed.append("The record does not tell the kernel's HZ: the scenario's stands.")
    return known


def _nic(port: Mapping[str, Any], host: Mapping[str, Any], supposed: list[str]) -> dict[str, Any]:
    """The port, its driver's settings, and where frames are put."""
    name = port.get("driver") or _missing("the driver of the port")
    if name not in NICS:
        raise UserError(
            f"the record's port has the driver {name}, which no NIC of the model comes near; there are {', '.join(NICS)}"
        )
    model = NIC_MODELS[NICS[name]]
    if not model.dma:
        supposed.append(
            f"The port is no NIC ({name}): frames come by the sender's softirq, which the model has on CPU {SOFTIRQ_CPU}."
        )
        return {
            "host.nic.model": model.name,
            "host.nic.ring_descriptors": model.ring[0],
            "host.nic.moderation_us": 0,
            "host.nic.dca": False,
        }
    if model.driver != name:
        supposed.append(
            f"A {model.name} ({model.driver}) stands for the NIC of {name}: its packet buffer, its way to poll and, in the prior set, its driver's costs."
        )
    if name in RECYCLING:
        supposed.append(f"{name} has a page pool: freeing a packet may let softirqs in, which the {model.name} does not do.")
    return {"host.nic.model": model.name, **_driver_settings(port, model, supposed), "host.nic.dca": _ddio(host, supposed)}


def _driver_settings(port: Mapping[str, Any], model: NicModel, supposed: list[str]) -> dict[str, Any]:
    """Queues, ring and moderation."""
    rings, coalesce, channels = (port.get(kind) or _missing(f"the port's {kind}") for kind in ("rings", "coalesce", "channels"))
    usecs = coalesce["rx-usecs"]
    if coalesce.get("adaptive-rx") or usecs == getattr(DRIVERS.get(port["driver"]), "adaptive_usecs", None):
        raise UserError(
            "the record's interrupts were moderated adaptively, which the model has for old drivers only; measure again within simnet capture check --apply"
        )
    if int(coalesce.get("rx-frames") or 0) > 1:
        supposed.append(f"Interrupts come after {usecs} us, never before because of {coalesce['rx-frames']} frames.")
    _, least, most, multiple = model.ring
    descriptors = min(max(rings["rx"], least), most) // multiple * multiple
    if descriptors != rings["rx"]:
        supposed.append(f"The ring of {rings['rx']} descriptors is one of {descriptors}.")
    queues = (channels.get("combined") or 0) + (channels.get("rx") or 0)
    if queues > 1:
        supposed.append(f"{queues} queues are polled in turn on one CPU; which flow goes to which is the model's.")
    merging = sorted(name for name in ONE_FRAME_A_BUFFER if port.get("features", {}).get(name))
    if merging:
        supposed.append(f"Frames reach the capture one by one, though {', '.join(merging)} was on.")
    return {
        "host.nic.queues": min(max(queues, 1), MOST_QUEUES),
        "host.nic.ring_descriptors": descriptors,
        "host.nic.moderation_us": usecs,
    }


def _ddio(host: Mapping[str, Any], supposed: list[str]) -> bool:
    """Are frames put into the L3 cache?"""
    into_cache = "Xeon" in str(host.get("cpu_model") or _missing("the processor"))
    supposed.append(f"{host['cpu_model']}: frames are put into {'the L3 cache (DDIO)' if into_cache else 'memory'}.")
    return into_cache


def _traffic(generator: Mapping[str, Any], port: Mapping[str, Any], supposed: list[str]) -> dict[str, Any]:
    """How frames come along the wire."""
    gbps = (port.get("speed_mbps") or _missing("the speed of the port")) / 1000
    if generator["program"] != "pktgen":
        supposed.append("The generator's command sends frame by frame, at equal distances.")
    bursts = [int(line.split()[1]) for line in generator["options"] if re.fullmatch(r"burst +\d+", line.strip())]
    return {
        "traffic.link_gbps": gbps,
        "traffic.generator_line_gbps": gbps,
        "traffic.generators": min(generator["threads"], MOST_GENERATORS),
        "traffic.train_frames": bursts[-1] if bursts else 1,
    }


def _idle(host: Mapping[str, Any], campaign: Mapping[str, Any], supposed: list[str]) -> None:
    """Idle states of the CPUs in use, of which the model has one."""
    latencies = host.get("idle_exit_us", {})
    used = sorted(
        {cpu for placement in campaign["placements"].values() for cpu in (placement["softirq_cpu"], placement["reader_cpu"])}
    )
    slow = {cpu: latencies[str(cpu)] for cpu in used if (latencies.get(str(cpu)) or 0) > QUICK_TO_LEAVE_US}
    for cpu, us in slow.items():
        supposed.append(
            f"CPU {cpu} of the host could sleep so that waking takes {us} us; here CPUs have one idle state, left in c1_exit_us."
        )
