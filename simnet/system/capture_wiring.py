"""Wiring capture: tap or socket, monitor, flow table."""

from __future__ import annotations

import math

from simnet.agenda import ROTATION
from simnet.capture.flow_table import D_LEFT, PROBING, recost
from simnet.capture.monitor import COUNT, FLOW, NULL
from simnet.capture.socket import BLOCK_RING, MMAP_RING, PF_RING, SKB_QUEUE, Socket
from simnet.kernel.core import RUNNABLE
from simnet.scenario.schema import Scenario
from simnet.system.choices import nic_model
from simnet.system.costing import Costing
from simnet.system.dispatch import READER
from simnet.system.machine import Machine
from simnet.system.receive import TO_SOCKET, TO_TAP
from simnet.system.tasks import add_task
from simnet.system.topology import Topology
from simnet.traffic.frame import QUEUE_FRAMES
from simnet.units import MAX_FRAME_BYTES, PS_PER_MS, PS_PER_S
from simnet.virt.virtio_net import VIRTIO_NAPI

UNLIMITED = 1 << 62
TAP_FRAMES = 500
"""A tap's queue (TUN_READQ_SIZE, tx_queue_len); a packet that finds it full is dropped (Linux 3.8 and later)."""


TPACKET_MACOFF = 66
"""Bytes of a ring's frame before the data (tpacket_rcv, Ethernet, 32-byte header)."""


def _libpcap_frame_bytes(snaplen: int) -> int:
    """Size of a frame of libpcap 1.1.1's ring (pcap-linux.c)."""
    return (snaplen + 32 + 20 + 15) & ~15


def _libpcap_frames(snaplen: int) -> int:
    """Frames in libpcap 1.1.1's ring: 2 MiB of whole blocks, each the smallest 4 KiB * 2^k that holds a frame (pcap-linux.c)."""
    frame = _libpcap_frame_bytes(snaplen)
    block = 4096
    while block < frame:
        block *= 2
    return (2 * 1024 * 1024 // frame) // (block // frame) * (block // frame)


def _wire_blocks(socket: Socket, scenario: Scenario, costing: Costing, line_ps: int) -> None:
    capture, ring = scenario.capture, socket.ring
    ring.blocks, ring.block_bytes = capture.blocks, capture.block_bytes
    ring.timeout_jiffies = math.ceil(capture.block_timeout_ms * scenario.host.hz / 1000)
    ring.close_ps = costing.ps("block_close_cycles") + line_ps  # the next block's header
    ring.read_ps = costing.ps("block_read_cycles") + line_ps
    if capture.monitor == "count":
        socket.read_ps = 0


def _wire_socket(m: Machine, socket: Socket, scenario: Scenario, topology: Topology, costing: Costing) -> None:
    capture, p = scenario.capture, costing.params
    irq_cpu, cpu = topology.carrier(topology.receiving[-1]), topology.carrier(capture.cpu)
    same_core = capture.cpu in topology.receiving
    same_socket = topology.socket(cpu) == topology.socket(irq_cpu)
    socket.limit_bytes = UNLIMITED
    socket.queue.slots = QUEUE_FRAMES
    socket.snap_bytes = capture.snaplen_bytes
    socket.watermark = 1
    socket.locks_bh = int(
        capture.method == "udp" or (nic_model(scenario, costing.params).page_pool and capture.method in ("recv", "tap"))
    )
    if capture.method in ("recv", "udp"):
        socket.kind = SKB_QUEUE
        socket.limit_bytes = capture.receive_buffer_bytes
        socket.truesize_bytes = round(p["skb_truesize_bytes"])
        socket.snap_bytes = MAX_FRAME_BYTES
        ring_bytes = float(capture.receive_buffer_bytes)
        delivery = ("udp_rcv_cycles",) if capture.method == "udp" else ("packet_rcv_cycles", "ip_drop_cycles")
        socket.deliver_ps = costing.ps("stack_cycles", *delivery)
        socket.copy_ps = costing.ps("clone_cycles") if capture.method == "recv" else 0
        socket.read_ps = costing.ps("recv_cycles")
        socket.read_line_ps = costing.ps("copy_line_cycles")
    elif capture.method == "tap":
        socket.kind = SKB_QUEUE
        socket.queue.slots = TAP_FRAMES
        socket.snap_bytes = MAX_FRAME_BYTES
        ring_bytes = float(TAP_FRAMES * MAX_FRAME_BYTES)
        socket.deliver_ps = costing.ps("stack_cycles", "bridge_cycles", "tap_xmit_cycles")
        socket.read_ps = costing.ps("tap_read_cycles")
        socket.read_line_ps = costing.ps("copy_line_cycles")
    elif capture.method == "pf_packet":
        socket.kind = MMAP_RING
        frames = capture.ring_frames or _libpcap_frames(capture.snaplen_bytes)
        socket.queue.slots = min(frames, QUEUE_FRAMES)
        frame_bytes = _libpcap_frame_bytes(capture.snaplen_bytes)
        socket.snap_bytes = min(capture.snaplen_bytes, frame_bytes - TPACKET_MACOFF)
        ring_bytes = float(frames * frame_bytes)
        socket.deliver_ps = costing.ps("stack_cycles", "tpacket_cycles", "ip_drop_cycles")
        socket.copy_ps = costing.ps("tpacket_copy_cycles", "timestamp_cycles")
        socket.read_ps = costing.ps("libpcap_read_cycles")
        socket.poll_timeout_ps = round(capture.poll_timeout_ms * PS_PER_MS)
    elif capture.method == "tpacket_v3":
        socket.kind = BLOCK_RING
        ring_bytes = float(capture.blocks * capture.block_bytes)
        socket.deliver_ps = costing.ps("stack_cycles", "tpacket3_cycles", "ip_drop_cycles")
        socket.copy_ps = costing.ps("tpacket_copy_cycles", "timestamp_cycles")
        socket.read_ps = costing.ps("tpacket3_read_cycles")
    else:
        socket.kind = PF_RING
        socket.header_bytes = round(p["pf_ring_header_bytes"])
        socket.snap_bytes = capture.bucket_bytes
        ring_bytes = float(capture.slots * ((socket.header_bytes + capture.bucket_bytes + 7) & ~7))
        socket.limit_bytes = int(ring_bytes)
        socket.watermark = capture.watermark
        through_stack = ("stack_cycles", "ip_drop_cycles") if capture.transparent_mode == 0 else ()
        socket.deliver_ps = costing.ps("pf_ring_cycles", *through_stack)
        socket.copy_ps = costing.ps("timestamp_cycles")
        socket.read_ps = costing.ps("pfring_read_cycles")
        socket.poll_timeout_ps = round(capture.poll_timeout_ms * PS_PER_MS)
    line = costing.shared_line_ps(ring_bytes, same_core, same_socket)
    stored = round(line * p["store_exposed"])
    socket.copy_ps += stored  # the header's line; a line of data each below
    socket.copy_line_ps = stored + costing.ps("copy_line_cycles")
    socket.read_ps += round(2 * line)  # header and the frame's first line
    if socket.kind == BLOCK_RING:
        _wire_blocks(socket, scenario, costing, round(line))
    socket.reader = add_task(m, READER, topology.working_core(capture.cpu), 0, 0, RUNNABLE)


IN_KERNEL_COSTS = {
    "kernel_module": ("stack_cycles", "timestamp_cycles", "clone_cycles", "ip_drop_cycles"),
    "tc_count": ("stack_cycles", "tc_cycles"),
    "xdp_count": ("xdp_cycles",),
}
"""What a packet pays behind the driver, by method."""


def wire_capture(m: Machine, scenario: Scenario, topology: Topology, costing: Costing) -> None:
    capture = scenario.capture
    if capture.in_kernel:
        m.tap.deliver_ps = costing.ps(*IN_KERNEL_COSTS[capture.method])
    else:
        _wire_socket(m, m.sockets[0], scenario, topology, costing)
    for q in [VIRTIO_NAPI] if scenario.has_tap else range(m.nic.queues):
        m.napis[q].handler = TO_TAP if capture.in_kernel else TO_SOCKET
    monitor = m.monitors[0]
    monitor.kind = {"count": COUNT, "null": NULL, "flow": FLOW}[capture.monitor]
    monitor.decode_ps = 0 if capture.monitor == "count" else costing.ps("decode_cycles")
    if capture.monitor == "flow":
        _wire_flow_table(m, scenario, costing)


def _wire_flow_table(m: Machine, scenario: Scenario, costing: Costing) -> None:
    wanted, table = scenario.capture.flow_table, m.table
    table.design = D_LEFT if wanted.design == "d_left" else PROBING
    sample = scenario.table_sample
    entries = wanted.entries // sample
    table.sample, table.limit = sample, entries
    table.bucket_bits = entries.bit_length() - (3 if table.design == D_LEFT else 1)
    table.period_ps = round(wanted.period_s / sample * PS_PER_S)
    table.hash_ps = costing.ps("hash_cycles")
    table.compare_ps = costing.ps("compare_cycles")
    table.update_ps = costing.ps("update_cycles")
    table.insert_ps = costing.ps("insert_cycles")
    table.overlap = costing.params["miss_overlap"]
    recost(table, m.memory)
    m.agenda.due_ps[ROTATION] = table.period_ps
