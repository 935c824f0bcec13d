"""Network interfaces that the model knows: what the data sheet and the driver fix, with where it is written."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simnet.hardware.moderation import EITR_20K, FIXED, IGB_ADAPTIVE, IGB_START, IXGBE_ADAPTIVE
from simnet.hardware.rss import IXGBE_KEY, MICROSOFT_KEY


@dataclass(frozen=True)
class NicModel:
    """One NIC with its driver.

    `ring` gives the default, least and most descriptors and what they must be a multiple of; `returns_work_done` is the poll routine's
    return rule (see `kernel.napi`); `hashes_udp_ports` the driver's RSS fields; `reta_reversed`: it fills the indirection table by registers of four entries, last
    entry first; `drop_en`: it sets DROP_EN when it has several queues. A model NAME-vf is the virtual functions of NAME: queue k is that of function k, and
    the indirection table stands in for the filter of MAC addresses, so that each guest gets an equal share of the flows. *veth* and *backlog* are no hardware but queues of
    the kernel that a poll empties like a NIC's.

    A poll pays `driver_costs` for a packet and `skb_costs` for making an skb of it, none where packets come as skbs; without `dma` it finds packets in the caches of the core that sent them. With a `page_pool` who frees a packet gives its
    page back under a lock that keeps softirqs off (`page_pool_recycle_in_ring`), so a reader lets pending softirqs run after every packet, as with a UDP socket. `by_ipi`: no device
    interrupts, but the processor that sent the packets.
    """

    name: str
    driver: str
    link_gbps: float
    queues: int
    ring: tuple[int, int, int, int]
    ring_is_power_of_two: bool
    refill_batch: int
    weight: int
    returns_work_done: bool
    buffer_bytes: int
    moderation: int
    first_eitr: int
    rss_key: bytes
    hashes_udp_ports: bool
    reta_reversed: bool
    drop_en: bool
    source: str
    driver_costs: tuple[str, ...] = ("driver_cycles",)
    skb_costs: tuple[str, ...] = ("skb_cycles",)
    dma: bool = True
    page_pool: bool = False
    by_ipi: bool = False


_INTEL_82599 = NicModel(
    name="82599",
    driver="ixgbe",
    link_gbps=10.0,
    queues=16,
    ring=(512, 64, 4096, 8),
    ring_is_power_of_two=False,
    refill_batch=16,
    weight=64,
    returns_work_done=False,
    buffer_bytes=448 * 1024,
    moderation=IXGBE_ADAPTIVE,
    first_eitr=EITR_20K,
    rss_key=IXGBE_KEY,
    hashes_udp_ports=False,
    reta_reversed=True,
    drop_en=False,
    source="drivers/net/ethernet/intel/ixgbe of Linux 3.2 (ixgbe.h, ixgbe_main.c, ixgbe_82599.c): 512 KiB packet buffer less 64 KiB for Flow Director",
)
_INTEL_82576 = NicModel(
    name="82576",
    driver="igb",
    link_gbps=1.0,
    queues=8,
    ring=(256, 80, 4096, 8),
    ring_is_power_of_two=False,
    refill_batch=16,
    weight=64,
    returns_work_done=True,
    buffer_bytes=64 * 1024,
    moderation=IGB_ADAPTIVE,
    first_eitr=IGB_START,
    rss_key=MICROSOFT_KEY,
    hashes_udp_ports=True,
    reta_reversed=False,
    drop_en=True,
    source="drivers/net/igb of Linux 2.6.37 (igb.h, igb_main.c); packet buffer 64 KiB of the 82576 data sheet; the driver compiles in the key of the published vectors",
)
_INTEL_82599_VF = replace(
    _INTEL_82599,
    name="82599-vf",
    driver="ixgbevf",
    returns_work_done=True,
    reta_reversed=False,
    drop_en=True,
    source="drivers/net/ethernet/intel/ixgbevf of Linux 3.2: one queue a function; the port sets DROP_EN for functions (ixgbe_set_rx_drop_en)",
)
_VETH = replace(
    _INTEL_82599_VF,
    name="veth",
    driver="veth",
    link_gbps=1000.0,
    queues=1,
    ring=(257, 257, 257, 1),
    refill_batch=1,
    buffer_bytes=0,
    moderation=FIXED,
    first_eitr=0,
    dma=False,
    page_pool=True,
    source="drivers/net/veth.c of Linux 5.15 with NAPI: 256 slots (VETH_RING_SIZE), a full ring drops at the sender; one descriptor more, since a NIC keeps one empty; no interrupts of its own, the sender's CPU schedules the poll",
)
_BACKLOG = replace(
    _VETH,
    name="backlog",
    driver="process_backlog",
    ring=(1001, 1001, 1001, 1),
    driver_costs=("backlog_cycles",),
    skb_costs=(),
    by_ipi=True,
    source="net/core/dev.c: packets that RPS sends to another CPU wait there in input_pkt_queue (netdev_max_backlog 1000) for process_backlog; an interrupt tells that CPU. Driver and skb were paid by the CPU that sent them there",
)

NIC_MODELS = {model.name: model for model in (_INTEL_82599, _INTEL_82599_VF, _INTEL_82576, _VETH, _BACKLOG)}
