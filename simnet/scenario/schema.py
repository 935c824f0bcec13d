"""What a user writes: one host, the traffic sent to it, how it captures, how it is measured.

Units are in the names. Every field has a default except where the traffic's rate has none. Checks that need more than one field come last
and name the field to change.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from simnet.errors import UserError
from simnet.units import MAX_FRAME_BYTES, MIN_FRAME_BYTES

IMIX = {64: 7.0, 594: 4.0, 1518: 1.0}
"""Simple IMIX: frame length (with FCS) and weight."""
LEAST_SAMPLE = 1 << 12
"""Entries of a flow table below which no part of it stands for the whole."""


def _finite(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"expected a number without a unit (the unit is in the name), not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, not {str(value)[:20]}")
    return number


def _whole(value: Any) -> Any:
    number = _finite(value)
    if number != int(number):
        raise ValueError(f"expected a whole number, not {value!r}")
    return int(number)


Number = Annotated[float, BeforeValidator(_finite)]
Count = Annotated[int, BeforeValidator(_whole)]
Mbps = Annotated[Number, Field(ge=1e-3, le=1e6)]
Gbps = Annotated[Number, Field(ge=1e-3, le=1e6)]
Cpu = Annotated[Count, Field(ge=0, le=4095)]


def _word(value: Any) -> Any:
    """YAML's own null is the name of the null monitor."""
    return "null" if value is None else value


def _name(value: Any) -> Any:
    """A name that looks like a number to YAML, such as 3.2 or 82599."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _flows(value: Any) -> Any:
    if value in ("single", "multi"):
        return value
    if isinstance(value, str):
        raise ValueError("expected single, multi (every packet a new flow) or a number of flows")
    count = _whole(value)
    if not 1 <= count <= 1 << 24:
        raise ValueError("a number of flows is 1 to 16777216; for more use multi (every packet a new flow)")
    return count


def _cpus(value: Any) -> Any:
    """One CPU number, or a list of them."""
    cpus = [_whole(cpu) for cpu in (value if isinstance(value, list) else [value])]
    for cpu in cpus:
        if not 0 <= cpu <= 4095:
            raise ValueError(f"expected a CPU number, 0 or more, not {cpu}")
    return cpus if isinstance(value, list) else cpus[0]


def _cpus_or_none(value: Any) -> Any:
    return None if value is None else _cpus(value)


def _frame_length(value: Any) -> int:
    """One length; as the key of a mix it may be a string of digits (that is how JSON writes it)."""
    if isinstance(value, str) and not value.isdigit():
        raise ValueError(f"expected a frame length in bytes with FCS, or imix, not {value!r}")
    length = int(_whole(int(value) if isinstance(value, str) and len(value) < 10 else value))
    if not MIN_FRAME_BYTES <= length <= MAX_FRAME_BYTES:
        raise ValueError(f"a frame has {MIN_FRAME_BYTES} to {MAX_FRAME_BYTES} bytes with FCS, not {value}")
    return length


def _frame_bytes(value: Any) -> Any:
    if value == "imix":
        return dict(IMIX)
    if isinstance(value, list):
        raise ValueError("expected one size, imix, or sizes with weights such as {64: 7, 1518: 1}")
    if not isinstance(value, dict):
        if isinstance(value, str):
            raise ValueError(f"expected a frame length in bytes with FCS, or imix, not {value!r}")
        return _frame_length(value)
    if not 1 <= len(value) <= 16:
        raise ValueError("expected one size, imix, or 1 to 16 sizes with weights")
    mix = {}
    for size, weight in value.items():
        if _finite(weight) <= 0:
            raise ValueError(f"the weight of size {size} must be above 0, not {weight}")
        mix[_frame_length(size)] = float(weight)
    return mix


Name = Annotated[str, BeforeValidator(_name)]


Place = tuple[str | int, ...]
"""Path of a field, part by part; items of lists by number."""


class Places:
    """Where fields were written. Two scenarios that differ only in that are equal."""

    def __call__(self, path: Place) -> str:
        """'file:line' or the --set that wrote a field; nothing if that is not known."""
        del path
        return ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)

    def __hash__(self) -> int:
        return 0


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nic(Section):
    """The receiving port. `irq_cpus`: one CPU for all queues or one for each; `napi_cpus`: the queues' NAPI contexts have threads of their own there (threaded NAPI); `model`: the parameter set's if not given; `ring_descriptors` and
    `drop_en`: the driver's."""

    model: Name | None = None
    queues: Annotated[Count, Field(ge=1, le=16)] = 8
    ring_descriptors: Annotated[Count, Field(ge=1)] | None = None
    irq_cpus: Annotated[int | list[int], BeforeValidator(_cpus)] = 7
    napi_cpus: Annotated[int | list[int] | None, BeforeValidator(_cpus_or_none)] = None
    drop_en: bool | None = None
    moderation: Literal["adaptive", "fixed"] = "adaptive"
    moderation_us: Annotated[Number, Field(ge=0, le=1000)] = 50.0
    dca: bool = False


class Host(Section):
    """The machine under test. `kernel` names a rule set (the parameter set's if not given); `iommu`: VT-d is on (intel_iommu=on)."""

    kernel: Name | None = None
    hz: Literal[100, 250, 1000] = 1000
    c_states: bool = True
    iommu: bool = False
    nic: Nic = Nic()


INTERRUPTS = {
    "kvm-83": ("intx",),
    "qemu-kvm-0.12": ("msix", "intx"),
    "qemu-7.2": ("msix", "intx"),
    "vhost-net": ("msix",),
    "sr-iov": ("msix", "posted"),
}
"""Kinds of interrupts that each backend has; the first is used if nothing else is said."""
EVENT_INDEX = ("vhost-net", "qemu-7.2")
"""Backends that offer VIRTIO_RING_F_EVENT_IDX."""


class Guest(Section):
    """A KVM guest that captures in the host's place.

    `vcpus`: the CPU of the host that each vCPU is pinned to. `irq_vcpu` takes the interrupts of its NIC; `capture.cpu` is then a vCPU. `backend`: *kvm-83* and
    *qemu-kvm-0.12* and *qemu-7.2* are QEMU in user space behind bridge and tap, *vhost-net* is a kernel worker there, with *sr-iov* the guest drives a virtual function of the NIC.
    `interrupts`: INTx, MSI-X, or posted to the guest by the IOMMU. `io_cpus`: the CPU of QEMU's I/O thread or of vhost's worker, or several, of which each boot
    takes one. `reads`: QEMU reads the tap until it is empty (`drain`; 7.2: or 50 packets are read), or `one` packet a select(). `accelerator`: the guest's code runs on the processor (`kvm`), or QEMU translates it (`tcg`). `clock`: acpi_pm and hpet are read by an exit to QEMU. `vms`: so many
    guests, each with one vCPU and a virtual function of its own; `vcpus` then pins the vCPU of each.
    """

    vcpus: Annotated[list[Cpu], Field(min_length=1, max_length=16)] = [1, 3, 5, 7]
    irq_vcpu: Cpu = 2
    io_cpus: Annotated[int | list[int], BeforeValidator(_cpus)] = 3
    kernel: Name | None = None
    hz: Literal[100, 250, 1000] = 1000
    backend: Literal["kvm-83", "qemu-kvm-0.12", "qemu-7.2", "vhost-net", "sr-iov"] = "kvm-83"
    accelerator: Literal["kvm", "tcg"] = "kvm"
    interrupts: Literal["intx", "msix", "posted"] | None = None
    reads: Literal["drain", "one"] = "drain"
    queue_entries: Annotated[Count, Field(ge=32, le=1024)] = 256
    event_index: bool | None = None
    clock: Literal["kvm_clock", "tsc", "acpi_pm", "hpet"] = "kvm_clock"
    tap_queue: Annotated[Count, Field(ge=1, le=10_000)] = 500
    one_queue: bool = False
    promiscuous_bridge: bool = True
    vms: Annotated[Count, Field(ge=1, le=16)] = 1

    @property
    def is_assigned(self) -> bool:
        """Does the guest drive a function of the NIC itself, without bridge, tap and virtqueue?"""
        return self.backend == "sr-iov"

    @property
    def in_user_space(self) -> bool:
        """Does QEMU's I/O thread move the packets?"""
        return self.backend in ("kvm-83", "qemu-kvm-0.12", "qemu-7.2")

    @property
    def mover(self) -> str:
        """What the thread between tap and guest is called."""
        return "QEMU's I/O thread" if self.in_user_space else "vhost's worker"

    @property
    def kind_of_interrupts(self) -> str:
        """The kind that is used."""
        return self.interrupts or INTERRUPTS[self.backend][0]

    @property
    def has_event_index(self) -> bool:
        """Do guest and backend say at which index they want to hear (VIRTIO_RING_F_EVENT_IDX)? vhost of Linux 3.0 and QEMU 0.15 and later do."""
        return self.backend in EVENT_INDEX if self.event_index is None else self.event_index


class Traffic(Section):
    """What is sent.

    pktgen generators are limited in packets/s (`generator_mbps` at `generator_frame_bytes`, counted as `generator_mbps_means`, unless `offered_kpps`
    is given) and in bits/s (`generator_max_gbps`, wire). `frame_bytes`: with FCS; one size, `imix`, or sizes with weights. `train_frames`:
    frames sent back to back (1; on_off: a geometric number with mean 32). `pcap`: a path, relative to the file that names it, or
    `builtin:folder/file` for one that comes with simnet.
    """

    source: Literal["pktgen", "cbr", "poisson", "on_off", "pcap"] = "pktgen"
    generators: Annotated[Count, Field(ge=1, le=16)] = 5
    offered_kpps: Annotated[Number, Field(ge=1e-6, le=200_000)] | None = None
    generator_mbps: Mbps = 600.0
    generator_frame_bytes: Annotated[Count, Field(ge=MIN_FRAME_BYTES, le=MAX_FRAME_BYTES)] = 64
    generator_mbps_means: Literal["wire", "frame", "no_fcs"] = "wire"
    generator_max_gbps: Gbps = 2.0
    generator_line_gbps: Gbps | None = None
    frame_bytes: Annotated[int | dict[int, float], BeforeValidator(_frame_bytes)] = 64
    flows: Annotated[Literal["single", "multi"] | int, BeforeValidator(_flows)] = "single"
    train_frames: Annotated[Count, Field(ge=1, le=4096)] | None = None
    jitter: Annotated[Number, Field(ge=0, le=1)] = 0.5
    link_gbps: Annotated[Number, Field(ge=0.01, le=1000)] | None = None
    switch_buffer_kib: Annotated[Number, Field(ge=10, le=2048)] = 1024.0
    switch_honours_pause: bool = False
    pcap: str | None = None
    speed: Annotated[Number, Field(ge=1e-9, le=1e9)] = 1.0
    loop: bool = False


class FlowTable(Section):
    """The flow monitor's table. d-left with 2^23 entries is the PNA of 2012; `probing` that of 2011."""

    design: Literal["d_left", "probing"] = "d_left"
    entries: Annotated[Count, Field(ge=1024, le=1 << 23)] = 1 << 23
    period_s: Annotated[Number, Field(ge=1e-4, le=1e5)] = 10.0


IN_KERNEL = ("kernel_module", "tc_count", "xdp_count")
"""Methods that capture in the softirq: there is no process."""


MOST_RING_BYTES, LEAST_RING_SNAPLEN = 4_718_592, 60
"""A ring of blocks that is larger, or keeps less of a frame, could hold more frames than can be simulated, 32768."""


class Capture(Section):
    """How packets are captured. `cpu` is that of the capturing process; what captures in the kernel has none.

    `method`: `recv` is a packet socket without a ring, `udp` a UDP socket: a system call a packet. `tap` is a process that reads a tap behind a bridge, as a user-space
    virtio backend does, with no guest behind it. `tpacket_v3` is a packet socket's ring of `blocks`, of which each is handed over when it is full or `block_timeout_ms` old; `count`
    takes the number of packets from its header, the other monitors walk through it. `tc_count` and `xdp_count` are eBPF programs that count and drop: at tc's ingress hook, and in the driver's poll before there is an skb.

    `monitor`: `count` only counts (pcount, pfcount), `null` also decodes headers, `flow` also keeps a flow table.

    `snaplen_bytes` is what pf_packet and tpacket_v3 keep of a frame; `ring_frames` overrides the frame count that libpcap derives from it. `transparent_mode` is PF_RING's: 0 through the
    stack, 2 straight from the driver.
    """

    method: Literal["kernel_module", "pf_packet", "pf_ring", "recv", "udp", "tap", "tpacket_v3", "tc_count", "xdp_count"] = (
        "kernel_module"
    )
    monitor: Annotated[Literal["count", "null", "flow"], BeforeValidator(_word)] = "null"
    cpu: Cpu = 7
    snaplen_bytes: Annotated[Count, Field(ge=16, le=65535)] = 256
    ring_frames: Annotated[Count, Field(ge=2, le=32768)] | None = None
    poll_timeout_ms: Annotated[Number, Field(ge=1, le=10_000)] = 500.0
    blocks: Annotated[Count, Field(ge=1, le=MOST_RING_BYTES // 4096)] = 32
    block_bytes: Annotated[Count, Field(ge=4096, le=MOST_RING_BYTES)] = 131_072
    block_timeout_ms: Annotated[Count, Field(ge=1, le=1000)] = 8
    receive_buffer_bytes: Annotated[Count, Field(ge=2048, le=1 << 30)] = 212_992
    transparent_mode: Literal[0, 2] = 2
    slots: Annotated[Count, Field(ge=16, le=16384)] = 4096
    watermark: Annotated[Count, Field(ge=1, le=16384)] = 128
    bucket_bytes: Annotated[Count, Field(ge=60, le=9216)] = 128
    flow_table: FlowTable = FlowTable()

    @property
    def in_kernel(self) -> bool:
        """Are packets captured in the softirq, without a process?"""
        return self.method in IN_KERNEL


class Measure(Section):
    """When a run is good enough.

    *adaptive* replicates until the 95 % interval of the captured rate is within `precision` of its mean, at most `limit_s` of simulated time a
    replication; *paper* is ICCCN 2012's protocol: 240 s, samples of 10 s, first and last two dropped. `warmup_s`: found (MSER-5) if not
    given. Where every packet is a new flow and the table is to fill for longer than `table_period_s`, *adaptive* simulates a part of it (see `capture.flow_table`)
    whose period is the shortest that is not below.
    """

    protocol: Literal["adaptive", "paper"] = "adaptive"
    replications: Annotated[Count, Field(ge=2, le=1000)] = 5
    precision: Annotated[Number, Field(gt=0, le=1)] = 0.01
    warmup_s: Annotated[Number, Field(ge=0, le=10_000)] | None = None
    limit_s: Annotated[Number, Field(ge=1e-3, le=100_000)] = 20.0
    table_period_s: Annotated[Number, Field(gt=0, le=1e5)] = 0.5


class Scenario(Section):
    """A question to the model. `costs` overrides quantities of the parameter set by name; `pretend`: as if the host had hardware that it does not have."""

    name: str = "scenario"
    title: str = ""
    question: str = ""
    hypotheses: list[str] = []
    parameters: str = "e5520-linux-3.2"
    costs: dict[str, Annotated[Number, Field(ge=0, le=1e12)]] = {}
    host: Host = Host()
    guest: Guest | None = None
    pretend: bool = False
    traffic: Traffic = Traffic()
    capture: Capture = Capture()
    measure: Measure = Measure()
    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def has_tap(self) -> bool:
        """Do packets go through bridge and tap into a guest?"""
        return self.guest is not None and not self.guest.is_assigned

    @property
    def table_sample(self) -> int:
        """One part in so many of the flow table is simulated: a power of two."""
        table, measure = self.capture.flow_table, self.measure
        if self.capture.monitor != "flow" or self.traffic.flows != "multi" or measure.protocol == "paper":
            return 1
        halvings = min(math.log2(table.period_s / measure.table_period_s), math.log2(table.entries / LEAST_SAMPLE))
        return 1 << max(0, math.floor(halvings))

    def written_at(self, places: Places) -> Scenario:
        """The same scenario, which now knows where each of its fields was written."""
        self._places = places
        return self

    def mistake(self, path: str, message: str) -> UserError:
        """An error about one of the fields, with the place where it was written if that is known."""
        place = self._places(tuple(path.split(".")))
        return UserError(f"{place}: {path}: {message}" if place else f"{path}: {message}")

    @model_validator(mode="after")
    def _check_guest(self) -> Scenario:
        guest = self.guest
        if guest is None:
            return self
        if guest.queue_entries & (guest.queue_entries - 1):
            raise ValueError(f"guest.queue_entries: a virtqueue has a power of two, not {guest.queue_entries}")
        for name, cpu in (("guest.irq_vcpu", guest.irq_vcpu), ("capture.cpu", self.capture.cpu)):
            if cpu >= len(guest.vcpus):
                raise ValueError(
                    f"{name}: there is no vCPU {cpu}; guest.vcpus pins {len(guest.vcpus)}, 0 to {len(guest.vcpus) - 1}"
                )
        if self.capture.method == "tap":
            raise ValueError("capture.method: a tap is read on the host; leave guest out")
        if guest.interrupts == "msix" and guest.backend == "kvm-83":
            raise ValueError("guest.interrupts: kvm-83 has no MSI-X for virtio; qemu-kvm-0.12 is the first backend that has")
        if guest.interrupts == "posted" and not guest.is_assigned:
            raise ValueError("guest.interrupts: the IOMMU posts the interrupts of assigned functions only (guest.backend=sr-iov)")
        if guest.interrupts == "intx" and guest.kind_of_interrupts not in INTERRUPTS[guest.backend]:
            raise ValueError(f"guest.interrupts: {guest.backend} interrupts by MSI-X only")
        if guest.event_index and guest.backend not in EVENT_INDEX:
            raise ValueError(
                f"guest.event_index: {guest.backend} does not offer it; vhost-net of Linux 3.0 and QEMU 0.15 are the first that do"
            )
        if guest.accelerator == "tcg" and guest.backend != "qemu-7.2":
            raise ValueError(f"guest.accelerator: {guest.backend} is modelled with KVM only; tcg needs guest.backend=qemu-7.2")
        if guest.vms > 1:
            self._check_several(guest)
        if self.capture.method == "pf_ring" and self.capture.transparent_mode == 2:
            raise ValueError("capture.transparent_mode: virtio_net is not PF_RING-aware; in a guest only mode 0 works")
        return self

    def _check_several(self, guest: Guest) -> None:
        """Several guests share a port only through virtual functions, and only kernel modules can capture in all of them."""
        if not guest.is_assigned:
            raise ValueError("guest.vms: several guests need a virtual function each (guest.backend=sr-iov)")
        if len(guest.vcpus) != guest.vms:
            raise ValueError(f"guest.vcpus: {guest.vms} guests with one vCPU each need {guest.vms} pins, not {len(guest.vcpus)}")
        if not self.capture.in_kernel or self.capture.monitor == "flow":
            raise ValueError("guest.vms: several guests capture in their kernels, without a flow table")

    @model_validator(mode="after")
    def _check_capture(self) -> Scenario:
        method, monitor = self.capture.method, self.capture.monitor
        if method in ("tc_count", "xdp_count") and monitor != "count":
            raise ValueError(f"capture.monitor: {method} counts packets and looks at nothing in them; set capture.monitor=count")
        blocks, block_bytes = self.capture.blocks, self.capture.block_bytes
        if block_bytes % 4096:
            raise ValueError(f"capture.block_bytes: {block_bytes} is not a multiple of a page, 4096 bytes")
        if blocks * block_bytes > MOST_RING_BYTES:
            raise ValueError(
                f"capture.blocks: {blocks} blocks of {block_bytes} bytes; a ring of at most {MOST_RING_BYTES} bytes can be simulated"
            )
        if method == "tpacket_v3" and self.capture.snaplen_bytes < LEAST_RING_SNAPLEN:
            raise ValueError(
                f"capture.snaplen_bytes: {self.capture.snaplen_bytes}; a ring of blocks is modelled that keeps {LEAST_RING_SNAPLEN} bytes or more"
            )
        if method == "tpacket_v3" and self.guest is not None:
            raise ValueError("capture.method: a ring of blocks needs a timer, which is modelled on the host only; leave guest out")
        if method == "xdp_count" and self.guest is not None:
            raise ValueError("capture.method: XDP is modelled in drivers of the host only; leave guest out, or use tc_count")
        return self

    @model_validator(mode="after")
    def _check_traffic(self) -> Scenario:
        traffic = self.traffic
        if traffic.source == "pcap" and not traffic.pcap:
            raise ValueError("traffic.pcap: source pcap needs the path of a pcap or pcapng file")
        if traffic.pcap and traffic.source != "pcap":
            raise ValueError(f"traffic.source: {traffic.source!r} does not read traffic.pcap; set traffic.source=pcap")
        if traffic.source in ("cbr", "poisson", "on_off") and traffic.offered_kpps is None:
            raise ValueError(f"traffic.offered_kpps: source {traffic.source} needs a total rate")
        if self.measure.warmup_s is not None and self.measure.warmup_s >= self.measure.limit_s:
            raise ValueError(f"measure.warmup_s: {self.measure.warmup_s} leaves nothing of measure.limit_s, {self.measure.limit_s}")
        entries = self.capture.flow_table.entries
        if entries & (entries - 1):
            raise ValueError(f"capture.flow_table.entries: must be a power of two, not {entries}")
        if self.capture.method == "pf_ring" and self.capture.watermark > self.capture.slots:
            raise ValueError(f"capture.watermark: {self.capture.watermark} packets never fit into {self.capture.slots} slots")
        if self.guest is not None and self.guest.is_assigned and self.host.nic.queues != self.guest.vms:
            raise ValueError(
                f"host.nic.queues: {self.host.nic.queues}; a virtual function of this model has one queue: set it to guest.vms, {self.guest.vms}"
            )
        threads = self.host.nic.napi_cpus
        if threads is not None and self.guest is not None and self.guest.is_assigned:
            raise ValueError("host.nic.napi_cpus: the guest's kernel polls its function, not the host's")
        if isinstance(threads, list) and len(threads) != self.host.nic.queues:
            raise ValueError(
                f"host.nic.napi_cpus: {len(threads)} CPUs for {self.host.nic.queues} queues; give one CPU, or one for each queue"
            )
        if isinstance(self.host.nic.irq_cpus, list) and len(self.host.nic.irq_cpus) != self.host.nic.queues:
            raise ValueError(
                f"host.nic.irq_cpus: {len(self.host.nic.irq_cpus)} CPUs for {self.host.nic.queues} queues; give one CPU, or one for each queue"
            )
        return self
