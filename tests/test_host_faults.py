"""Tuning a host when something is wrong: refusals, missing tools, damaged journals, signals, kills; and what is never touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import ETH0, ETH2, FixtureHost, build, everything
from test_host_tuning import TWO, printed

from calibration.host import journal as journals
from calibration.host import tuning
from calibration.host.access import AbsentError, Host, Link, Route
from calibration.host.journal import FILE, DamagedError
from calibration.host.operations import operations
from calibration.host.routes import carriers
from calibration.host.session import check_command, restore_command
from calibration.host.tuning import put_back, tuned
from simnet.cli import main
from simnet.errors import UserError

HERE = Path(__file__).parent


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return build(tmp_path / "root", "ice")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def left(host: FixtureHost) -> dict[str, str]:
    """What was there before a run that was killed; its journal is in `state`."""
    before = everything(host.root)
    assert printed(check_command, host, apply=True, keep=True, cpus="2-3")[0] == 0
    assert everything(host.root) != before
    return before


# What is never touched


def carried(*routes: Route, links: tuple[Link, ...]) -> set[str]:
    names = {link.index: link.name for link in links}
    return {names[index] for index in carriers(links, routes)}


DEFAULT = Route("IPv4", 254, 0, (2,))
BRIDGE = (Link(2, "br0", kind="bridge"), Link(3, "eth0", master=2), Link(4, "vnet0", kind="tun", master=2), Link(5, "eth1"))
BOND = (
    Link(2, "bond0.7", kind="vlan", lower=3),
    Link(3, "bond0", kind="bond"),
    Link(4, "eth0", master=3),
    Link(5, "eth1", master=3),
)
VRF = (Link(2, "eth0", master=3), Link(3, "mgmt", kind="vrf"), Link(4, "eth1"))
VETH = (Link(2, "veth0", kind="veth", lower=3), Link(3, "veth1", kind="veth", lower=2), Link(4, "eth1"))


@pytest.mark.parametrize(
    ("links", "never"),
    [
        (BRIDGE, {"br0", "eth0", "vnet0"}),
        (BOND, {"bond0.7", "bond0", "eth0", "eth1"}),
        (VRF, {"eth0", "mgmt"}),
        (VETH, {"veth0"}),
    ],
)
def test_what_stands_above_and_below_a_carrier_is_one_too(links: tuple[Link, ...], never: set[str]) -> None:
    assert carried(DEFAULT, links=links) == never


@pytest.mark.parametrize(
    "route",
    [
        Route("IPv4", 254, 0, (4,)),
        Route("IPv6", 254, 0, (4,)),
        Route("IPv4", 254, 0, (2, 4)),
        Route("IPv4", 7, 0, (4,)),
        Route("IPv4", 254, 1, (4,)),
    ],
    ids=["IPv4", "IPv6", "multipath", "another table", "a half"],
)
def test_the_interface_of_a_default_route_is_never_changed(host: FixtureHost, state: Path, route: Route) -> None:
    host.routes = [route]
    with pytest.raises(UserError, match=rf"eth2: never changed.*{route.family}.*table {route.table} leaves by eth2"):
        printed(check_command, host, apply=True, keep=True)
    assert host.log == []
    assert not (state / FILE).exists()


def test_a_default_route_without_interface_makes_everything_unsafe(host: FixtureHost) -> None:
    host.routes = [Route("IPv4", 254, 0, ())]
    with pytest.raises(UserError, match="names no interface"):
        printed(check_command, host, apply=True, keep=True)
    assert host.log == []


def test_the_physical_function_below_a_carrier_is_never_changed(host: FixtureHost) -> None:
    net = host.root / "sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/virtfn0/net/eth5"
    net.mkdir(parents=True)
    host.all_links = [ETH0, ETH2, Link(9, "eth5")]
    host.routes = [Route("IPv4", 254, 0, (9,))]
    with pytest.raises(UserError, match="eth5 is a virtual function of eth2"):
        printed(check_command, host, apply=True, keep=True)


def test_files_of_another_namespace_are_not_taken_for_the_interfaces(host: FixtureHost) -> None:
    host.all_links = [ETH0, Link(7, "eth2", "a0:36:9f:00:00:02")]
    with pytest.raises(UserError, match="another network namespace"):
        printed(check_command, host)


# What the user or the host lacks


def test_no_such_interface(host: FixtureHost) -> None:
    with pytest.raises(UserError, match=r"eht2: no such interface; there are eth0, eth2; did you mean 'eth2'\?"):
        printed(check_command, host, interface="eht2")


def test_no_root(host: FixtureHost, state: Path) -> None:
    host.root_user = False
    assert printed(check_command, host)[0] == 1, "looking needs none"
    with pytest.raises(UserError, match="needs root"):
        printed(check_command, host, apply=True, keep=True)
    assert host.log == []
    assert not (state / FILE).exists()


def test_no_root_to_restore(host: FixtureHost, left: dict[str, str], state: Path) -> None:  # noqa: ARG001
    host.root_user = False
    host.log.clear()
    with pytest.raises(UserError, match="needs root"):
        printed(restore_command, host)
    assert host.log == []
    assert (state / FILE).exists()


def test_no_such_interface_even_if_only_the_hosts_settings_are_wanted(host: FixtureHost) -> None:
    with pytest.raises(UserError, match="no such interface"):
        printed(check_command, host, interface="eth7", only="governor", apply=True, keep=True)
    assert host.log == []


def test_no_pyroute2(monkeypatch: pytest.MonkeyPatch, host: FixtureHost) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    monkeypatch.setitem(sys.modules, "pyroute2.ethtool.ioctl", None)
    with pytest.raises(AbsentError, match=r"simnet-rx\[capture\]"):
        Host(host.root).links()
    with pytest.raises(AbsentError, match=r"simnet-rx\[capture\]"):
        Host(host.root).ethtool("rings", "eth2")


def test_no_pyroute2_is_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    assert main(["capture", "check", "--interface", "lo"]) == 2
    assert "pip install 'simnet-rx[capture]'" in capsys.readouterr().err


def test_no_systemctl(host: FixtureHost) -> None:
    host.systemctl = False
    before = everything(host.root)
    status, text = printed(check_command, host, apply=True, keep=True, cpus="2-3")
    assert status == 1
    assert "irqbalance irqbalance = stopped: refused: systemctl is not installed" in text
    assert printed(restore_command, host)[0] == 0
    assert everything(host.root) == before


def test_no_journal_no_change(host: FixtureHost, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:  # noqa: ARG001
        raise OSError(28, "No space left on device")

    before = everything(host.root)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        printed(check_command, host, apply=True, keep=True, cpus="2-3")
    assert host.log == []
    assert everything(host.root) == before
    assert not (state / FILE).exists()


# What the driver refuses


@pytest.mark.parametrize("pattern", ["rings rx", "coalesce", "smp_affinity", "rx-gro", "scaling_governor", "threaded", "channels"])
def test_a_refusal_is_reported_and_does_not_stop_the_rest(host: FixtureHost, pattern: str) -> None:
    before = everything(host.root)
    host.refused = {pattern: "Operation not supported"}
    (host.root / "sys/class/net/eth2/threaded").write_text("1\n")
    status, text = printed(check_command, host, apply=True, keep=True, cpus="2-3")
    assert status == 1
    assert "refused: " in text
    assert "Operation not supported" in text
    assert (host.root / "proc/sys/kernel/sched_autogroup_enabled").read_text() == "0\n", "the last ones are still set"
    host.refused = {}
    assert printed(restore_command, host)[0] == 0
    (host.root / "sys/class/net/eth2/threaded").write_text("0\n")
    assert everything(host.root) == before


def test_a_value_that_the_driver_rounds_is_reported(host: FixtureHost) -> None:
    ask = host.set_ethtool

    def rounds(kind: str, interface: str, name: str, value: object) -> None:
        ask(kind, interface, name, int(value) // 32 * 32 if kind == "rings" else value)  # type: ignore[call-overload, arg-type]

    host.set_ethtool = rounds  # type: ignore[method-assign, assignment]
    status, text = printed(check_command, host, apply=True, keep=True, only="rings", ring=1000)
    assert status == 1
    assert "rings rx = 1000: taken as 992" in text


def test_what_cannot_be_put_back_stays_in_the_journal(host: FixtureHost, left: dict[str, str], state: Path) -> None:
    host.refused = {"scaling_governor": "Device or resource busy"}
    status, text = printed(restore_command, host)
    assert status == 1
    assert "governor cpu2 = powersave: refused" in text
    assert (state / FILE).exists()
    host.refused = {}
    assert printed(restore_command, host)[0] == 0
    assert everything(host.root) == left
    assert not (state / FILE).exists()


# Journals


def test_a_journal_that_waits_is_not_overwritten(host: FixtureHost, left: dict[str, str], state: Path) -> None:
    text = (state / FILE).read_text()
    with pytest.raises(UserError, match="simnet capture restore"):
        printed(check_command, host, apply=True, keep=True)
    assert (state / FILE).read_text() == text
    assert "An earlier run has left settings changed" in printed(check_command, host)[1]
    assert put_back(host, state)
    assert everything(host.root) == left


def cuts(text: str) -> Iterator[str]:
    """The text cut off at every tenth byte, and in the middle of nothing."""
    yield from (text[:end] for end in range(0, len(text) - 1, max(1, len(text) // 100)))


def test_a_truncated_journal_is_refused_and_its_lines_are_told(host: FixtureHost, left: dict[str, str], state: Path) -> None:  # noqa: ARG001
    whole = (state / FILE).read_text()
    now = everything(host.root)
    for text in cuts(whole):
        (state / FILE).write_text(text)
        with pytest.raises(DamagedError, match=r"cut off|checksum"):
            put_back(host, state)
        assert everything(host.root) == now
    (state / FILE).write_text(whole[: len(whole) // 2])
    with pytest.raises(DamagedError) as caught:
        put_back(host, state)
    assert "eth2: channels combined was 8" in str(caught.value)
    assert "--forget" in str(caught.value)


def test_a_changed_journal_is_refused(host: FixtureHost, left: dict[str, str], state: Path) -> None:  # noqa: ARG001
    whole = (state / FILE).read_text()
    for text in (whole.replace('"before": 8', '"before": 9'), "\n".join(reversed(whole.splitlines())), whole + "{}\n", "\x00" * 50):
        (state / FILE).write_text(text)
        with pytest.raises(DamagedError):
            put_back(host, state)
    (state / FILE).write_text(whole.replace("journal/1", "journal/2"))
    with pytest.raises(DamagedError, match="another version"):
        put_back(host, state)
    assert (state / FILE).exists()


def test_a_journal_cannot_point_at_other_files(host: FixtureHost, left: dict[str, str], state: Path) -> None:  # noqa: ARG001
    (host.root / "proc/sys/net/secret").write_text("untouched\n")
    journal = journals.read(state)
    assert journal is not None
    journal.entries = [journals.Entry("busy-poll", "", "../secret", "1"), journals.Entry("nonsense", "", "x", "1")]
    journals.write(state, journal)
    outcomes = put_back(host, state)
    assert [bool(outcome.problem) for outcome in outcomes] == [True, True]
    assert (host.root / "proc/sys/net/secret").read_text() == "untouched\n"


def test_forget_prints_and_drops(host: FixtureHost, left: dict[str, str], state: Path) -> None:  # noqa: ARG001
    host.log.clear()
    status, text = printed(restore_command, host, forget=True)
    assert status == 0
    assert '"target": "combined", "before": 8' in text
    assert not (state / FILE).exists()
    assert host.log == []


def test_another_namespace_has_other_interfaces(host: FixtureHost, left: dict[str, str], state: Path) -> None:  # noqa: ARG001
    (host.root / "proc/self/ns/net").unlink()
    (host.root / "proc/self/ns/net").symlink_to("net:[4026532999]")
    with pytest.raises(UserError, match="another network namespace"):
        put_back(host, state)
    assert (state / FILE).exists()


def reboot(host: FixtureHost) -> None:
    """The kernel numbers interfaces and namespaces anew."""
    (host.root / "proc/sys/kernel/random/boot_id").write_text("another\n")
    (host.root / "sys/class/net/eth2/ifindex").write_text("11\n")
    (host.root / "proc/self/ns/net").unlink()
    (host.root / "proc/self/ns/net").symlink_to("net:[4026531993]")


def test_after_a_reboot_the_same_card_is_put_back(host: FixtureHost, left: dict[str, str], state: Path) -> None:
    reboot(host)
    assert not [outcome for outcome in put_back(host, state) if outcome.problem]
    after = everything(host.root)
    assert {path for path in left if after.get(path) != left[path]} == {
        "proc/sys/kernel/random/boot_id",
        "sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/net/eth2/ifindex",
    }


def test_another_card_of_the_same_name_is_not_touched(host: FixtureHost, left: dict[str, str], state: Path) -> None:  # noqa: ARG001
    reboot(host)
    (host.root / "sys/class/net/eth2/address").write_text("a0:36:9f:00:00:99\n")
    host.log.clear()
    outcomes = put_back(host, state)
    assert not [outcome for outcome in outcomes if outcome.problem]
    assert all(outcome.gone == (outcome.interface == "eth2") for outcome in outcomes)
    assert not [line for line in host.log if "eth2" in line or "irq/" in line or line.startswith("ethtool")]
    assert [line for line in host.log if "scaling_governor" in line], "the host's own settings are put back"
    assert not (state / FILE).exists()


def test_two_at_once(host: FixtureHost, state: Path) -> None:
    hold = "import sys, pathlib; from calibration.host.journal import locked\nwith locked(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another simnet is at work"):
            printed(check_command, host, apply=True, keep=True)
        assert host.log == []
        other.communicate("\n")
    assert printed(check_command, host, apply=True, keep=True)[0] == 0


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_and_everything_is_put_back(host: FixtureHost, state: Path, number: signal.Signals) -> None:
    before = everything(host.root)
    handlers = [signal.getsignal(stop) for stop in tuning.STOPS]

    def work() -> None:
        with tuned(host, operations("eth2", TWO), state):
            os.kill(os.getpid(), number)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt, match=number.name):
        work()
    assert everything(host.root) == before
    assert [signal.getsignal(stop) for stop in tuning.STOPS] == handlers


def test_signals_while_putting_back_wait(host: FixtureHost, state: Path) -> None:
    before = everything(host.root)
    write = host.write

    def signalled(path: str, text: str) -> None:
        if "autogroup" in path and text == "1":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        write(path, text)

    host.write = signalled  # type: ignore[method-assign]

    def work() -> None:
        with tuned(host, operations("eth2", TWO), state):
            pass

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        work()
    assert everything(host.root) == before


def test_a_signal_while_settings_are_applied(host: FixtureHost, state: Path) -> None:
    before = everything(host.root)
    write = host.write

    def signalled(path: str, text: str) -> None:
        if path.endswith("smp_affinity_list") and text == "3":
            os.kill(os.getpid(), signal.SIGTERM)
        write(path, text)

    host.write = signalled  # type: ignore[method-assign]

    def work() -> None:
        with tuned(host, operations("eth2", TWO), state):
            raise AssertionError("never here")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert everything(host.root) == before


# kill -9


def namespace_is_possible() -> str:
    """Why a test in namespaces of its own cannot run here; empty if it can."""
    if sys.platform != "linux":
        return "not Linux"
    if os.geteuid() != 0:
        return "needs root"
    if not (shutil.which("unshare") and shutil.which("ip")):
        return "needs unshare (util-linux) and ip (iproute2)"
    if in_namespace("true").returncode:
        return "namespaces or veth are not available here"
    return ""


def in_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command beside a veth pair in network and mount namespaces of its own."""
    unshare = ["unshare", "--net", "--mount", "--propagation", "private", "sh", str(HERE / "host_namespace.sh")]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHON": sys.executable}
    return subprocess.run([*unshare, *command], capture_output=True, text=True, env=environment, check=False, timeout=120)


@pytest.fixture(scope="module")
def namespace() -> None:
    if reason := namespace_is_possible():
        pytest.skip(reason)


def every_kill_was_put_back(text: str) -> None:
    kills = json.loads(text)
    assert len(kills) == 20
    assert all(kill["killed"] for kill in kills)
    assert [kill for kill in kills if kill["differs"] or not kill["restored"]] == []
    assert [kill for kill in kills if kill["changed"]], "no kill came while settings were changed"
    assert not [kill for kill in kills if kill["changed"] and not kill["journal"]]


def test_kill_9_at_20_moments_of_everything_there_is(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "host_kill.py"), "fixture", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    every_kill_was_put_back(done.stdout)


def test_kill_9_at_20_moments_in_a_namespace(namespace: None, tmp_path: Path) -> None:  # noqa: ARG001
    done = in_namespace(sys.executable, str(HERE / "host_kill.py"), "namespace", str(tmp_path))
    assert done.returncode == 0, done.stderr
    every_kill_was_put_back(done.stdout)


SCRIPT = """
set -e
cd /sys/class/net/veth0
show() { cat threaded napi_defer_hard_irqs gro_flush_timeout queues/*/rps_cpus queues/*/rps_flow_cnt | tr '\\n' ' '; }
before=$(show)
"$PYTHON" -m simnet capture check --interface veth0 --only napi,rps,rfs,offloads --apply --state "$1" >"$1.out" 2>&1 &
tuner=$!
until grep -q Ctrl-C "$1.out"; do sleep 0.05; done
test "$(show)" != "$before"
kill -$2 $tuner
wait $tuner || true
test "$2" != KILL || "$PYTHON" -m simnet capture restore --state "$1"
test "$(show)" = "$before"
test ! -e "$1/host.journal"
echo as before
"""


@pytest.mark.parametrize("number", ["TERM", "HUP", "INT", "KILL"])
def test_the_command_puts_everything_back(namespace: None, tmp_path: Path, number: str) -> None:  # noqa: ARG001
    # a shell's background process ignores SIGINT; python -m simnet takes it nevertheless
    done = in_namespace("sh", "-c", SCRIPT, "sh", str(tmp_path / "state"), number)
    assert done.stdout.splitlines()[-1:] == ["as before"], done.stderr + (tmp_path / "state.out").read_text()


ROUTES = """
set -e
ip addr add 10.7.0.1/24 dev veth0
check() { "$PYTHON" -m simnet capture check --interface $1 --only napi --apply --keep --state "$2" 2>&1 || true; }
ip route add default via 10.7.0.2 dev veth0
check veth0 "$1"
ip route del default
ip -6 route add default dev veth0
check veth0 "$1"
ip -6 route del default
ip route add default proto static nexthop via 10.7.0.2 dev veth0 weight 1 nexthop dev veth1 weight 1
check veth1 "$1"
check veth9 "$1"
cat /sys/class/net/veth0/threaded
"""


def test_routes_as_the_kernel_tells_them(namespace: None, tmp_path: Path) -> None:  # noqa: ARG001
    done = in_namespace("sh", "-c", ROUTES, "sh", str(tmp_path / "state"))
    lines = done.stdout.splitlines()
    assert "the IPv4 default route of table 254 leaves by veth0" in lines[0], done.stderr
    assert "the IPv6 default route of table 254 leaves by veth0" in lines[1]
    assert "the IPv4 default route of table 254 leaves by veth1" in lines[2]
    assert "veth9: no such interface; there are lo, veth1, veth0; did you mean" in lines[3]
    assert lines[4] == "1", "nothing was changed"
    assert not (tmp_path / "state" / FILE).exists()
