"""Load from inside the kernel: an XDP program that is run on live frames and redirects one to the link whenever one is due.

`BPF_PROG_TEST_RUN` with live frames (Linux 5.18) makes frames of a page pool and runs the program on each. The program compares the time that has
passed, times the rate, with what it has sent, and drops the frame (back to the pool) until the next is due: constant bit rate, to the
batch of 64 in which frames leave. When the sender was kept from running for longer than a batch, what it missed is skipped,
not sent in one burst, and counted as skipped.
"""

from __future__ import annotations

import time

from calibration import bpf
from calibration.lab.namespaces import Namespace
from calibration.load.frame import HEADERS_BYTES, SOURCE_PORT_AT, frame
from calibration.workers import READY, Worker

START, RATE, POSITION, SENT, SKIPPED = range(5)
_RATE_BITS = 26
_BATCH = 64
_WORD = 8
_WITHOUT_END = 2**31 - 1


def paced(words: int, interface: int, flows: int) -> bpf.Program:
    """The program; `words` is the descriptor of its map. Nothing is sent as long as the rate is 0."""
    due, position, values, context, data, end = 0, 2, 7, 6, 8, 9
    return (
        bpf.copy(context, 1),
        bpf.map_value(values, words),
        bpf.call(bpf.KTIME_GET_NS),
        bpf.load(1, values, START * _WORD),
        bpf.jump_if(1, ">", due, "drop"),
        bpf.arithmetic("-", due, 1),
        bpf.load(1, values, RATE * _WORD),
        bpf.arithmetic("*", due, 1),
        bpf.arithmetic(">>", due, value=_RATE_BITS),
        bpf.load(position, values, POSITION * _WORD),
        bpf.jump_if(position, ">=", due, "drop"),
        bpf.copy(3, due),
        bpf.arithmetic("-", 3, position),
        bpf.jump_unless_above(3, _BATCH, "send"),
        bpf.arithmetic("-", 3, value=_BATCH),
        bpf.arithmetic("+", position, 3),
        bpf.load(1, values, SKIPPED * _WORD),
        bpf.arithmetic("+", 1, 3),
        bpf.store(values, SKIPPED * _WORD, 1),
        "send",
        bpf.load(data, context, 0, words=1),
        bpf.load(end, context, 4, words=1),
        bpf.copy(1, data),
        bpf.arithmetic("+", 1, value=HEADERS_BYTES),
        bpf.jump_if(1, ">", end, "drop"),
        bpf.arithmetic("+", position, value=1),
        bpf.store(values, POSITION * _WORD, position),
        bpf.load(3, values, SENT * _WORD),
        bpf.arithmetic("+", 3, value=1),
        bpf.store(values, SENT * _WORD, 3),
        bpf.arithmetic("&", 3, value=flows - 1),
        bpf.store(data, SOURCE_PORT_AT, 3, half=True),
        bpf.move(1, interface),
        bpf.move(2, 0),
        bpf.call(bpf.REDIRECT),
        bpf.leave(),
        "drop",
        bpf.move(0, bpf.XDP_DROP),
        bpf.leave(),
    )


class XdpLoad:
    """A generator in the kernel.

    Parameters
    ----------
    namespace, interface
        Where it sends: the index of an interface that takes redirected frames.
    cpu
        The CPU it takes for itself.
    frame_bytes, flows
        Frame length with FCS; a power of two.

    Raises
    ------
    OSError
        If the kernel has no live frames, or refuses the program.
    """

    name = "xdp"

    def __init__(self, namespace: Namespace, interface: int, cpu: int, frame_bytes: int, flows: int) -> None:
        self._map = bpf.Words()
        self._words = self._map.words
        try:
            with bpf.xdp(paced(self._map.descriptor, interface, flows)) as program:
                namespace.call(lambda: bpf.run_live_frames(program, frame(frame_bytes), 1))  # says if it cannot be done
                self.worker = Worker(__name__, cpu, namespace, (program,), program=program, frame_bytes=frame_bytes)
        except BaseException:
            self._map.close()
            raise

    def start(self, kpps: float) -> None:
        """Begin to send."""
        self._words[START] = time.monotonic_ns()
        self._words[RATE] = round(kpps * 2**_RATE_BITS / 1e6)

    def stop(self) -> None:
        """Send no more."""
        self._words[RATE] = 0

    @property
    def offered(self) -> int:
        """Frames that were given to the link so far."""
        return self._words[SENT]

    @property
    def skipped(self) -> int:
        """Frames that were due when the sender could not run, and were never sent."""
        return self._words[SKIPPED]

    def close(self) -> None:
        """End it."""
        self.worker.close()
        self._map.close()


def work(page: memoryview, program: int, frame_bytes: int) -> None:
    """Run the program until killed; between two runs some 25 ms pass, so a run has as many frames as the kernel allows."""
    content = frame(frame_bytes)
    page[READY] = 1
    while True:
        bpf.run_live_frames(program, content, _WITHOUT_END)
