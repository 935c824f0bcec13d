"""A timeline as a Perfetto trace (https://ui.perfetto.dev): TrackEvent protobufs, written with the `perfetto` package.

Perfetto counts nanoseconds, the model picoseconds: every moment is rounded down, in the same way for all, so that slices that touch still do and none
overlap. A slice is wrong by less than 1 ns and so the sum of n slices by less than n ns; the exact length of each is its argument `ps`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simnet.errors import UserError
from simnet.results.timeline import Timeline
from simnet.units import PS_PER_NS

SEQUENCE = 1


def need_perfetto() -> None:
    """See that traces can be written, before any long work.

    Raises
    ------
    UserError
        If the package is not installed.
    """
    try:
        import perfetto.trace_builder.proto_builder  # noqa: F401
    except ImportError:
        raise UserError("--perfetto: needs the package perfetto: pip install 'simnet-rx[trace]'") from None


class _Writer:
    """Tracks and their events."""

    def __init__(self) -> None:
        from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackDescriptor, TrackEvent
        from perfetto.trace_builder.proto_builder import TraceProtoBuilder

        self.builder = TraceProtoBuilder()
        self._event, self._track = TrackEvent, TrackDescriptor
        self._tracks = 0

    def track(self, name: str, parent: int | None = None, counts: bool = False) -> int:
        """A new track in the order of the calls; returns its number."""
        self._tracks += 1
        packet = self.builder.add_packet()
        packet.trusted_packet_sequence_id = SEQUENCE
        if self._tracks == 1:
            packet.sequence_flags = packet.SEQ_INCREMENTAL_STATE_CLEARED
        track = packet.track_descriptor
        track.uuid = self._tracks
        track.name = name
        track.sibling_order_rank = self._tracks
        track.child_ordering = self._track.EXPLICIT
        if parent is not None:
            track.parent_uuid = parent
        if counts:
            track.counter.unit_name = "packets"
        return self._tracks

    def event(self, track: int, time_ps: int, kind: int) -> Any:
        """A new event; returns it to be filled."""
        packet = self.builder.add_packet()
        packet.timestamp = time_ps // PS_PER_NS
        packet.trusted_packet_sequence_id = SEQUENCE
        event = packet.track_event
        event.type = kind
        event.track_uuid = track
        return event

    def slice(self, track: int, begin_ps: int, end_ps: int, category: str, name: str) -> None:
        """Something that takes time."""
        event = self.event(track, begin_ps, self._event.TYPE_SLICE_BEGIN)
        event.name = name
        event.categories.append(category)
        _annotate(event, ps=end_ps - begin_ps)
        self.event(track, end_ps, self._event.TYPE_SLICE_END)

    def instant(self, track: int, time_ps: int, name: str, flow: int, last: bool) -> Any:
        """A moment, linked with others of the same flow by arrows."""
        event = self.event(track, time_ps, self._event.TYPE_INSTANT)
        event.name = name
        (event.terminating_flow_ids if last else event.flow_ids).append(flow)
        return event

    def level(self, track: int, time_ps: int, value: int) -> None:
        """What a counter counts from now on."""
        self.event(track, time_ps, self._event.TYPE_COUNTER).counter_value = value


def _annotate(event: Any, **values: int | str) -> None:
    for name, value in values.items():
        annotation = event.debug_annotations.add()
        annotation.name = name
        if isinstance(value, int):
            annotation.int_value = value
        else:
            annotation.string_value = value


def _last_of_each_ns(levels: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Of several levels in the same nanosecond only the last."""
    by_ns = {time_ps // PS_PER_NS: (time_ps, level) for time_ps, level in levels}
    return by_ns.values()


def _packets(writer: _Writer, timeline: Timeline) -> None:
    """The sampled packets: a track a place, arrows from place to place."""
    parent = writer.track("Sampled packets")
    tracks: dict[str, int] = {}
    sampled = timeline.sampled
    for place in timeline.places_of(sampled):
        tracks[place] = writer.track(timeline.place_title(place), parent)
    for number, way in enumerate(sampled, start=1):
        for sight in way.sights:
            event = writer.instant(tracks[sight.place], sight.time_ps, f"packet {number}", number, last=sight == way.sights[-1])
            _annotate(
                event,
                flow=way.flow,
                frame_bytes=way.frame_bytes,
                since_arrival_ps=sight.time_ps - way.arrival_ps,
                fate=timeline.fate_name(way.fate),
            )


def perfetto_trace(timeline: Timeline) -> bytes:
    """The trace, ready to be written to a file."""
    writer = _Writer()
    cores = writer.track("Cores")
    for core in timeline.cores:
        track = writer.track(core.name, cores)
        for piece in core.slices:
            writer.slice(track, *piece)
    queues = writer.track("Packets in queues")
    for queue in timeline.queues:
        track = writer.track(queue.name, queues, counts=True)
        for time_ps, level in _last_of_each_ns(queue.levels):
            writer.level(track, time_ps, level)
    _packets(writer, timeline)
    return bytes(writer.builder.serialize())


def write_perfetto(timeline: Timeline, path: Path) -> None:
    """Write the trace to a file."""
    path.write_bytes(perfetto_trace(timeline))
