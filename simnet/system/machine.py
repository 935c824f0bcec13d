"""The whole state of a simulated host: one record, passed to every transition as `m`."""

from __future__ import annotations

from simnet.agenda import Agenda
from simnet.capture.flow_table import FlowTable
from simnet.capture.kernel_tap import KernelTap
from simnet.capture.monitor import MAX_MONITORS, Monitor
from simnet.capture.socket import MAX_SOCKETS, Socket
from simnet.hardware.costs import Costs
from simnet.hardware.cpu import MAX_CORES, Cpu
from simnet.hardware.memory import Memory
from simnet.hardware.nic import Nic
from simnet.kernel.bridge import Bridge
from simnet.kernel.core import MAX_TASKS, Core, Task
from simnet.kernel.napi import Napi
from simnet.kernel.rules import Rules
from simnet.kernel.timers import MAX_TIMERS, Timer
from simnet.kernel.tun import Tun
from simnet.records import Array, Record, many
from simnet.traffic.switch import Link
from simnet.virt.backend import Backend
from simnet.virt.mutex import Mutex
from simnet.virt.qemu import Qemu
from simnet.virt.vcpu import Vcpu
from simnet.virt.virtio_net import VirtioNet
from simnet.virt.virtqueue import Virtqueue

MAX_NAPIS = 32
MAX_KERNELS = 2


class Machine(Record):
    """Hot state first. `physical` cores come before the virtual ones; counters of places where packets are lost stand with the place."""

    agenda: Agenda
    boot_ps: int
    physical: int
    virtual: int
    task_count: int
    costs: Costs
    rules: Array[Rules] = many(Rules, MAX_KERNELS)
    memory: Memory
    cpus: Array[Cpu] = many(Cpu, MAX_CORES)
    cores: Array[Core] = many(Core, MAX_CORES)
    tasks: Array[Task] = many(Task, MAX_TASKS)
    napis: Array[Napi] = many(Napi, MAX_NAPIS)
    tap: KernelTap
    monitors: Array[Monitor] = many(Monitor, MAX_MONITORS)
    link: Link
    nic: Nic
    bridge: Bridge
    tun: Tun
    backend: Backend
    qemu: Qemu
    mutex: Mutex
    virtqueue: Virtqueue
    virtio: VirtioNet
    vcpus: Array[Vcpu] = many(Vcpu, MAX_CORES)
    sockets: Array[Socket] = many(Socket, MAX_SOCKETS)
    timers: Array[Timer] = many(Timer, MAX_TIMERS)
    table: FlowTable
