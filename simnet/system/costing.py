"""From a parameter set to picoseconds: the only place where cycles, bytes and cache lines become time."""

from __future__ import annotations

from simnet.compiled import interpreted
from simnet.hardware.costs import Costs
from simnet.hardware.memory import LINE_BYTES, PAGE_BYTES, Memory, line_ps
from simnet.params.schema import ParameterSet
from simnet.units import PS_PER_US

DESCRIPTOR_BYTES = 16
HANDED_OVER_LINES = 2
"""Cache lines that follow a packet to another core before its handler is called: the sk_buff's (or the xdp_frame's) and the frame's first."""
BUFFER_LINES = 1
"""Lines of a frame that becomes no skb: what the driver keeps of its buffer (rx_buffer_info)."""


class Costing:
    """Costs of one parameter set on one machine.

    Parameters
    ----------
    params
        The parameter set.
    memory
        The machine's memory record; filled here.
    """

    def __init__(self, params: ParameterSet, memory: Memory) -> None:
        self.params = params
        self.memory = memory
        self._fill_memory()

    def cycles(self, count: float) -> float:
        """Picoseconds of a number of cycles."""
        return count * 1000.0 / self.params["clock_ghz"]

    def ps(self, *names: str) -> int:
        """Picoseconds of the sum of some quantities given in cycles."""
        return round(self.cycles(sum(self.params[name] for name in names)))

    def _fill_memory(self) -> None:
        p, m = self.params, self.memory
        m.l1_bytes, m.l2_bytes, m.l3_bytes = p["l1_bytes"], p["l2_bytes"], p["l3_bytes"]
        m.l1_ps, m.l2_ps, m.l3_ps = (self.cycles(p[f"{level}_cycles"]) for level in ("l1", "l2", "l3"))
        m.dram_ps = self.cycles(p["dram_cycles"])
        m.l1_tlb_bytes, m.l2_tlb_bytes = p["l1_tlb_entries"] * PAGE_BYTES, p["l2_tlb_entries"] * PAGE_BYTES
        m.l2_tlb_ps, m.page_walk_ps = self.cycles(p["l2_tlb_cycles"]), self.cycles(p["page_walk_cycles"])

    def fill_kernel(self, costs: Costs) -> None:
        """The costs that do not depend on how the host is set up."""
        costs.device_interrupt_ps = self.ps("device_interrupt_cycles")
        costs.timer_interrupt_ps = self.ps("timer_interrupt_cycles")
        costs.reschedule_interrupt_ps = self.ps("reschedule_interrupt_cycles")
        costs.do_softirq_ps = self.ps("do_softirq_cycles")
        costs.timer_softirq_ps = self.ps("timer_softirq_cycles")
        costs.poll_ps = self.ps("poll_cycles")
        costs.napi_complete_ps = self.ps("napi_complete_cycles")
        costs.context_switch_ps = self.ps("context_switch_cycles")
        costs.wake_up_ps = self.ps("wake_up_cycles")
        costs.send_ipi_ps = self.ps("send_ipi_cycles")
        costs.poll_system_call_ps = self.ps("poll_call_cycles")

    def line_ps(self, footprint_bytes: float) -> float:
        """Expected time to touch a random line of a footprint."""
        return interpreted(line_ps)(self.memory, footprint_bytes)

    def handed_over_ps(self, names: tuple[str, ...]) -> int:
        """A packet that another core of the socket sent: some quantities in cycles, and its first lines from that core's caches."""
        return self.ps(*names) + round(self.cycles(HANDED_OVER_LINES * self.params["core_to_core_cycles"]))

    def receive_ps(self, names: tuple[str, ...], lines: float, rings: int, descriptors: int, dca: bool) -> int:
        """A frame from descriptor to skb, or to an XDP program: some quantities in cycles (driver, allocation), compulsory misses, and lines that cycle through `rings` rings.

        The NIC writes descriptors (four a line) and data to memory, where the driver misses them, unless DCA put them into the L3 cache.
        The sk_buff and its bookkeeping come round once a ring, so the more rings are in use the further away they are.
        """
        p = self.params
        footprint = rings * descriptors * (lines * LINE_BYTES + DESCRIPTOR_BYTES)
        delivered = self.memory.l3_ps if dca else self.memory.dram_ps
        descriptor = delivered * p["descriptor_exposed"] * DESCRIPTOR_BYTES / LINE_BYTES
        data = delivered * p["data_exposed"]
        return round(self.cycles(sum(p[name] for name in names)) + lines * self.line_ps(footprint) + descriptor + data)

    def shared_line_ps(self, ring_bytes: float, same_core: bool, same_socket: bool) -> float:
        """A line of a ring that softirq and process share: from this core's caches, or from the other core's."""
        if same_core:
            return self.line_ps(ring_bytes)
        return self.cycles(self.params["core_to_core_cycles" if same_socket else "socket_to_socket_cycles"])

    def c_states(self) -> list[tuple[int, int]]:
        """(exit latency, target residency) in ps of the C-states, shallow first."""
        return [
            (round(self.params[f"{state}_exit_us"] * PS_PER_US), round(self.params[f"{state}_residency_us"] * PS_PER_US))
            for state in ("c1", "c3", "c6")
        ]
