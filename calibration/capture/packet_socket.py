"""What all packet sockets have in common: binding, and PACKET_STATISTICS, which the kernel resets whenever it is read."""

from __future__ import annotations

import socket
import struct
from typing import ClassVar

from calibration.lab.topology import Lab
from calibration.workers import Worker

SOL_PACKET, PACKET_STATISTICS = 263, 6
_ETH_P_IP = 0x0800
_SO_RCVBUFFORCE = 33


class Statistics:
    """PACKET_STATISTICS of some packet sockets, summed since the first reading. The kernel resets them, so nobody else may read them too."""

    def __init__(self, *sockets: socket.socket) -> None:
        self._sockets = sockets
        self.seen = self.dropped = 0
        """Packets that the softirq had brought when they were last read, dropped ones among them (tp_packets), and dropped ones (tp_drops)."""

    def read(self) -> None:
        """Read them once more."""
        for packet_socket in self._sockets:
            seen, dropped = struct.unpack_from("II", packet_socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
            self.seen += seen
            self.dropped += dropped


class CountedSocket:
    """What a reader of a packet socket has, and what the kernel says of that socket."""

    worker: Worker
    _statistics: Statistics

    @property
    def captured(self) -> int:
        """Packets that the reader has."""
        return self.worker.packets

    @property
    def dropped(self) -> int:
        """Packets for which there was no room so far (tp_drops)."""
        self._statistics.read()
        return self._statistics.dropped

    def counts(self) -> dict[str, int]:
        """Packets that the softirq had brought when `dropped` was last read, dropped ones among them (tp_packets)."""
        return {"socket_packets": self._statistics.seen}


class PacketSocket(CountedSocket):
    """A packet socket for the IPv4 frames of a lab's interface, and the process that empties it.

    Parameters
    ----------
    lab
        Where.
    cpu
        CPU of the reader.
    receive_buffer_bytes
        The receive buffer as the kernel books it (truesize, twice what SO_RCVBUF is given); the system's default if None.
    """

    needs_tap: ClassVar[bool] = False
    place: ClassVar[str]

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        with lab.receiver.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            if receive_buffer_bytes is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes // 2)
            self.prepare(self.socket)
            self._statistics = Statistics(self.socket)
            number = self.socket.fileno()
            self.worker = Worker(type(self).__module__, cpu, lab.receiver, (number,), descriptor=number)
            with lab.receiver.inside():
                self.socket.bind((lab.interface, _ETH_P_IP))
        except BaseException:
            self.socket.close()
            raise

    def prepare(self, packet_socket: socket.socket) -> None:
        """Set options before the reader starts."""

    def close(self) -> None:
        """End the reader."""
        self.worker.close()
        self.socket.close()
