"""What a host is, what it should be, and that it is put back: on hosts made of text, one for each driver."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from argparse import Namespace
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hosts import DRIVERS, KINDS, FixtureHost, build, everything, parse

from calibration.host.access import AbsentError, Host, Route, Value
from calibration.host.check import check, choose, cpus_of
from calibration.host.cpus import parse_cpus
from calibration.host.drivers import driver_of, losses, vectors
from calibration.host.interface_operations import Coalescing
from calibration.host.journal import FILE
from calibration.host.operation import Wish
from calibration.host.operations import operations
from calibration.host.session import check_command, restore_command
from calibration.host.tuning import tuned
from simnet.errors import UserError
from simnet.results.places import places

TWO = Wish(cpus=(2, 3))


@pytest.fixture(params=DRIVERS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> FixtureHost:
    return build(tmp_path / "root", request.param)


def settings(host: FixtureHost, wish: Wish = TWO) -> dict[tuple[str, str], tuple[Value | None, Value | None]]:
    """What each target is and what it should be."""
    found = check(host, "eth2", wish, operations("eth2", wish))
    return {(f.operation, f.target): (f.now, f.wanted) for f in found.findings}


def options(host: FixtureHost, **given: Any) -> Namespace:
    state = str(host.root.parent / "state")
    nothing = {
        "cpus": None,
        "ring": None,
        "usecs": None,
        "only": None,
        "apply": False,
        "keep": False,
        "json": False,
        "forget": False,
    }
    return Namespace(**{"interface": "eth2", "program": [], "state": state, **nothing, **given})


def printed(command: Any, host: FixtureHost, **given: Any) -> tuple[int, str]:
    out = io.StringIO()
    with redirect_stdout(out):
        status = command(options(host, **given), host)
    return status, out.getvalue()


# What is read


def test_each_driver_is_known_by_its_link(host: FixtureHost) -> None:
    names = {"mlx5": "mlx5_core"}
    assert driver_of(host, "eth2").name == names.get(host.driver, host.driver)


def test_vectors_are_those_of_the_receive_queues_in_their_order(host: FixtureHost) -> None:
    found = list(vectors(host, "eth2").values())
    name = {"ixgbe": "eth2-TxRx-{}", "i40e": "i40e-eth2-TxRx-{}", "ice": "ice-eth2-TxRx-{}", "mlx5": "mlx5_comp{}@pci:0000:3b:00.0"}
    assert found == [name[host.driver].format(queue) for queue in range(8)]


@pytest.mark.parametrize("name", ["eth2-rx-3", "eth2-Tx-Rx-3", "eth2-rxtx-3", "virtio0-input.3"])
def test_other_names_of_vectors(tmp_path: Path, name: str) -> None:
    host = build(tmp_path / "root", "ice")
    (host.root / "sys/kernel/irq/96/actions").write_text(f"{name}\n")
    assert vectors(host, "eth2")[96] == name


def test_vectors_of_another_interface_of_the_card_are_left_alone(tmp_path: Path) -> None:
    host = build(tmp_path / "root", "ice")
    (host.root / "sys/class/net/eth3").mkdir()
    (host.root / "sys/kernel/irq/104/actions").write_text("ice-eth3-TxRx-7\n")
    assert len(vectors(host, "eth2")) == 7


def test_settings_as_ethtool_prints_them(host: FixtureHost) -> None:
    found = settings(host)
    ring = {"ixgbe": (512, 4096), "i40e": (512, 4096), "ice": (2048, 4096), "mlx5": (1024, 4096)}
    adaptive = host.driver != "ixgbe"
    usecs = {"ixgbe": (1, 50), "i40e": (50, 50), "ice": (50, 50), "mlx5": (8, 8)}
    assert found["rings", "rx"] == ring[host.driver]
    assert found["channels", "combined"] == (8, 2)
    assert found["coalescing", "adaptive-rx"] == (adaptive, False)
    assert found["coalescing", "rx-usecs"] == usecs[host.driver]
    assert found["offloads", "rx-gro"] == (True, False)


def test_a_fixed_offload_is_not_asked_for(host: FixtureHost) -> None:
    found = settings(host)
    assert (("offloads", "rx-lro") in found) == (host.driver in ("ixgbe", "mlx5"))
    assert (("offloads", "rx-gro-hw") in found) == (host.driver == "mlx5")


def test_losses_go_to_places_that_the_model_has(host: FixtureHost) -> None:
    known = {place.key for drop_en in (False, True) for place in places("pf_packet", drop_en)}
    lost = {
        "ixgbe": {"nic_buffer": 124888, "nic_ring": 36},
        "i40e": {"nic_buffer": 7185397},
        "ice": {"nic_buffer": 1361, "nic_ring": 7206525},
        "mlx5": {"nic_buffer": 5356, "nic_ring": 1054467},
    }
    found = losses(driver_of(host, "eth2"), host.ethtool("statistics", "eth2"))
    assert found == lost[host.driver]
    assert set(driver_of(host, "eth2").losses.values()) <= known


def test_the_old_name_of_a_counter_is_known() -> None:
    from calibration.host.drivers import DRIVERS as KNOWN

    assert losses(KNOWN["i40e"], {"port.rx_dropped": 5}) == {"nic_buffer": 5}


@pytest.mark.skipif(shutil.which("ethtool") is None, reason="ethtool is not installed")
def test_the_kernel_tells_what_ethtool_prints() -> None:
    pytest.importorskip("pyroute2")
    seen = 0
    for interface in Host().names("/sys/class/net"):
        for kind, option in KINDS.items():
            try:
                told = Host().ethtool(kind, interface)
            except AbsentError:
                continue
            done = subprocess.run(["ethtool", f"-{option}", interface], capture_output=True, text=True, check=False)
            text = parse(kind, done.stdout)
            if kind == "statistics":
                assert told.keys() == text.keys()  # the counts go on
            else:
                assert {name: told[name] for name in told.keys() & text.keys()} == {
                    name: text[name] for name in told.keys() & text.keys()
                }
            seen += 1
    if not seen:
        pytest.skip("no interface has anything that ethtool shows")


# What is wanted


def test_vectors_go_round_the_cpus_that_receive(host: FixtureHost) -> None:
    wanted = [value for (operation, _), (_, value) in settings(host).items() if operation == "irq-affinity"]
    assert wanted == ["2", "3"] * 4


def test_without_cpus_those_of_the_nics_node_receive_and_queues_stay(host: FixtureHost) -> None:
    found = settings(host, Wish())
    assert found["channels", "combined"] == (8, None)
    assert [value for (operation, _), (_, value) in found.items() if operation == "irq-affinity"] == ["0", "1", "2", "3"] * 2
    assert [target for operation, target in found if operation == "governor"] == ["cpu0", "cpu1", "cpu2", "cpu3"]


def test_a_transmit_queue_belongs_to_the_cpu_of_its_vector(host: FixtureHost) -> None:
    found = settings(host)
    assert found["xps", "tx-0"] == ("01", "4")
    assert found["xps", "tx-5"] == ("20", "8")


def test_masks_of_many_cpus_are_in_groups_of_32_bits(host: FixtureHost) -> None:
    found = settings(host, Wish(cpus=(0, 33, 70)))
    assert found["xps", "tx-1"][1] == "2,00000000"
    assert found["xps", "tx-2"][1] == "40,00000000,00000000"


def test_only_idle_states_deeper_than_c1_are_turned_off(host: FixtureHost) -> None:
    found = settings(host)
    assert [found["idle-states", f"cpu2/state{n}"][1] for n in range(4)] == [None, None, "1", "1"]


def test_the_wish_is_within_what_the_nic_has(host: FixtureHost) -> None:
    most = {"ixgbe": 4096, "i40e": 8160, "ice": 8160, "mlx5": 8192}
    found = settings(host, Wish(ring=100000, usecs=20, cpus=tuple(range(8))))
    assert found["rings", "rx"][1] == most[host.driver]
    assert found["coalescing", "rx-usecs"][1] == 20
    assert found["channels", "combined"][1] == 8


def test_adaptive_moderation_goes_off_first_and_on_last() -> None:
    coalescing = Coalescing("eth2", Wish())
    assert coalescing.order({"rx-usecs": 8, "adaptive-rx": False}) == ["adaptive-rx", "rx-usecs"]
    assert coalescing.order({"adaptive-rx": True, "rx-usecs": 8, "rx-frames": 0}) == ["rx-usecs", "rx-frames", "adaptive-rx"]


def test_every_setting_has_a_name_and_a_reason() -> None:
    available = operations("eth2")
    assert len({operation.name for operation in available}) == len(available)
    assert all(len(operation.why) > 30 for operation in available)


# Applied and put back


def test_everything_is_as_wanted_meanwhile_and_as_before_afterwards(host: FixtureHost) -> None:
    before = everything(host.root)
    chosen = operations("eth2", TWO)
    with tuned(host, chosen, host.root.parent / "state") as outcomes:
        refused = [outcome for outcome in outcomes if outcome.problem]
        assert not refused
        assert check(host, "eth2", TWO, chosen).as_wanted
        assert everything(host.root) != before
    assert everything(host.root) == before
    assert not (host.root.parent / "state" / FILE).exists()


def test_everything_is_put_back_after_an_exception(host: FixtureHost) -> None:
    before = everything(host.root)

    def fails() -> None:
        with tuned(host, operations("eth2", TWO), host.root.parent / "state"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert everything(host.root) == before


def test_the_journal_is_on_disk_before_the_first_write_and_knows_what_a_reset_changes(host: FixtureHost) -> None:
    state = host.root.parent / "state"
    first: list[str] = []
    touch = host.set_ethtool

    def spy(kind: str, interface: str, name: str, value: Value) -> None:
        if not first:
            first.append((state / FILE).read_text())
        touch(kind, interface, name, value)

    host.set_ethtool = spy  # type: ignore[method-assign]
    with tuned(host, operations("eth2", TWO), state):
        pass
    entries = [json.loads(line) for line in first[0].splitlines()[1:-1]]
    known = {(entry["operation"], entry["target"]) for entry in entries}
    assert ("channels", "combined") in known
    assert ("xps", "tx-7") in known, "the queue is gone when its turn comes"
    assert ("irqbalance", "irqbalance") in known


def test_a_host_that_is_as_wanted_is_left_alone(host: FixtureHost) -> None:
    state = host.root.parent / "state"
    with tuned(host, operations("eth2", TWO), state):
        host.log.clear()
        assert [operation.changes(host) for operation in operations("eth2", TWO)] == [{}] * len(operations("eth2", TWO))
    assert "run systemctl start irqbalance" in host.log


def test_kept_settings_are_put_back_by_restore(host: FixtureHost) -> None:
    before = everything(host.root)
    status, text = printed(check_command, host, apply=True, keep=True, cpus="2-3")
    assert status == 0
    assert "restore" in text
    assert everything(host.root) != before
    status, text = printed(restore_command, host, json=True)
    answer = json.loads(text)
    assert (status, answer["schema"], answer["complete"]) == (0, "simnet-capture-restore/1", True)
    assert everything(host.root) == before
    assert printed(restore_command, host)[0] == 0, "nothing left to put back is no mistake"


def test_a_program_is_run_meanwhile_and_its_status_is_passed_on(host: FixtureHost, capfd: pytest.CaptureFixture[str]) -> None:
    before = everything(host.root)
    at = host.root / "proc/sys/kernel/sched_autogroup_enabled"
    program = ["sh", "-c", f"cat {at}; exit 7"]
    status = check_command(options(host, apply=True, program=program), host)
    out, err = capfd.readouterr()
    assert status == 7
    assert out.splitlines()[-1] == "0"
    assert "put back" in err
    assert everything(host.root) == before


# What is printed


def test_the_table_says_what_is_what_should_be_and_why(host: FixtureHost) -> None:
    status, text = printed(check_command, host, cpus="2-3")
    assert status == 1
    assert f"eth2  ({driver_of(host, 'eth2').name}), receiving CPUs 2-3" in text
    row = next(line for line in text.splitlines() if "rings" in line)
    assert row.split()[0] == "!"
    assert row.split()[-1] == "4096"
    assert "frames that find no descriptor" in " ".join(text.split())
    assert "Lost so far:" in text


def test_the_json_object_has_everything(host: FixtureHost) -> None:
    status, text = printed(check_command, host, cpus="2-3", json=True)
    answer = json.loads(text)
    assert answer["schema"] == "simnet-capture-check/1"
    assert answer["cpus"] == [2, 3]
    assert not answer["as_wanted"]
    assert status == 1
    assert {row["operation"] for row in answer["settings"]} == {operation.name for operation in operations("eth2")}
    wanted = [row for row in answer["settings"] if not row["as_wanted"]]
    assert all(row["now"] != row["wanted"] and row["why"] for row in wanted)


def test_looking_changes_nothing(host: FixtureHost) -> None:
    before = everything(host.root)
    printed(check_command, host, cpus="2-3")
    assert host.log == []
    assert everything(host.root) == before
    assert not (host.root.parent / "state").exists()


def test_an_interface_that_carries_the_default_route_can_be_looked_at(host: FixtureHost) -> None:
    host.routes = [Route("IPv6", 254, 0, (4,))]
    status, text = printed(check_command, host)
    assert status == 1
    assert "eth2 is never changed, because the IPv6 default route" in " ".join(text.split())


def test_what_a_host_lacks_is_said_and_no_fault(host: FixtureHost) -> None:
    (host.root / "sys/devices/system/cpu/intel_pstate/no_turbo").unlink()
    status, text = printed(check_command, host, only="turbo")
    assert status == 0
    assert "no cpufreq driver" in text


# Bad input


def test_names_are_checked(host: FixtureHost) -> None:
    with pytest.raises(UserError, match="did you mean 'rings'"):
        choose(operations("eth2"), "ring")
    for text in ("", "x", "5-2", "-1"):
        with pytest.raises(UserError, match="a list of CPUs"):
            cpus_of(text, (0, 1))
    with pytest.raises(UserError, match="not online: 7,9; online are 0-3"):
        cpus_of("2,7,9", (0, 1, 2, 3))
    assert parse_cpus("0-2,8,10-11") == (0, 1, 2, 8, 10, 11)
    with pytest.raises(UserError, match="--ring 0"):
        printed(check_command, host, ring=0)
    with pytest.raises(UserError, match="only with --apply"):
        printed(check_command, host, program=["true"])
    with pytest.raises(UserError, match="only with --apply"):
        printed(check_command, host, keep=True)
    with pytest.raises(UserError, match="no such program"):
        printed(check_command, host, apply=True, program=["no-such-program"])
    assert host.log == []
