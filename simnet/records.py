"""Plain state: a class that declares fields is at once a numpy record, a numba record and a type that mypy checks.

    class Ring(Record):
        slots: int
        frames: Array[Frame] = many(Frame, 4096)

    class Nic(Record):
        rings: Array[Ring] = many(Ring, 16)
        offered: int

`allocate(Nic)` returns zeroed memory of `dtype_of(Nic)`. Mechanisms read `nic.rings[q].slots`, which is the same expression to the
interpreter (on a `numpy.record`), to numba (on a typed record) and to mypy (on the class). The memory is never initialised by Python
code, so pages that a run does not touch cost nothing: big tables can be fields.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, TypeVar, cast, get_type_hints

import numpy as np

T = TypeVar("T")
Item = TypeVar("Item", covariant=True)

int64 = cast("Callable[[Any], int]", np.int64)
"""Make a number an int64, the only integer of mechanisms; the type checker calls it an int."""


class Array(Protocol[Item]):
    """A fixed-length array inside a record. Scalars and records both; the length is part of the type."""

    def __getitem__(self, index: Any, /) -> Item: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...
    def __len__(self) -> int: ...


class Record:
    """Base of all record declarations. Never instantiated: see `allocate`."""


class _Many:
    def __init__(self, kind: Any, count: int) -> None:
        self.kind = kind
        self.count = count


def many(kind: Any, count: int) -> Any:
    """Declare an array field of `count` records, `int`s (int64), `float`s or items of a numpy dtype name."""
    return _Many(kind, count)


# The interpreter would find the attribute of numpy.record where compiled code finds the field.
_TAKEN = frozenset(dir(np.record))


@functools.cache
def dtype_of(kind: Hashable) -> np.dtype[Any]:
    """The aligned dtype of a Record subclass, of `int` (int64), `float` or of a numpy dtype name."""
    if kind is int:
        return np.dtype("i8")
    if kind is float:
        return np.dtype("f8")
    if not (isinstance(kind, type) and issubclass(kind, Record)):
        return np.dtype(cast(str, kind))
    fields: list[Any] = []
    for name, hint in get_type_hints(kind).items():
        if name in _TAKEN:
            raise TypeError(f"{kind.__name__}.{name}: a field may not be named like an attribute of numpy.record")
        default = getattr(kind, name, None)
        if isinstance(default, _Many):
            fields.append((name, dtype_of(default.kind), (default.count,)))
        else:
            fields.append((name, dtype_of(hint)))
    return np.dtype(fields, align=True)


def find(kind: Hashable, within: np.dtype[Any], path: str = "", start: int = 0) -> Iterator[tuple[str, int]]:
    """Where records of a kind stand inside a dtype, itself nested: their paths, such as `nic.rings[3]`, and offsets in bytes."""
    if within == dtype_of(kind):
        yield path, start
    elif within.subdtype is not None:
        item, (count,) = within.subdtype
        for i in range(count if item.fields else 0):
            yield from find(kind, item, f"{path}[{i}]", start + i * item.itemsize)
    for name, (field, offset, *_) in (within.fields or {}).items() if within != dtype_of(kind) else ():
        yield from find(kind, field, f"{path}.{name}".removeprefix("."), start + offset)


def allocate(kind: type[T], huge: str | None = None) -> T:
    """One zeroed record of the declared kind.

    The memory is mapped, not allocated by numpy, which would ask for huge pages: of a large record with few fields in use, every
    field would then cost two megabytes.

    Parameters
    ----------
    kind
        A Record subclass.
    huge
        A field that is large, used everywhere and at random: ask for huge pages there.

    Returns
    -------
    A `numpy.record` that the type checker sees as an instance of `kind`. It keeps its memory alive.
    """
    dtype = dtype_of(cast(Hashable, kind))
    memory = mmap.mmap(
        -1, dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )  # shared memory, the default, gets no huge pages
    if huge is not None and dtype.fields is not None:
        field, start = dtype.fields[huge][:2]
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE, first, start + field.itemsize - first)
    return cast(T, np.frombuffer(memory, dtype).view(np.recarray)[0])


def in_array(record: Any) -> Any:
    """The array of length 1 that a record from `allocate` stands in: handing it to compiled code takes 1 us, the record itself 50."""
    return record.base.view(np.ndarray)
