"""The decorator of all mechanisms.

`jit` compiles a module-level function with numba, without the GIL, and caches the machine code. Everything is inlined into the loop of the
compiled clock, which makes it twice as fast as calls do (docs/decisions.md). numba does not notice an edit in a callee that lives in another
file, so the cache is kept under a hash of all sources of the package. With SIMNET_JIT=0 in the environment the decorators do nothing and the
interpreter runs the same mechanisms: slow, but open to a debugger.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F")

JIT = os.environ.get("SIMNET_JIT", "1") != "0"
_PACKAGE = Path(__file__).parent
_MECHANISMS = ("records.py", "compiled.py", "traffic", "hardware", "kernel", "virt", "capture", "system", "engine")
_KEPT_CACHES = 4


def source_hash() -> str:
    """Hash of every source file whose change could change compiled code."""
    digest = hashlib.sha256(sys.version.encode())
    for part in _MECHANISMS:
        path = _PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _cache_directory() -> Path:
    home = os.environ.get("SIMNET_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "simnet"
    )
    try:
        os.makedirs(home, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError:
        home = os.path.join(tempfile.gettempdir(), f"simnet-{os.getuid()}")
    return Path(home)


def _prune(home: Path, keep: Path) -> None:
    """Remove compiled code of old sources, newest kept."""
    others = sorted((d for d in home.glob("jit-*") if d != keep), key=lambda d: d.stat().st_mtime, reverse=True)
    for old in others[_KEPT_CACHES - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


if JIT:
    home = _cache_directory()
    CACHE = home / f"jit-{source_hash()}"
    if not CACHE.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        _prune(home, CACHE)
    _COMPLETE: Path | None = CACHE / "complete"
    os.environ["NUMBA_CACHE_DIR"] = str(CACHE)
    import numba
    import numba.extending

    numba.config.CACHE_DIR = str(CACHE)  # type: ignore[attr-defined]  # in case numba was imported before
    if "simnet.cli.main" in sys.modules and "scipy.linalg" not in sys.modules:
        # numba asks scipy for BLAS when it loads its array functions, which takes a tenth of the time of a run. Mechanisms multiply no matrices, and in
        # a command of ours nobody else uses numba.
        sys.modules["scipy.linalg.cython_blas"] = cast(Any, None)
        with contextlib.suppress(ImportError):
            importlib.import_module("numba.np.arraymath")
        del sys.modules["scipy.linalg.cython_blas"]
    _hot: Any = numba.njit(cache=True, nogil=True, forceinline=True)
    _cold: Any = numba.njit(cache=True, nogil=True)
    _pasted: Any = numba.njit(cache=True, nogil=True, inline="always")
    from llvmlite import ir
    from numba.core import cgutils as untyped_cgutils
    from numba.core import types

    cgutils: Any = untyped_cgutils

    def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
        del typing_context

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            view = context.make_array(signature.args[0])(context, builder, arguments[0])
            item = cgutils.get_item_pointer(context, builder, signature.args[0], view, [arguments[1]], wraparound=False)
            byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
            instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            for_writing, keep_close, data = word(1), word(3), word(1)
            builder.call(instruction, [builder.bitcast(item, byte), for_writing, keep_close, data])
            return context.get_dummy_value()

        return types.void(array, index), emit

    prefetch = cast("Callable[[Any, int], None]", numba.extending.intrinsic(_prefetch))
    """Bring the cache line of an array's item closer, because it will be used soon. Has no effect on any result."""
else:
    _COMPLETE = None

    def prefetch(array: Any, index: int) -> None:
        """Nothing to bring closer."""

    def _hot(function: Any) -> Any:
        return function

    _cold = _pasted = _hot


def interpreted(function: F) -> F:
    """The uncompiled form of a mechanism that calls no other: for a few calls, loading machine code takes longer than running Python."""
    plain: F = getattr(function, "py_func", function)
    return plain


def is_fresh() -> bool:
    """Has the loop of the compiled clock not been compiled yet for these sources? Then the first run takes a while."""
    return _COMPLETE is not None and not _COMPLETE.exists()


def mark_compiled() -> None:
    """A run has ended, so everything it needs is in the cache."""
    if _COMPLETE is not None:
        _COMPLETE.touch()


def jit(function: F) -> F:
    """Compile a mechanism, to be inlined into whatever calls it. The type checker sees the plain function."""
    compiled: F = _hot(function)
    return compiled


def inline_jit(function: F) -> F:
    """Compile a mechanism as a part of its only caller, for the chain from the loop of the clock down to a poll.

    numba optimises a function and all that it calls before it optimises the caller. Along a chain every level would do the work of all levels below
    it again, which is half of the time of the first run.
    """
    pasted: F = _pasted(function)
    return pasted


def cold_jit(function: F) -> F:
    """Compile a mechanism that runs seldom, as a function of its own: it costs a call, and less time to compile."""
    compiled: F = _cold(function)
    return compiled
