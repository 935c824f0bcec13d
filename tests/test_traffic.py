"""What is sent: rates and their meaning, spacing, trains, sizes, flows, the switch, replay.

Expected numbers are arithmetic on IEEE 802.3 frames; random quantities get bounds from their distribution at fixed seeds.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from simnet.engine.replay import arrivals, blocks
from simnet.engine.simulation import Simulation
from simnet.records import allocate
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.traffic.flows import UNIQUE, FlowSource, next_flow, source_address
from simnet.traffic.generator import Generator, advance
from simnet.traffic.packets import PacketFile
from simnet.traffic.stream import Stream, exponential, next_word
from simnet.traffic.switch import Link, draw
from simnet.units import PS_PER_MS, PS_PER_NS, PS_PER_US, wire_ps

Times = NDArray[np.int64]
SIGMAS = 4.5
"""Bounds of random quantities: 7 in a million of right models fail, and the seeds are fixed."""


def simulation(packets: PacketFile | None = None, **traffic: Any) -> Simulation:
    """One replication of the paper's host with this traffic."""
    scenario = load("paper/bare-metal", {f"traffic.{name}": value for name, value in traffic.items()})
    return Simulation(scenario, resolve(scenario), 1, 0, packets=packets)


def link(**traffic: Any) -> Link:
    """The link with this traffic about to arrive."""
    return simulation(**traffic).machine.link


class Sent(NamedTuple):
    """When frames arrived at the NIC and how long they were."""

    times_ps: Times
    frame_bytes: Times

    @property
    def kpps(self) -> float:
        """Rate."""
        return (len(self.times_ps) - 1) / float(self.times_ps[-1] - self.times_ps[0]) * 1e9


def sent(on: Link, frames: int) -> Sent:
    """The next frames on the link."""
    drawn = Sent(np.empty(frames, dtype=np.int64), np.empty(frames, dtype=np.int64))
    draw(on, *drawn)
    return drawn


def reach_switch(generator: Generator, frames: int) -> tuple[Times, Times]:
    """When a generator's next frames reach the switch, and their flows."""
    rows = np.empty((2, frames), dtype=np.int64)
    for i in range(frames):
        advance(generator)
        rows[:, i] = generator.next.arrival_ps, generator.next.flow
    return rows[0], rows[1]


# Rates.


@pytest.mark.parametrize(
    ("means", "at_bytes", "pps"),
    [
        pytest.param("wire", 64, 892_857, id="600e6 / (84 * 8)"),
        pytest.param("frame", 64, 1_171_875, id="600e6 / (64 * 8)"),
        pytest.param("no_fcs", 64, 1_250_000, id="600e6 / (60 * 8)"),
        pytest.param("wire", 1518, 48_765, id="600e6 / (1538 * 8)"),
        pytest.param("frame", 1518, 49_407, id="600e6 / (1518 * 8)"),
        pytest.param("no_fcs", 1518, 49_538, id="600e6 / (1514 * 8)"),
    ],
)
def test_what_600_mbps_means(means: str, at_bytes: int, pps: int) -> None:
    """Five pktgen hosts of 600 Mbit/s each."""
    found = sent(link(generator_mbps=600, generator_mbps_means=means, generator_frame_bytes=at_bytes, jitter=0), 50_000)
    assert found.kpps == pytest.approx(5 * pps / 1000, rel=1e-3)


@pytest.mark.parametrize(
    ("frame_bytes", "pps"),
    [
        pytest.param(64, 892_857, id="64 B: packets/s"),
        pytest.param(256, 892_857, id="256 B: packets/s, as 276 * 8 * 892857 is 1.97 Gbit/s"),
        pytest.param(512, 469_925, id="512 B: 2e9 / (532 * 8)"),
        pytest.param(1518, 162_549, id="1518 B: 2e9 / (1538 * 8)"),
        pytest.param(9216, 27_068, id="9216 B: 2e9 / (9236 * 8)"),
    ],
)
def test_pktgen_is_limited_in_packets_and_in_bits(frame_bytes: int, pps: int) -> None:
    found = sent(link(generators=1, frame_bytes=frame_bytes, jitter=0), 2000)
    assert found.kpps == pytest.approx(pps / 1000, rel=1e-5)


def test_five_hosts_at_2_gbps_fill_the_link() -> None:
    found = sent(link(frame_bytes=1518), 20_000)
    assert found.kpps == pytest.approx(812.744, rel=1e-3)


@pytest.mark.parametrize("source", ["pktgen", "cbr", "poisson", "on_off"])
@pytest.mark.parametrize("generators", [1, 5])
def test_offered_kpps_is_the_rate_of_all_together(source: str, generators: int) -> None:
    """On-off has the widest bound: cycles of a geometric train and an exponential pause, each with a deviation of its mean."""
    frames, trains = 640_000, 32 if source == "on_off" else 1
    found = sent(link(source=source, generators=generators, offered_kpps=1000), frames)
    assert found.kpps == pytest.approx(1000, rel=SIGMAS * np.sqrt(2 * trains / frames))


def test_pktgen_jitter_is_uniform() -> None:
    """Gaps of a generator: 67.2 ns on its line, and a pause of the rest +- 50 %."""
    times, _ = reach_switch(link(generators=1, offered_kpps=1000).sources[0], 20_000)
    pause = 1_000_000 - 67_200
    assert stats.kstest(np.diff(times), stats.uniform(67_200 + pause / 2, pause).cdf).pvalue > 1e-3


# Spacing.


@pytest.mark.parametrize("kpps", [1, 100, 812, 14_880])
def test_cbr_is_evenly_spaced(kpps: int) -> None:
    found = sent(link(source="cbr", generators=1, offered_kpps=kpps), 1000)
    assert np.abs(np.diff(found.times_ps) - 1e9 / kpps).max() <= 1


def test_cbr_hosts_keep_their_phase() -> None:
    """Five hosts of 100 kpps: the pattern of five frames comes again every 10 us."""
    times = sent(link(source="cbr", generators=5, offered_kpps=500), 1000).times_ps
    assert set((times[5:] - times[:-5]).tolist()) == {10 * PS_PER_US}
    assert len(set(np.diff(times).tolist())) == 5


FAST = {"generator_line_gbps": 1e6, "link_gbps": 1000}
"""Lines on which a frame takes no time to speak of."""


@pytest.mark.parametrize("line", [{}, FAST], ids=["10G", "fast"])
def test_poisson_gaps_are_exponential(line: dict[str, float]) -> None:
    """From the frame's own time on the line on."""
    times, _ = reach_switch(link(source="poisson", generators=1, offered_kpps=1000, **line).sources[0], 20_000)
    gaps, least = np.diff(times), 0.672 if line else 67_200
    assert gaps.min() >= int(least)
    assert gaps.mean() == pytest.approx(1e6, rel=SIGMAS / np.sqrt(len(gaps)))
    assert stats.kstest(gaps, stats.expon(least, 1e6 - least).cdf).pvalue > 1e-3


@pytest.mark.parametrize("generators", [1, 5])
def test_poisson_counts_are_as_variable_as_their_mean(generators: int) -> None:
    """The index of dispersion of counts times (windows - 1) has a chi-square distribution."""
    times = sent(link(source="poisson", generators=generators, offered_kpps=1000, **FAST), 50_000).times_ps
    counts = np.bincount((times - times[0]) // (10 * PS_PER_US))[:-1]
    dispersion = counts.var(ddof=1) / counts.mean()
    low, high = stats.chi2(len(counts) - 1).ppf([1e-5, 1 - 1e-5]) / (len(counts) - 1)
    assert low < dispersion < high
    assert 0.9 < low < high < 1.1


def test_hosts_are_independent_of_each_other() -> None:
    """Counts of two Poisson hosts in the same windows: the correlation of n independent pairs has deviation 1/sqrt(n)."""
    sources = link(source="poisson", generators=2, offered_kpps=2000).sources
    counts = [np.bincount(reach_switch(sources[g], 10_000)[0] // (5 * PS_PER_US))[:1900] for g in range(2)]
    assert abs(np.corrcoef(counts)[0, 1]) < SIGMAS / np.sqrt(1900)


def trains_of(times: Times, spacing_ps: int) -> Times:
    """Lengths of the trains of frames that come `spacing_ps` apart; the first and the last may be cut and are left out."""
    ends = np.flatnonzero(np.diff(times) > spacing_ps)
    return np.diff(ends)


@pytest.mark.parametrize(("line_gbps", "spacing_ns"), [(10, 67.2), (1, 672.0)])
def test_pktgen_trains(line_gbps: float, spacing_ns: float) -> None:
    """Eight frames back to back at the host's own line rate, and a pause that keeps the rate."""
    on = link(generators=1, offered_kpps=200, train_frames=8, jitter=0, generator_line_gbps=line_gbps)
    times = sent(on, 8000).times_ps
    spacing_ps = round(spacing_ns * PS_PER_NS)
    assert set(trains_of(times, spacing_ps).tolist()) == {8}
    assert np.diff(times).min() == spacing_ps
    assert set((times[8:] - times[:-8]).tolist()) == {8 * 5 * PS_PER_US}


def test_on_off_trains_are_geometric() -> None:
    """Mean 32; every length is 31/32 as frequent as the one before."""
    trains = trains_of(sent(link(source="on_off", generators=1, offered_kpps=1000), 640_000).times_ps, 67_200)
    deviation = np.sqrt(1 - 1 / 32) * 32
    assert trains.mean() == pytest.approx(32, abs=SIGMAS * deviation / np.sqrt(len(trains)))
    bins = np.array([1, 8, 16, 32, 64, 128])
    expected = len(trains) * np.diff(np.append(1 - (31 / 32) ** (bins - 1), 1))
    found = np.histogram(trains, np.append(bins, trains.max() + 1))[0]
    assert stats.chisquare(found, expected).pvalue > 1e-3


def test_on_off_pauses_are_exponential() -> None:
    """Mean 32 times what a frame's slot at 1 Mpps leaves beside its time on the line."""
    gaps = np.diff(sent(link(source="on_off", generators=1, offered_kpps=1000), 200_000).times_ps)
    pauses = gaps[gaps > 67_200] - 67_200
    assert stats.kstest(pauses, stats.expon(0, 32 * (1_000_000 - 67_200)).cdf).pvalue > 1e-3


# Random numbers.


def test_splitmix64() -> None:
    """The first outputs of the published generator for seed 1234567."""
    stream = allocate(Stream)
    stream.state = np.uint64(1234567)
    words = [int(next_word(stream)) for _ in range(5)]
    assert words == [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]


def test_exponential_numbers() -> None:
    """The ziggurat, and its tail beyond 7.697 where another method takes over."""
    stream = allocate(Stream)
    numbers = np.array([exponential(stream) for _ in range(100_000)])
    assert stats.kstest(numbers, stats.expon.cdf).pvalue > 1e-3
    tail = int((numbers > 7.69711747013104972).sum())
    assert 1e-5 < stats.poisson(1e5 * np.exp(-7.69711747013104972)).cdf(tail) < 1 - 1e-5


# Sizes.


@pytest.mark.parametrize("frame_bytes", [64, 65, 1518, 9000, 9216])
def test_frames_of_one_size(frame_bytes: int) -> None:
    found = sent(link(source="cbr", generators=1, offered_kpps=100, frame_bytes=frame_bytes), 100)
    assert set(found.frame_bytes.tolist()) == {frame_bytes}
    assert set(np.diff(found.times_ps).tolist()) == {10 * PS_PER_US}


@pytest.mark.parametrize(
    ("mix", "shares"),
    [
        pytest.param("imix", {64: 7 / 12, 594: 4 / 12, 1518: 1 / 12}, id="imix: 7, 4, 1"),
        pytest.param({9216: 3, 64: 1}, {64: 0.25, 9216: 0.75}, id="in any order"),
        pytest.param({128: 0.001, 256: 0.003}, {128: 0.25, 256: 0.75}, id="any weights"),
    ],
)
def test_mixes(mix: Any, shares: dict[int, float]) -> None:
    frames = 60_000
    found = sent(link(frame_bytes=mix, offered_kpps=100, jitter=0), frames)
    sizes, counts = np.unique(found.frame_bytes, return_counts=True)
    assert sizes.tolist() == sorted(shares)
    assert stats.chisquare(counts, [frames * shares[size] for size in sorted(shares)]).pvalue > 1e-3
    assert found.kpps == pytest.approx(100, rel=1e-3)


def test_imix_is_362_bytes_long() -> None:
    """(7 * 64 + 4 * 594 + 1518) / 12 = 361.83."""
    found = sent(link(frame_bytes="imix", offered_kpps=100), 60_000)
    deviation = np.sqrt((7 * 64**2 + 4 * 594**2 + 1518**2) / 12 - 361.83**2)
    assert found.frame_bytes.mean() == pytest.approx(361.83, abs=SIGMAS * deviation / np.sqrt(60_000))


# Flows.


def flows_of(frames: int, **traffic: Any) -> list[list[int]]:
    """Flow numbers of the first frames of each generator."""
    on = link(**traffic)
    return [reach_switch(on.sources[g], frames)[1].tolist() for g in range(on.generators)]


def test_a_single_flow_is_the_same_for_all() -> None:
    assert {flow for flows in flows_of(100, flows="single") for flow in flows} == {0}


def test_every_packet_a_new_flow() -> None:
    """Each host has its own address range; addresses change first, then the port."""
    found = flows_of(3000, flows="multi")
    assert len({flow for flows in found for flow in flows}) == 5 * 3000
    ranges = [{source_address(flow) >> 16 for flow in flows} for flows in found]
    assert [len(networks) for networks in ranges] == [1] * 5
    assert len(set.union(*ranges)) == 5
    assert [flow - found[0][0] for flow in found[0]] == list(range(3000))


def test_a_host_does_not_use_the_flows_of_another() -> None:
    """Section III-E of the paper: no five-tuple comes twice in more than four billion packets of a host."""
    flows = []
    for host, frames_before in ((0, 1 << 28), (1, 0)):
        source = allocate(FlowSource)
        source.kind, source.host, source.sent = UNIQUE, host, frames_before
        flows.append(next_flow(source))
    assert flows[0] != flows[1]


@pytest.mark.parametrize("count", [5, 7, 100])
def test_a_number_of_flows(count: int) -> None:
    """Shared out among the hosts, and drawn with equal chances by each."""
    found = flows_of(2000, flows=count)
    assert len({flow for flows in found for flow in flows}) == count
    for flows in found:
        seen = np.unique(flows, return_counts=True)[1]
        assert count // 5 <= len(seen) <= -(-count // 5)
        assert len(seen) == 1 or stats.chisquare(seen).pvalue > 1e-3


def test_fewer_flows_than_hosts() -> None:
    assert len({flow for flows in flows_of(10, flows=3) for flow in flows}) == 3


# Switch.


@pytest.mark.parametrize("honours_pause", [False, True])
@pytest.mark.parametrize("source", ["pktgen", "cbr", "poisson", "on_off"])
@pytest.mark.parametrize("frame_bytes", [64, "imix"])
def test_frames_on_the_link_do_not_overlap(source: str, frame_bytes: Any, honours_pause: bool) -> None:
    """A frame's last bit comes at least its own wire time after the one before."""
    on = link(source=source, frame_bytes=frame_bytes, offered_kpps=2500, switch_honours_pause=honours_pause)
    found = sent(on, 20_000)
    wire = (found.frame_bytes[1:] + 20) * 800
    assert (np.diff(found.times_ps) >= wire).all()
    assert (np.diff(found.times_ps) == wire).any()


def test_both_kinds_of_switch_forward_alike() -> None:
    """While nothing is lost or paused, the queue of a switch that honours PAUSE makes no difference."""
    plain, pausing = (
        sent(link(source="on_off", frame_bytes="imix", offered_kpps=2000, flows="multi", switch_honours_pause=honours), 50_000)
        for honours in (False, True)
    )
    assert (plain.times_ps == pausing.times_ps).all()
    assert (plain.frame_bytes == pausing.frame_bytes).all()


def test_a_frame_is_stored_before_it_is_forwarded() -> None:
    """To an idle link: its last bit comes preamble and frame (8 + 1518 B, 1220.8 ns) after it reached the switch."""
    on = link(source="cbr", generators=1, offered_kpps=100, frame_bytes=1518)
    reached = int(on.sources[0].next.arrival_ps)
    assert sent(on, 2).times_ps[1] == reached + 1_220_800


@pytest.mark.parametrize("honours_pause", [False, True])
@pytest.mark.parametrize(("frame_bytes", "link_pps"), [(64, 14_880_952), (1518, 812_744)])
def test_above_the_link_rate_the_switch_discards(frame_bytes: int, link_pps: int, honours_pause: bool) -> None:
    """Two CBR hosts at 4/3 of the link's rate: once the buffer is full, a quarter is lost, and the link never idles."""
    on = link(
        source="cbr",
        generators=2,
        frame_bytes=frame_bytes,
        offered_kpps=link_pps / 1000 * 4 / 3,
        flows="multi",
        switch_honours_pause=honours_pause,
    )
    sent(on, (4 << 20) // (frame_bytes + 20))
    before, frames = int(on.discarded), 20_000
    assert before > 0
    times = sent(on, frames).times_ps
    assert set(np.diff(times).tolist()) == {wire_ps(frame_bytes, 10)}
    assert on.discarded - before == pytest.approx(frames / 3, abs=3)


@pytest.mark.parametrize("honours_pause", [False, True])
@pytest.mark.parametrize("kib", [10, 100, 1024])
def test_the_switch_holds_its_buffer(kib: int, honours_pause: bool) -> None:
    """At twice the link's rate half of the frames have left when the other half, of 84 wire bytes each, fills the buffer."""
    on = link(
        source="cbr",
        generators=2,
        offered_kpps=2 * 14_880.952,
        flows="multi",
        switch_buffer_kib=kib,
        switch_honours_pause=honours_pause,
    )
    on_link = 0
    while on.discarded == 0:
        sent(on, 1)
        on_link += 1
    assert on_link + on.egress.filled == pytest.approx(2 * kib * 1024 / 84, abs=4)


@pytest.mark.parametrize("honours_pause", [False, True])
def test_every_generated_frame_is_somewhere(honours_pause: bool) -> None:
    """Each generator has two frames in preparation; one frame is arriving."""
    on = link(source="poisson", offered_kpps=20_000, flows="multi", frame_bytes="imix", switch_honours_pause=honours_pause)
    taken = len(sent(on, 30_000).times_ps)
    generated = sum(int(on.sources[g].flows.sent) - 2 for g in range(5))
    assert on.discarded > 0
    assert generated == taken + 1 + on.discarded + on.egress.filled


# Replay.


def capture(gaps_ns: list[int], frame_bytes: int = 64) -> PacketFile:
    """A capture file of one flow, in memory."""
    times = np.cumsum([0, *gaps_ns]) * PS_PER_NS
    count = len(times)
    lengths = np.full(count, frame_bytes, dtype=np.int64)
    return PacketFile(times, lengths, np.zeros(count, dtype=np.int64), np.zeros(1, dtype=np.uint32), 0)


GAPS_NS = [1000, 5000, 200, 90_000, 3000]


@pytest.mark.parametrize(("speed", "factor"), [(1.0, 1.0), (2.0, 0.5), (0.25, 4.0), (1.25, 0.8)])
def test_replay_keeps_the_gaps_at_any_speed(speed: float, factor: float) -> None:
    times = arrivals(capture(GAPS_NS), speed, 800)
    assert np.diff(times).tolist() == [round(gap * factor) * PS_PER_NS for gap in GAPS_NS]


def test_replay_is_no_faster_than_the_link() -> None:
    """1 ns apart becomes 67.2 ns; the frame after the pause comes when the file says."""
    times = arrivals(capture([1, 1, 1, 10_000]), 1.0, 800)
    assert (times - times[0]).tolist() == [0, 67_200, 134_400, 201_600, 10_003_000]


def test_a_loop_repeats_the_file_after_its_mean_gap() -> None:
    """100 us in four gaps: the file comes again every 125 us."""
    packets = capture([10_000, 20_000, 30_000, 40_000])
    passes = list(islice(blocks(packets, arrivals(packets, 1.0, 800), True, 67_200), 3))
    starts = [int(times[0]) for times, _, _ in passes]
    assert np.diff(starts).tolist() == [125 * PS_PER_US] * 2
    assert all((times - times[0] == packets.times_ps).all() for times, _, _ in passes)


@pytest.mark.parametrize("loop", [False, True])
def test_a_replayed_file_reaches_the_nic(loop: bool) -> None:
    """A frame every 10 us at twice the file's speed: 2 000 frames in 10 ms, or all of a file of 500."""
    made = simulation(capture([20_000] * 499), source="pcap", pcap="in memory", speed=2.0, loop=loop)
    made.run([PS_PER_MS, 11 * PS_PER_MS])
    assert made.rows[1].offered == 0
    assert made.rows[2].offered == pytest.approx(1000 if loop else 500, abs=1)
