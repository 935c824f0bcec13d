"""The system's libpcap, as tcpdump uses it: `pcap_dispatch` takes packets out of a packet ring and hands each to `pcap_dump`, which writes it to /dev/null.

Both are functions of the library, called through ctypes once for some hundred packets, so no Python runs per packet. What is measured is ring, dispatch and
the copy into the buffer of a file; what a disk would cost is left out. The ring is TPACKET_V3, as libpcap chooses where nobody asks for immediate mode; a block that is
not full is handed over after `TIMEOUT_MS`. Like any program with libpcap it taps all protocols (ETH_P_ALL, in `ptype_all`), not only IPv4.

Drops are those of its socket (tp_drops), which `pcap_stats` would report as ps_drop. They are read through a descriptor of our own for the same socket, as
the reader is blocked in `pcap_dispatch` when nothing arrives.
"""

from __future__ import annotations

import ctypes
import socket

from calibration import syscalls
from calibration.capture.packet_socket import CountedSocket, Statistics
from calibration.lab.topology import Lab
from calibration.workers import FIRST_FREE, PACKETS, READY, Worker
from simnet.errors import UserError

NAMES = ("libpcap.so.0.8", "libpcap.so.1")
"""Debian's name of the library, and everybody else's."""
MISSING = "libpcap is missing (libpcap.so.0.8 or libpcap.so.1): apt-get install libpcap0.8, or leave libpcap out of methods"
SNAPLEN_BYTES, TIMEOUT_MS, BATCH = 262_144, 10, 256
_SOCKET = FIRST_FREE
_ERROR_BYTES = 256


def library() -> ctypes.CDLL:
    """The library.

    Raises
    ------
    UserError
        If it is not there, with what to install.
    """
    for name in NAMES:
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        found.pcap_create.restype = found.pcap_dump_open.restype = ctypes.c_void_p
        found.pcap_geterr.restype = ctypes.c_char_p
        return found
    raise UserError(MISSING)


class Libpcap(CountedSocket):
    """A process with an open pcap handle.

    Parameters
    ----------
    lab
        Where.
    cpu
        CPU of the reader.
    receive_buffer_bytes
        Size of the ring (`pcap_set_buffer_size`); libpcap's default of 2 MiB if None.
    """

    needs_tap = False
    place = "packet_ring"

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        library()
        self.worker = Worker(__name__, cpu, lab.receiver, interface=lab.interface, buffer_bytes=receive_buffer_bytes)
        try:
            self._socket = socket.socket(fileno=syscalls.descriptor_of(self.worker.pid, self.worker.page[_SOCKET]))
        except BaseException:
            self.worker.close()
            raise
        self._statistics = Statistics(self._socket)

    def close(self) -> None:
        """End the reader."""
        self.worker.close()
        self._socket.close()


def opened(pcap: ctypes.CDLL, interface: str, buffer_bytes: int | None) -> ctypes.c_void_p:
    """An activated handle.

    Raises
    ------
    OSError
        With libpcap's reason.
    """
    reason = ctypes.create_string_buffer(_ERROR_BYTES)
    handle = ctypes.c_void_p(pcap.pcap_create(interface.encode(), reason))
    if not handle:
        raise OSError(reason.value.decode(errors="replace"))
    pcap.pcap_set_snaplen(handle, SNAPLEN_BYTES)
    pcap.pcap_set_timeout(handle, TIMEOUT_MS)
    if buffer_bytes is not None:
        pcap.pcap_set_buffer_size(handle, buffer_bytes)
    if pcap.pcap_activate(handle) < 0:
        raise OSError(_reason(pcap, handle))
    return handle


def _reason(pcap: ctypes.CDLL, handle: ctypes.c_void_p) -> str:
    return bytes(pcap.pcap_geterr(handle)).decode(errors="replace")


def work(page: memoryview, interface: str, buffer_bytes: int | None) -> None:
    """Dispatch until killed, so that nobody has to call pcap_breakloop. A call takes a batch at most: under overload it would never come back otherwise."""
    pcap = library()
    handle = opened(pcap, interface, buffer_bytes)
    nowhere = ctypes.c_void_p(pcap.pcap_dump_open(handle, b"/dev/null"))
    if not nowhere:
        raise OSError(_reason(pcap, handle))
    dispatch, write = pcap.pcap_dispatch, pcap.pcap_dump
    page[_SOCKET] = pcap.pcap_fileno(handle)
    page[READY] = 1
    count = 0
    while True:
        taken = dispatch(handle, BATCH, write, nowhere)
        if taken < 0:
            raise OSError(_reason(pcap, handle))
        count += taken
        page[PACKETS] = count
