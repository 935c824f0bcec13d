"""Network namespaces without names: descriptors hold them, and the kernel removes them and all that is in them with the last one.

Nothing has to be cleaned up after a crash: a process that ends, by whatever signal, closes its descriptors.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from calibration import syscalls

T = TypeVar("T")


def _own() -> str:
    return f"/proc/self/task/{threading.get_native_id()}/ns/net"


class Namespace:
    """A new network namespace, its `sysfs` with it. IPv6 is off, so that only the lab's own frames are on its links."""

    def __init__(self) -> None:
        self.descriptor = -1
        self.sysfs = -1
        outside = os.open(_own(), os.O_RDONLY)
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            try:
                self.descriptor = os.open(_own(), os.O_RDONLY)
                self.sysfs = syscalls.detached_mount("sysfs")
                for scope in ("all", "default"):
                    _write_if_there(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6", "1")
            finally:
                syscalls.setns(outside)
        except OSError:
            self.close()
            raise
        finally:
            os.close(outside)

    @classmethod
    def here(cls) -> Self:
        """The namespace that the calling thread is in already, with the sysfs that is mounted at /sys."""
        namespace = cls.__new__(cls)
        namespace.descriptor = os.open(_own(), os.O_RDONLY)
        namespace.sysfs = os.open("/sys", os.O_RDONLY | os.O_DIRECTORY)
        return namespace

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the namespace for the time of a `with` block."""
        outside = os.open(_own(), os.O_RDONLY)
        try:
            syscalls.setns(self.descriptor)
            try:
                yield
            finally:
                syscalls.setns(outside)
        finally:
            os.close(outside)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function inside the namespace."""
        with self.inside():
            return function()

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open a file of the namespace's sysfs, such as class/net/rx0/threaded."""
        return os.open(path, flags, dir_fd=self.sysfs)

    def write(self, path: str, text: str) -> None:
        """Write to a file of the namespace's sysfs."""
        file = self.open(path, os.O_WRONLY)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)

    def close(self) -> None:
        """Let go; when the last process has left, the kernel removes the namespace with its interfaces."""
        for descriptor in (self.sysfs, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self.sysfs = self.descriptor = -1


def _write_if_there(path: str, text: str) -> None:
    if os.path.exists(path):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
