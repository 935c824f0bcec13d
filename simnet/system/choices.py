"""What a scenario chooses by name: its parameter set, NIC, kernel and capture file. Mistakes name the field and where it was written."""

from __future__ import annotations

from simnet.errors import NotFoundError, UserError, nearest
from simnet.hardware.models import NIC_MODELS, NicModel
from simnet.hardware.rss import MAX_REPLAY_FLOWS, toeplitz
from simnet.kernel.rules import GENERATIONS, Generation
from simnet.params.schema import ParameterSet, parameter_set
from simnet.scenario.loading import data_file
from simnet.scenario.schema import Scenario
from simnet.traffic.packets import PacketFile, read_packets, rss_input

VIRTUAL_FUNCTION = "-vf"
"""How the model of a NIC's virtual functions is called: by the NIC's name and this."""


FIRST_KERNELS = {
    "tpacket_v3": ((3, 2), "the ring of blocks came with Linux 3.2"),
    "tc_count": ((4, 5), "the clsact queueing discipline came with Linux 4.5 (4.8 is the first that is modelled)"),
    "xdp_count": (
        (4, 12),
        "XDP came with Linux 4.8, to ixgbe with 4.12, veth with 4.19 and igb with 5.10 (5.15 is the first that is modelled)",
    ),
}
"""Version of Linux that a capture method needs, and why."""


def _version(generation: Generation) -> tuple[int, ...]:
    """The version of Linux whose rules these are."""
    return tuple(int(part) for part in generation.name.split("-")[0].split("."))


def lacks(scenario: Scenario, params: ParameterSet) -> list[tuple[str, str]]:
    """What the scenario asks of the host that the host does not have: the field, and the reason with the first hardware or kernel that has it."""
    guest, missing = scenario.guest, []
    if guest is not None and guest.is_assigned and not scenario.host.iommu:
        missing.append(
            (
                "guest.backend",
                "a virtual function reaches the guest's memory only through an IOMMU, and host.iommu is off; on Xeons VT-d came with the 5500 chipset (2009), and intel_iommu=on turns it on",
            )
        )
    if guest is not None and guest.kind_of_interrupts == "posted" and not params.host["posted_interrupts"]:
        message = f"{params.host['processor']} with Linux {params.host['kernel']} does not post interrupts to guests; Broadwell-EP (2016) with Linux 4.4 is the first that does"
        missing.append(("guest.interrupts", message))
    if scenario.capture.method in FIRST_KERNELS:
        first, message = FIRST_KERNELS[scenario.capture.method]
        generation = generation_of(scenario, params, guest.kernel if guest else None)
        if _version(generation) < first:
            missing.append(("capture.method", f"Linux {generation.name} has no {scenario.capture.method}: {message}"))
    return missing


def resolve(scenario: Scenario) -> ParameterSet:
    """The scenario's parameter set with its overrides of costs.

    Raises
    ------
    UserError
        If there is no such set or quantity, a value is out of all reason, or the host has not what the scenario asks for and does not `pretend`.
    """
    try:
        params = parameter_set(scenario.parameters)
    except NotFoundError as error:
        raise scenario.mistake("parameters", str(error)) from None
    for name, value in scenario.costs.items():
        try:
            params = params.with_value(name, value)
        except UserError as error:
            raise scenario.mistake(f"costs.{name}", str(error)) from None
    for field, reason in () if scenario.pretend else lacks(scenario, params):
        raise scenario.mistake(field, f"{reason}; --pretend does as if")
    return params


def nic_model(scenario: Scenario, params: ParameterSet) -> NicModel:
    """The NIC of the scenario, or of the parameter set's host; checks what the scenario asks of it.

    Raises
    ------
    UserError
        If there is no such model, or it has not so many queues or descriptors.
    """
    nic = scenario.host.nic
    name = nic.model or str(params.host["nic"])
    if scenario.guest is not None and scenario.guest.is_assigned and not name.endswith(VIRTUAL_FUNCTION):
        name += VIRTUAL_FUNCTION
        if name not in NIC_MODELS:
            raise scenario.mistake("guest.backend", f"no model of virtual functions of the {name.removesuffix(VIRTUAL_FUNCTION)}")
    if name not in NIC_MODELS:
        message = f"no model of {name!r}; there are {', '.join(NIC_MODELS)}{nearest(name, NIC_MODELS)}"
        raise scenario.mistake("host.nic.model", message) if nic.model else params.mistake("host.nic", message)
    model = NIC_MODELS[name]
    if scenario.capture.method == "xdp_count" and not model.skb_costs:
        raise scenario.mistake(
            "capture.method", f"XDP runs in a driver's poll, before RPS; {model.driver} has packets with an skb (use tc_count)"
        )
    if nic.queues > model.queues:
        raise scenario.mistake("host.nic.queues", f"{nic.queues}; the {model.name} has {model.queues}")
    _, least, most, multiple = model.ring
    wanted = nic.ring_descriptors
    if wanted is not None and (not least <= wanted <= most or wanted % multiple):
        raise scenario.mistake(
            "host.nic.ring_descriptors", f"{wanted}; {model.driver} allows {least} to {most} in multiples of {multiple}"
        )
    if wanted is not None and model.ring_is_power_of_two and wanted & (wanted - 1):
        raise scenario.mistake("host.nic.ring_descriptors", f"{wanted}; the {model.name} wants a power of two")
    return model


def descriptors_of(scenario: Scenario, model: NicModel) -> int:
    """Descriptors of each receive ring."""
    return scenario.host.nic.ring_descriptors or model.ring[0]


def drop_en_of(scenario: Scenario, model: NicModel) -> bool:
    """Does the NIC drop a frame at once if its queue has no descriptor?"""
    nic = scenario.host.nic
    several = nic.queues > 1 or model.name.endswith(VIRTUAL_FUNCTION)
    return model.drop_en and several if nic.drop_en is None else nic.drop_en


def generation_of(scenario: Scenario, params: ParameterSet, of_guest: str | None = None) -> Generation:
    """The rule set of the host's kernel, or of the guest's if it names one of its own.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    name = of_guest or scenario.host.kernel or str(params.host["kernel"])
    if name not in GENERATIONS:
        message = f"no rule set {name!r}; there are {', '.join(GENERATIONS)}{nearest(name, GENERATIONS)}"
        if of_guest:
            raise scenario.mistake("guest.kernel", message)
        raise scenario.mistake("host.kernel", message) if scenario.host.kernel else params.mistake("host.kernel", message)
    if scenario.host.nic.napi_cpus is not None and of_guest is None and not GENERATIONS[name].threaded_napi:
        raise scenario.mistake(
            "host.nic.napi_cpus", f"the rules of {name} know no threaded NAPI; Linux 5.12 is the first that does (host.kernel=5.15)"
        )
    return GENERATIONS[name]


def link_gbps(scenario: Scenario, model: NicModel) -> float:
    """Rate of the link to the host."""
    return scenario.traffic.link_gbps or model.link_gbps


def read_capture(scenario: Scenario, params: ParameterSet) -> PacketFile | None:
    """The capture file that the scenario replays, if it does; RSS hashes are those of its NIC.

    Raises
    ------
    UserError
        If the file cannot be used.
    """
    if scenario.traffic.pcap is None:
        return None
    model = nic_model(scenario, params)
    try:
        packets = read_packets(
            data_file(scenario.traffic.pcap), lambda flow: toeplitz(model.rss_key, rss_input(flow, model.hashes_udp_ports))
        )
    except UserError as error:
        raise scenario.mistake("traffic.pcap", str(error)) from None
    if len(packets.flow_hashes) > MAX_REPLAY_FLOWS:
        raise scenario.mistake("traffic.pcap", f"more than {MAX_REPLAY_FLOWS} flows in {scenario.traffic.pcap}")
    return packets
