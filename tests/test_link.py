"""A real link: two hosts in network namespaces joined by veth, the other one behind a program that is called ssh."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from calibration.campaign import load_campaign
from calibration.host.access import Host, Link, Route
from calibration.link import safety
from calibration.link.other_host import GeneratorError, OtherHost
from calibration.link.programs import Demand, Pktgen, program
from calibration.link.settings import Generator
from calibration.record import read_record
from simnet.cli import main
from simnet.errors import UserError

HERE = Path(__file__).parent / "link"
MAC = "02:00:00:00:00:fe"
SENDER = f"{sys.executable} {HERE / 'sender.py'} {{interface}} {{destination}} {{frame_bytes}} {{flows}} {{pps}}"
CAMPAIGN = """\
link:
  interface: rx0
  generator:
    ssh: root@sender.example
    interface: tx0
    destination: 02:00:00:00:00:fe
    program: command
    command: "SENDER"
  stray_packets: 0
  retry_seconds: 0.2
offered_kpps: [2]
methods: [recv]
placements:
  apart: {softirq: irq, softirq_cpu: FIRST, reader_cpu: SECOND}
repeats: 3
window: {seconds: 0.2, warm_up_seconds: 0.05, poll_trace_seconds: 0}
reject: {foreign_share: 1, steal_share: 1, retries: 0}
"""
FIRST, SECOND, *_ = [*sorted(os.sched_getaffinity(0)), 0, 0]


def _why_no_link() -> str | None:
    if os.geteuid() != 0:
        return "needs root"
    if len(os.sched_getaffinity(0)) < 2:
        return "needs two CPUs"
    try:
        done = subprocess.run(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", HERE / "two_hosts.sh", "true"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PREPARE": ":", "PYTHON": sys.executable},
        )
    except OSError as error:
        return str(error)
    return f"namespaces cannot be used here: {done.stderr.strip()}" if done.returncode else None


_REASON = _why_no_link()
needs_link = pytest.mark.skipif(_REASON is not None, reason=str(_REASON))


def campaign_text(*changes: tuple[str, str]) -> str:
    text = CAMPAIGN.replace("SENDER", SENDER).replace("FIRST", str(FIRST)).replace("SECOND", str(SECOND))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


class Hosts:
    """Two hosts for the time of a command."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "ssh.log"

    def start(self, *changes: tuple[str, str], prepare: str = ":", **environment: str) -> subprocess.Popen[str]:
        """Begin `simnet capture run` of the campaign."""
        (self.folder / "link.yaml").write_text(campaign_text(*changes), encoding="utf-8")
        measure = ["-m", "simnet", "capture", "run", str(self.folder / "link.yaml"), "--out", str(self.folder / "out")]
        return subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", HERE / "two_hosts.sh", sys.executable, *measure],
            env={
                **os.environ,
                "PATH": f"{HERE}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "SSH_LOG": str(self.log),
                "PREPARE": prepare,
                "PYTHON": sys.executable,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *changes: tuple[str, str], **more: str) -> tuple[int, str]:
        """Exit status and what was said on standard error, without progress."""
        with self.start(*changes, **more) as process:
            _, errors = process.communicate(timeout=120)
        return process.returncode, "\n".join(line for line in errors.splitlines() if line.startswith("simnet: "))

    def rows(self) -> list[dict[str, Any]]:
        """The windows, from the record or, after a failure, from the journal."""
        journal = self.folder / "out" / "windows.jsonl"
        if journal.exists():
            return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
        windows = read_record(self.folder / "out").windows
        known = windows.astype(object).where(windows.notna(), None)
        return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def in_balance(row: dict[str, Any]) -> bool:
    dropped = sum(count for name, count in row.items() if name.startswith("dropped_") and count is not None)
    moved = row["in_flight_after"] - row["in_flight_before"]
    return bool(
        row["unaccounted"] == 0
        and row["offered"] == row["captured"] + dropped + moved
        and row["whole_offered"] == row["whole_arrived"]
    )


@needs_link
def test_every_packet_of_another_host_is_somewhere(hosts: Hosts) -> None:
    status, errors = hosts.run(
        ("methods: [recv]", "methods: [recv, tpacket_v3]\nreceive_buffer_bytes: 8192\nflows: [4]"),
        ("offered_kpps: [2]", "offered_kpps: [2, 60]"),
        ("repeats: 3", "repeats: 1"),
    )
    assert (status, errors) == (0, "")
    rows = hosts.rows()
    assert len(rows) == 4
    for row in rows:
        assert in_balance(row), json.dumps(row, default=str)
        assert row["whole_offered"] >= row["offered"] > 0
        assert row["sent"] > 0
        assert row["sent_clock_ns"] > 0
        assert row["generator"] == "command"
    assert sum(row["dropped_receive_buffer"] for row in rows if row["method"] == "recv" and row["target_kpps"] == 60) > 0
    arguments = hosts.log.read_text(encoding="utf-8").splitlines()
    assert len(arguments) == 1, "one connection for the whole campaign"
    assert "BatchMode=yes" in arguments[0]
    assert "root@sender.example exec sh" in arguments[0]


@needs_link
def test_a_record_of_a_link_names_no_host_and_is_calibrated(hosts: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.run(("offered_kpps: [2]", "offered_kpps: [2, 20]"), ("poll_trace_seconds: 0}", "poll_trace_seconds: 0.05}")) == (
        0,
        "",
    )
    text = (hosts.folder / "out" / "record.json").read_text(encoding="utf-8")
    for private in ("sender", MAC, "ssh", str(HERE)):
        assert private not in text
    about = json.loads(text)
    assert about["campaign"]["link"]["generator"]["interface"] == "tx0"
    assert about["conditions"]["link"]["generator_kernel"] == os.uname().release
    assert about["conditions"]["link"]["driver"] == "veth"
    assert main(["calibrate", str(hosts.folder / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["settings"]["host.nic.model"] == "veth"
    assert [window["model_kpps"] for window in found["windows"]] == pytest.approx([2, 20], rel=0.3)  # as the host offered
    assert all(window["busy"] > 0 and window["softirq"] is not None for window in found["windows"])


DEFAULT_ROUTE = "ip address add 198.51.100.1/24 dev {0}; ip route add default via 198.51.100.2"


@needs_link
@pytest.mark.parametrize(
    ("changes", "prepare", "message"),
    [
        (
            (),
            'touch "$SSH_LOG.down"',
            "the generator's host is out of reach (exit status 255): ssh: connect to host sender.example",
        ),
        ((("interface: tx0", "interface: tx1"),), ":", "link.generator.interface tx1: no such interface on the generator's host"),
        ((("interface: rx0", "interface: rx1"),), ":", "link.interface rx1: no such interface; there are lo, rx0"),
        ((), DEFAULT_ROUTE.format("rx0"), "link.interface rx0: never this one, because the IPv4 default route"),
        (
            (),
            f"nsenter --target $OTHER --net sh -c '{DEFAULT_ROUTE.format('tx0')}'",
            "link.generator.interface tx0: never this one, because on the generator's host the IPv4 default route of table main leaves by tx0",
        ),
        (
            (),
            "nsenter --target $OTHER --net sh -c 'ip address add 198.51.100.1/24 dev tx0; ip route add 128.0.0.0/1 via 198.51.100.2 table 7'",
            "the IPv4 route to half of all addresses of table 7 leaves by tx0",
        ),
        ((), "ip link set rx0 down", "link.interface rx0: is down, or has no carrier"),
        ((("    program: command\n", ""), (f'    command: "{SENDER}"\n', "")), ":", "link.generator.program pktgen: not there"),
        ((("ssh: root@sender.example", "reach: [no-such-program]"),), ":", "no-such-program: No such file or directory"),
        ((("ssh: root@sender.example", "reach: [echo]"),), ":", "the generator's host is out of reach"),
    ],
)
def test_nothing_is_sent_where_it_must_not_be(
    hosts: Hosts, changes: tuple[tuple[str, str], ...], prepare: str, message: str
) -> None:
    if "pktgen" in message and Path("/proc/net/pktgen").exists():
        pytest.skip("this kernel has pktgen")
    sent = hosts.folder / "sent"
    seen = f"trap 'nsenter --target $OTHER --net ip -s -j link show dev tx0 >{sent}; kill $OTHER' EXIT; {prepare}"
    status, errors = hosts.run(*changes, prepare=seen)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 0
    assert json.loads(sent.read_text(encoding="utf-8"))[0]["stats64"]["tx"]["packets"] == 0
    assert not (hosts.folder / "out").exists()


@needs_link
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-generator {interface}", "the generator ended by itself: command not found (exit status 127)"),
        (f"{SENDER} 50", "the generator ended by itself: before the window was over (exit status 3)"),
        ("sleep 0.1; exit 5 # {interface}", "the generator ended by itself: before the window was over (exit status 5)"),
    ],
)
def test_a_generator_that_ends_makes_a_rejected_window_and_three_end_the_campaign(hosts: Hosts, command: str, reason: str) -> None:
    status, errors = hosts.run((SENDER, command))
    assert status == 2
    assert f"3 windows failed one after the other: {reason}" in errors
    assert "finished windows are kept" in errors
    assert [row["rejected"] for row in hosts.rows()] == [reason] * 2


def when(condition: Any, seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def senders(folder: Path) -> list[int]:
    """Process ids of the generators of a campaign, known by the folder in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_text().split("\0")
            if words[:2] == [sys.executable, str(HERE / "sender.py")] and str(folder) in (entry / "environ").read_text():
                found.append(int(entry.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def simnet_of(process: int) -> int:
    """The process that measures, below unshare and the script."""
    for child in children(process):
        command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"simnet" in command:
            return child
    return 0


def shell_of(process: int) -> int:
    """The shell on the other host, as its simnet sees it: the child that is neither a worker nor a benchmark."""
    return next(pid for pid in children(process) if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == b"sh")


@needs_link
def test_a_connection_that_breaks_makes_a_rejected_window_and_comes_back(hosts: Hosts) -> None:
    with hosts.start(("seconds: 0.2", "seconds: 1")) as process:
        when(lambda: senders(hosts.folder))
        os.kill(shell_of(simnet_of(process.pid)), signal.SIGKILL)
        for orphan in senders(hosts.folder):  # nobody is left that could do it
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    rows = hosts.rows()
    assert [row["rejected"] for row in rows][:1] == ["the generator's host is out of reach (exit status -9)"]
    assert len(rows) == 3
    assert all(in_balance(row) for row in rows[1:])


@needs_link
def test_a_host_that_does_not_come_back_ends_the_campaign_and_says_what_to_do(hosts: Hosts) -> None:
    with hosts.start(("seconds: 0.2", "seconds: 1")) as process:
        when(lambda: senders(hosts.folder))
        hosts.log.with_name("ssh.log.down").touch()
        os.kill(shell_of(simnet_of(process.pid)), signal.SIGTERM)  # as when sshd ends the session
        when(lambda: not senders(hosts.folder))
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "No route to host; it does not come back; finished windows are kept; it may still send: on that host, end" in errors


@needs_link
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_generator_ends_with_the_campaign(hosts: Hosts, number: signal.Signals) -> None:
    with hosts.start(("seconds: 0.2", "seconds: 20")) as process:
        when(lambda: senders(hosts.folder))
        os.kill(simnet_of(process.pid), number)
        when(lambda: not senders(hosts.folder))
        process.communicate(timeout=60)
    assert process.returncode != 0


@pytest.fixture
def settings() -> Generator:
    return Generator(reach=["sh", "-c"], interface="eth2", destination=MAC, threads=2, options=["burst 4"])


def test_pktgen_is_told_rate_size_flows_and_an_end(settings: Generator) -> None:
    lines = Pktgen(settings).begin(Demand(kpps=500, frame_bytes=64, flows=16, seconds=10)).splitlines()
    first = [shlex.split(line) for line in lines if "eth2@0" in line]
    assert first[0] == ["put", "kpktgend_0", "add_device eth2@0"]
    assert all(words[:2] == ["put", "eth2@0"] for words in first[1:])
    told = dict(words[2].split(" ", 1) for words in first[1:])
    assert told["delay"] == "4000"  # half of 500 kpps
    assert told["count"] == "2500000"  # 10 s at most, even if nobody stops it
    assert told["pkt_size"] == "60"  # without the FCS
    assert (told["udp_src_min"], told["udp_src_max"]) == ("1024", "1040")
    assert told["dst_mac"] == MAC
    assert told["burst"] == "4"
    assert sum("eth2@1" in line for line in lines) == len(first)
    assert "start" in lines[-1]


def fake_pktgen(folder: Path) -> list[str]:
    """A command that reaches a shell for which the files of pktgen are in a folder, and keep all that is written to them."""
    (folder / "pgctrl").touch()
    (folder / "kpktgend_0").write_text("Running: \nStopped: \n", encoding="utf-8")
    (folder / "kpktgend_1").write_text("Running: \nStopped: \n", encoding="utf-8")
    return ["sh", "-c", f"exec sed -u 's,> /proc/net/pktgen,>> {folder},g; s,/proc/net/pktgen,{folder},g' | sh; : "]


def test_pktgen_is_stopped_read_and_reset(settings: Generator, tmp_path: Path) -> None:
    chosen = program(settings)
    host = OtherHost(fake_pktgen(tmp_path))
    assert host.attempt(chosen.missing)[0] == 0
    assert host.attempt(chosen.in_use)[1] == ""
    host.at_end(chosen.end)
    host.run(chosen.begin(Demand(10, 64, 1, 1)))
    host.run('wait "$generator"')
    assert "add_device eth2@1" in (tmp_path / "kpktgend_1").read_text()
    (tmp_path / "eth2@0").write_text("Params: x\nCurrent:\n     pkts-sofar: 12  errors: 0\n", encoding="utf-8")
    assert "pkts-sofar: 12" in host.run(f"{chosen.halt}; {chosen.result}")
    host.close()
    assert (tmp_path / "pgctrl").read_text().split() == ["reset", "start", "stop", "stop", "reset"]
    (tmp_path / "kpktgend_1").write_text("Running: \nStopped: eth9@1 \n", encoding="utf-8")
    other = OtherHost(fake_pktgen_again(tmp_path))
    assert "eth9@1" in other.attempt(chosen.in_use)[1]
    other.close()
    assert (tmp_path / "pgctrl").read_text().split()[-1] == "reset"


def fake_pktgen_again(folder: Path) -> list[str]:
    return ["sh", "-c", f"exec sed -u 's,/proc/net/pktgen,{folder},g' | sh; : "]


def test_a_refused_line_of_pktgen_is_told(settings: Generator, tmp_path: Path) -> None:
    host = OtherHost(fake_pktgen_again(tmp_path / "missing"))
    with pytest.raises(GeneratorError, match=r"refused what it was asked \(exit status 3\): pktgen refuses: reset"):
        host.run(program(settings).begin(Demand(10, 64, 1, 1)))
    assert host.run("echo still there") == "still there"
    host.close()


def test_a_host_that_does_not_answer_is_not_waited_for_and_a_late_answer_is_told_from_the_next() -> None:
    host = OtherHost(["sh", "-c"])
    with pytest.raises(GeneratorError, match=r"has not answered for 0\.05 s"):
        host.run("sleep 1; false", seconds=0.05)
    assert host.attempt("true")[0] == 0
    host.close()


def test_an_interface_that_ssh_comes_in_by_is_refused() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safety, "_json", lambda _, command: ANSWERS[command.partition(" show")[0]])
        patch.setattr(OtherHost, "__init__", lambda _: None)
        patch.setattr(OtherHost, "run", lambda *_: "198.51.100.9 5000 198.51.100.1 22")
        settings = Generator(ssh="root@sender", interface="eth2", destination=MAC)
        with pytest.raises(UserError, match="never this one, because ssh comes in by it"):
            safety.refuse_over_there(OtherHost(), settings, program(settings))  # type: ignore[call-arg]


ANSWERS: dict[str, list[dict[str, Any]]] = {
    "ip -j -d link": [{"ifname": "eth2", "ifindex": 2, "flags": ["UP", "LOWER_UP"]}],
    "ip -N -j -d -4 route": [],
    "ip -N -j -d -6 route": [],
    "ip -j address": [{"addr_info": [{"local": "198.51.100.1"}]}],
}


def test_routes_and_links_of_the_other_host_read_as_those_of_this_one() -> None:
    links = [
        {"ifname": "eth2", "ifindex": 2, "address": "a", "master": "bond0"},
        {"ifname": "bond0", "ifindex": 3, "address": "a", "linkinfo": {"info_kind": "bond"}},
        {"ifname": "vlan7", "ifindex": 4, "address": "a", "link": "bond0", "linkinfo": {"info_kind": "vlan"}},
    ]
    assert safety._links(links)[2] == Link(4, "vlan7", "a", "vlan", None, 3)
    found = [
        {"type": "1", "dst": "default", "table": "7", "nexthops": [{"dev": "vlan7"}, {"dev": "bond0"}]},
        {"type": "7", "dst": "default", "dev": "eth2"},
        {"type": "1", "dst": "192.0.2.0/24", "dev": "eth2"},
    ]
    routes = safety._routes(found, "IPv4", links)
    assert routes == [Route("IPv4", 7, 0, (4, 3))]
    assert safety.carriers(safety._links(links), routes).keys() == {2, 3, 4}


class OneVector(Host):
    """A host whose NIC has a vector on CPU 5."""

    def read(self, path: str) -> str:
        return {"/sys/class/net/eth2/carrier": "1", "/proc/irq/40/smp_affinity_list": "5"}[path]


def test_interrupts_elsewhere_than_the_campaign_says_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "why_never", lambda *_: None)
    monkeypatch.setattr(safety, "vectors", lambda *_: {40: "eth2-TxRx-0"})
    [problem] = safety.problems_here("eth2", [2, 2], OneVector())
    assert "interrupt eth2-TxRx-0 goes to CPU 5, the campaign says softirq_cpu 2" in problem
    assert "simnet capture check --interface eth2 --cpus 2 --apply" in problem
    assert safety.problems_here("eth2", [5], OneVector()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ssh: root@sender.example", "reach: []"), "link.generator.reach"),
        (("ssh: root@sender.example", "ssh: -oProxyCommand=x"), "link.generator.ssh"),
        (("    ssh: root@sender.example\n", ""), "ssh or reach: one of them"),
        (("interface: tx0", "interface: 'tx0; reboot'"), "link.generator.interface"),
        ((MAC, "ff:ff:ff:ff:ff:ff"), "destination: the address of one port"),
        ((MAC, "here"), "link.generator.destination"),
        (("{pps}", "{rate}"), "command: no {rate}; there are interface"),
        (("{pps}", "{"), "a brace that is meant is written twice"),
        (("{interface}", ""), "has no {interface}"),
        (("program: command", "program: pktgen"), "command: needed with program command"),
        (("softirq: irq, softirq_cpu: 0", "softirq: inline"), "allowed here: irq, because nothing is moved on a link"),
        (("softirq: irq, ", "softirq: irq, load_cpu: 0, "), "on a link the generator is on the other host"),
        (("methods: [recv]", "methods: [guest]"), "guest is for the lab only"),
        (("repeats: 3", "generator: xdp"), "it is link.generator"),
        (("placements:\n", "placements:\n  b: {softirq: irq, softirq_cpu: 7}\n"), "all have the same softirq_cpu"),
    ],
)
def test_a_mistake_in_a_link_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    old, new = change
    text = campaign_text().replace(f"softirq_cpu: {FIRST}", "softirq_cpu: 0")
    assert old in text
    (tmp_path / "link.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=r"link\.yaml") as failure:
        load_campaign(str(tmp_path / "link.yaml"))
    assert message in str(failure.value)


def test_a_placement_on_the_nics_cpu_needs_a_link(tmp_path: Path) -> None:
    text = "offered_kpps: [1]\nmethods: [recv]\nplacements:\n  a: {softirq: irq, softirq_cpu: 1}\n"
    (tmp_path / "lab.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="irq needs a link"):
        load_campaign(str(tmp_path / "lab.yaml"))


def test_the_plan_of_a_link_asks_nobody_and_prints_what_would_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OtherHost, "__init__", lambda *_: pytest.fail("the other host was called"))
        assert main(["capture", "plan", "link/ten-gigabit"]) == 0
        text = capsys.readouterr().out
        assert "pktgen on the other host, to eth2" in text
        assert "put eth2@0 'dst_mac 02:00:00:00:00:fe'" in text
        assert text.count("echo reset > /proc/net/pktgen/pgctrl") == 1
    assert load_campaign("link/ten-gigabit").whole_seconds < 10 * 60
