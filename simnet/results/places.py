"""Where packets get lost: the place, why, the Linux counter that shows it, and what to turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One place of loss. `column` is the counter of `system.counters` that counts it; `knob` what moves it."""

    key: str
    column: str
    name: str
    reason: str
    counter: str
    knob: str


TAP = (
    Place(
        "tap_qdisc",
        "qdisc_dropped",
        "tap queueing discipline",
        "the tap was stopped and its queueing discipline full: QEMU's I/O thread, or vhost's worker, reads too slowly",
        "tc -s qdisc show dev vnet0, dropped",
        "give that thread a core of its own (guest.io_cpus); IFF_ONE_QUEUE spares its core the ksoftirqd activations (guest.one_queue)",
    ),
    Place(
        "tap_queue",
        "tap_dropped",
        "tap",
        "the one-queue tap was full: QEMU's I/O thread, or vhost's worker, reads too slowly",
        "ip -s link show vnet0, TX dropped",
        "give that thread a core of its own (guest.io_cpus)",
    ),
)


def places(method: str, drop_en: bool, has_tap: bool = False) -> tuple[Place, ...]:
    """The places on the way of a packet, in the order in which it meets them."""
    sockets = {
        "pf_packet": Place(
            "packet_ring",
            "socket_dropped",
            "packet socket ring",
            "ring full when the softirq brought the packet",
            "PACKET_STATISTICS tp_drops (pcap_stats ps_drop)",
            "move the process to another CPU (capture.cpu); a larger ring (capture.ring_frames)",
        ),
        "tpacket_v3": Place(
            "packet_ring",
            "socket_dropped",
            "packet socket ring",
            "the queue was frozen when the softirq brought the packet: the next block was still the process's",
            "PACKET_STATISTICS tp_drops (and tp_freeze_q_cnt)",
            "move the process to another CPU (capture.cpu); more or larger blocks (capture.blocks, capture.block_bytes)",
        ),
        "recv": Place(
            "receive_buffer",
            "socket_dropped",
            "socket receive buffer",
            "receive buffer full when the softirq brought the packet",
            "PACKET_STATISTICS tp_drops, /proc/net/packet Rmem",
            "SO_RCVBUF (capture.receive_buffer_bytes); move the process to another CPU (capture.cpu)",
        ),
        "tap": Place(
            "tap_queue",
            "socket_dropped",
            "tap",
            "the tap's queue was full when the softirq brought the packet",
            "ip -s link show tap0, TX dropped",
            "move the process to another CPU (capture.cpu)",
        ),
        "udp": Place(
            "receive_buffer",
            "socket_dropped",
            "socket receive buffer",
            "receive buffer full when the softirq brought the packet",
            "netstat -su, receive buffer errors (UdpRcvbufErrors)",
            "SO_RCVBUF (capture.receive_buffer_bytes); move the process to another CPU (capture.cpu)",
        ),
        "pf_ring": Place(
            "pf_ring",
            "socket_dropped",
            "PF_RING ring",
            "ring full when the driver brought the packet",
            "/proc/net/pf_ring Tot Pkt Lost",
            "move the process to another CPU (capture.cpu); min_num_slots (capture.slots)",
        ),
    }
    nic = (
        Place(
            "nic_ring",
            "nic_no_descriptor",
            "NIC receive ring",
            "no free descriptor in the queue (DROP_EN)",
            "ethtool -S rx_no_dma_resources",
            "spread queues over CPUs (host.nic.irq_cpus); longer rings (host.nic.ring_descriptors)",
        )
        if drop_en
        else Place(
            "nic_buffer",
            "nic_missed",
            "NIC packet buffer",
            "buffer full because no descriptors were free",
            "ethtool -S rx_missed_errors",
            "spread queues over CPUs (host.nic.irq_cpus); spend less per packet",
        )
    )
    switch = Place(
        "switch",
        "switch_discarded",
        "switch egress queue",
        "more offered than the link carries, or the NIC paused the switch",
        "the switch port's output discards",
        "offer less (traffic.offered_kpps), a faster link (traffic.link_gbps)",
    )
    return (switch, nic, *(TAP if has_tap else ()), *((sockets[method],) if method in sockets else ()))
