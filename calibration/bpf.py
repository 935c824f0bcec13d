"""bpf(2) without clang or libbpf: a map that user space sees, programs from a small assembler, XDP links, live frames.

Links and programs live as long as their descriptors, so nothing is left on an interface by a process that was killed.
Instruction formats: `include/uapi/linux/bpf.h`; live frames (5.18): `bpf_test_run_xdp_live` in `net/bpf/test_run.c`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from calibration.syscalls import system_call

MAP_CREATE, PROG_LOAD, TEST_RUN, LINK_CREATE = 0, 5, 10, 28
MAP_UPDATE = 2
_ARRAY, _XSKMAP, _MMAPABLE, _CLASSIFIER_TYPE, _XDP_TYPE, _XDP_ATTACH, _LIVE_FRAMES = 2, 17, 1 << 10, 3, 6, 37, 1 << 1
_PSEUDO_MAP, _PSEUDO_MAP_VALUE = 1, 2
XDP_DROP, TC_ACT_SHOT = 1, 2
KTIME_GET_NS, REDIRECT, REDIRECT_MAP = 5, 23, 51
PAGE = mmap.PAGESIZE


class Instruction(NamedTuple):
    """One instruction, its jump still a label."""

    code: int
    target: int = 0
    source: int = 0
    offset: int | str = 0
    immediate: int = 0


def call(function: int) -> list[Instruction]:
    """Call a helper; its result is in register 0."""
    return [Instruction(0x85, immediate=function)]


def leave() -> list[Instruction]:
    """Return register 0."""
    return [Instruction(0x95)]


def move(target: int, value: int) -> list[Instruction]:
    """Put a constant of 32 bits into a register."""
    return [Instruction(0xB7, target, immediate=value)]


def copy(target: int, source: int) -> list[Instruction]:
    """Copy a register."""
    return [Instruction(0xBF, target, source)]


def arithmetic(operation: str, target: int, source: int | None = None, value: int = 0) -> list[Instruction]:
    """Compute with a register and another one or a constant: + - * >> &."""
    code = {"+": 0x00, "-": 0x10, "*": 0x20, "&": 0x50, ">>": 0x70}[operation]
    return [Instruction(code | (0x07 if source is None else 0x0F), target, source or 0, immediate=value)]


def load(target: int, source: int, offset: int, words: int = 2) -> list[Instruction]:
    """Load one or two words of 32 bits."""
    return [Instruction(0x79 if words == 2 else 0x61, target, source, offset)]


def store(target: int, offset: int, source: int, half: bool = False) -> list[Instruction]:
    """Store 64 bits, or 16."""
    return [Instruction(0x6B if half else 0x7B, target, source, offset)]


def jump_if(left: int, relation: str, right: int, label: str) -> list[Instruction]:
    """Jump if registers compare so, unsigned."""
    return [Instruction({">": 0x2D, ">=": 0x3D, "<": 0xAD, "<=": 0xBD}[relation], left, right, label)]


def jump_unless_above(left: int, value: int, label: str) -> list[Instruction]:
    """Jump if a register is at most a constant, unsigned."""
    return [Instruction(0xB5, left, offset=label, immediate=value)]


def map_value(target: int, descriptor: int) -> list[Instruction]:
    """The address of the first value of a map: one instruction of two slots."""
    return [Instruction(0x18, target, _PSEUDO_MAP_VALUE, immediate=descriptor), Instruction(0)]


def map_itself(target: int, descriptor: int) -> list[Instruction]:
    """A map, for helpers that want one: one instruction of two slots."""
    return [Instruction(0x18, target, _PSEUDO_MAP, immediate=descriptor), Instruction(0)]


Program = Iterable["list[Instruction] | str"]


def counting(words: int, verdict: int) -> Program:
    """Add one to the first word of a map and leave with a verdict. One CPU at a time polls the lab's only queue, so the sum needs no lock."""
    return (
        map_value(1, words),
        load(2, 1, 0),
        arithmetic("+", 2, value=1),
        store(1, 0, 2),
        move(0, verdict),
        leave(),
    )


def assemble(program: Program) -> bytes:
    """Instructions and labels as the kernel wants them; every label is resolved."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for part in program:
        if isinstance(part, str):
            labels[part] = len(instructions)
        else:
            instructions += part
    code = b""
    for place, (operation, target, source, offset, immediate) in enumerate(instructions):
        distance = labels[offset] - place - 1 if isinstance(offset, str) else offset
        code += struct.pack("<BBhi", operation, source << 4 | target, distance, immediate)
    return code


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes.ljust(152, b"\0"), 152)
    return system_call("bpf", command, buffer, 152)


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


class Words:
    """An array map with one value, a page of 64-bit words that kernel and user space both see."""

    def __init__(self) -> None:
        self.descriptor = _bpf(MAP_CREATE, struct.pack("<5I", _ARRAY, 4, PAGE, 1, _MMAPABLE))
        self._memory = mmap.mmap(self.descriptor, PAGE)
        self.words = memoryview(self._memory).cast("Q")

    def close(self) -> None:
        """Unmap it; it goes with the last program that uses it."""
        self.words.release()
        self._memory.close()
        os.close(self.descriptor)


class SocketMap:
    """An XSKMAP with room for one AF_XDP socket."""

    def __init__(self) -> None:
        self.descriptor = _bpf(MAP_CREATE, struct.pack("<4I", _XSKMAP, 4, 4, 1))

    def put(self, socket: int) -> None:
        """Put a bound socket into it, by its descriptor."""
        key, value = (ctypes.create_string_buffer(struct.pack("<I", number), 4) for number in (0, socket))
        _bpf(MAP_UPDATE, struct.pack("<IxxxxQQQ", self.descriptor, _address(key), _address(value), 0))

    def close(self) -> None:
        """Let go; it goes with the last program that uses it."""
        os.close(self.descriptor)


def xdp(program: Program) -> AbstractContextManager[int]:
    """The descriptor of an XDP program; see `_loaded`."""
    return _loaded(program, _XDP_TYPE)


def classifier(program: Program) -> AbstractContextManager[int]:
    """The descriptor of a program for tc; see `_loaded`."""
    return _loaded(program, _CLASSIFIER_TYPE)


@contextmanager
def _loaded(program: Program, kind: int) -> Iterator[int]:
    """Load a program for a while; what it was attached to or handed over to meanwhile keeps it.

    Raises
    ------
    OSError
        See `_load`.
    """
    descriptor = _load(program, kind)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _load(program: Program, kind: int) -> int:
    """Load a program.

    Returns
    -------
    int
        Its descriptor.

    Raises
    ------
    OSError
        If the kernel has no BPF, the caller no right, or the verifier refuses; then with the end of its log.
    """
    code, licence = assemble(program), ctypes.create_string_buffer(b"GPL")
    buffer, log = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(65536)
    head = struct.pack("<IIQQ", kind, len(code) // 8, _address(buffer), _address(licence))
    try:
        return _bpf(PROG_LOAD, head)
    except OSError as error:
        try:
            return _bpf(PROG_LOAD, head + struct.pack("<IIQ", 1, len(log), _address(log)))
        except OSError:
            raise OSError(error.errno, f"{error.strerror}: {log.value.decode(errors='replace')[-400:].strip()}") from None


def attach_xdp(program: int, interface: int) -> int:
    """Attach a program to an interface by its index; closing the descriptor that is returned detaches it."""
    return _bpf(LINK_CREATE, struct.pack("<4I", program, interface, _XDP_ATTACH, 0))


def run_live_frames(program: int, frame: bytes, frames: int) -> None:
    """Run a program on live frames in the namespace of the caller, until they are used up or a signal arrives."""
    buffer = ctypes.create_string_buffer(frame, len(frame))
    attributes = struct.pack("<4IQQII", program, 0, len(frame), 0, _address(buffer), 0, frames, 0)
    attributes += struct.pack("<IIQQ3I", 0, 0, 0, 0, _LIVE_FRAMES, 0, 0)
    _bpf(TEST_RUN, attributes)
