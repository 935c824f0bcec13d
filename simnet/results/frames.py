"""Results as pandas data frames."""

from __future__ import annotations

import pandas as pd

from simnet.results.result import Result


def samples_frame(result: Result) -> pd.DataFrame:
    """Counters over time: one row a sample and replication.

    Returns
    -------
    DataFrame
        Columns replication, time_s, offered, captured (packets since time 0).
    """
    return pd.concat(
        [
            pd.DataFrame({"replication": r.number, "time_s": r.times_s, "offered": r.offered, "captured": r.captured})
            for r in result.replications
        ],
        ignore_index=True,
    )


def drops_frame(result: Result) -> pd.DataFrame:
    """Where packets went, all replications: columns place, packets, share (of offered), reason, counter, knob."""
    packets = result.packets
    rows = [("captured", packets.captured, "", "", "")]
    rows += [(d.place, d.packets, d.reason, d.counter, d.knob) for d in packets.dropped]
    rows += [("in flight", packets.in_flight, "still in a queue at the end", "", "")]
    frame = pd.DataFrame(rows, columns=["place", "packets", "reason", "counter", "knob"])
    frame.insert(2, "share", frame["packets"] / max(packets.offered, 1))
    return frame


def cores_frame(result: Result) -> pd.DataFrame:
    """Time by context: one row a CPU, one column a context; rows add up to 1."""
    return pd.DataFrame(
        [dict(core.shares) for core in result.cores], index=pd.Index([core.cpu for core in result.cores], name="cpu")
    )
