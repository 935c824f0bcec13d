"""The oracle's two poll routines: the host's driver, which ends at the bridge and the tap, and the guest's virtio_net."""

from __future__ import annotations

from validation.oracle import Nic
from validation.vm_oracle.cores import Physical, Piece, Poll, Virtual, Work
from validation.vm_oracle.setup import KICK, Virtqueue, VmResult, VmSetup
from validation.vm_oracle.tap import Tap


class HostDriver:
    """The driver of the physical card, up to the tap."""

    def __init__(self, setup: VmSetup, nic: Nic, tap: Tap, core: Physical) -> None:
        self._setup = setup
        self._nic = nic
        self._tap = tap
        self._core = core

    def poll(self) -> Poll:
        """Make one poll call; returns what it takes from the budget."""
        setup, nic = self._setup, self._nic
        work = cleaned = 0
        while work < setup.host_weight and nic.ring:
            yield Piece(setup.host_frame)
            cost = self._tap.transmit(nic.ring.popleft(), self._core)
            work += 1
            cleaned += 1
            if cleaned >= setup.refill_batch:
                nic.post(cleaned)
                cleaned = 0
            if cost:
                yield Piece(cost)
        if cleaned:
            nic.post(cleaned)
        if work >= setup.host_weight:
            return setup.host_weight
        yield Piece(setup.host.napi_complete)
        self._core.polling = False
        nic.unmask()
        return work if setup.returns_work_done else 0


class GuestDriver:
    """virtio_net in the guest, up to the capture."""

    def __init__(self, setup: VmSetup, result: VmResult, virtqueue: Virtqueue, core: Virtual) -> None:
        self._setup = setup
        self._result = result
        self._virtqueue = virtqueue
        self._core = core
        self._posted = setup.entries

    def poll(self) -> Poll:
        """Make one poll call; returns the number of frames."""
        setup, queue = self._setup, self._virtqueue
        work = 0
        while True:
            while work < setup.guest_weight and queue.used:
                yield Piece(setup.guest_frame)
                self._result.latencies.append(self._core.now - queue.used.popleft()[0])
                work += 1
                self._posted -= 1
                if self._posted < setup.entries // 2:
                    yield from self._refill()
            if work >= setup.guest_weight:
                return work
            yield Piece(setup.guest.napi_complete)
            queue.no_interrupt = False
            if not queue.used:
                self._core.polling = False
                return work
            queue.no_interrupt = True

    def _refill(self) -> Work:
        """Post all missing buffers and tell the host if it wants to know."""
        missing = self._setup.entries - self._posted
        self._posted = self._setup.entries
        self._virtqueue.available += missing
        kick = not self._virtqueue.no_notify
        self._result.kicks += kick
        yield Piece(self._setup.refill * missing)
        if kick:
            self._core.exits.add(KICK)
