"""System calls that Python has no function for: namespaces, mounts that are nowhere, parent death, descriptors of others, batches of messages, perf
events, bpf.

Numbers are those of `include/uapi/asm-generic/unistd.h`, which x86-64 has had since 5.2 for the mount calls, and x86-64's own for the
older ones.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal

CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_FSCONFIG_CMD_CREATE = 6
_FSOPEN, _FSCONFIG, _FSMOUNT, _PIDFD_GETFD = 430, 431, 432, 438
_OLDER = {"x86_64": {"perf_event_open": 298, "bpf": 321}, "aarch64": {"perf_event_open": 241, "bpf": 280}}

libc = ctypes.CDLL(None, use_errno=True)


class IoVec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vector", ctypes.POINTER(IoVec)),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Message(ctypes.Structure):
    """struct mmsghdr, of which sendmmsg(2) and recvmmsg(2) take an array."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))

    def point_to(self, vector: IoVec) -> None:
        """Say where its only piece is; the caller keeps that."""
        self.header.vector = ctypes.pointer(vector)
        self.header.vectors = 1


def checked(result: int) -> int:
    """The result of a call to libc.

    Raises
    ------
    OSError
        If it is negative, with errno.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def system_call(name: str, *arguments: object) -> int:
    """Call `perf_event_open` or `bpf` by its number on this processor.

    Raises
    ------
    OSError
        If the call fails, or nobody wrote down its number for this processor.
    """
    numbers = _OLDER.get(platform.machine())
    if numbers is None:
        raise OSError(38, f"{name}: number unknown on {platform.machine()}")
    return checked(libc.syscall(numbers[name], *arguments))


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (unshare(2))."""
    checked(libc.unshare(flags))


def setns(descriptor: int, kind: int = CLONE_NEWNET) -> None:
    """Put the calling thread into a namespace (setns(2))."""
    checked(libc.setns(descriptor, kind))


def detached_mount(file_system: str) -> int:
    """Mount a file system nowhere, for the network namespace of the calling thread; it goes when the descriptor is closed.

    Returns
    -------
    int
        A descriptor for openat(2).

    Raises
    ------
    OSError
        Before Linux 5.2, without the right to mount, or without such a file system.
    """
    context = checked(libc.syscall(_FSOPEN, file_system.encode(), 1))
    try:
        checked(libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0))
        return checked(libc.syscall(_FSMOUNT, context, 1, 0))
    finally:
        os.close(context)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, however it ends."""
    checked(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)


def descriptor_of(pid: int, number: int) -> int:
    """A descriptor of our own for an open file of another process (pidfd_getfd(2)).

    Raises
    ------
    OSError
        Before Linux 5.6, or if there is no such process or file, or no right to look into it.
    """
    process = os.pidfd_open(pid)
    try:
        return checked(libc.syscall(_PIDFD_GETFD, process, number, 0))
    finally:
        os.close(process)
