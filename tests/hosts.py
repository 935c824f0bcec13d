"""A host made of text: files of sysfs and procfs unfolded below a directory, and a driver that answers as `ethtool` prints."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from calibration.host.access import AbsentError, Host, Link, RefusedError, Route, Value

FIXTURES = Path(__file__).parent / "fixtures" / "host"
DRIVERS = ("ixgbe", "i40e", "ice", "mlx5")
ETH2 = Link(4, "eth2", "a0:36:9f:00:00:02")
ETH0 = Link(2, "eth0", "a0:36:9f:00:00:00")
KINDS = {"rings": "g", "channels": "l", "coalesce": "c", "features": "k", "statistics": "S"}
LEGACY = {"generic-receive-offload": "rx-gro", "large-receive-offload": "rx-lro"}
"""Names that `ethtool -k` prints for what the kernel calls otherwise."""


def parse(kind: str, text: str) -> dict[str, Value]:
    """What `ethtool` prints, under the names that `Host.ethtool` uses."""
    found: dict[str, Value] = {}
    maximum = False
    for line in text.splitlines()[1:]:
        if line.endswith("maximums:"):
            maximum = True
        elif line.endswith("settings:"):
            maximum = False
        elif adaptive := re.fullmatch(r"Adaptive RX: (\S+)  TX: (\S+)", line):
            found |= {"adaptive-rx": adaptive[1] == "on", "adaptive-tx": adaptive[2] == "on"}
        elif ":" in line:
            name, _, value = (part.strip() for part in line.partition(":"))
            if kind == "features":
                if not value.endswith("[fixed]"):
                    found[LEGACY.get(name, name)] = value == "on"
            elif kind == "statistics":
                found[name] = int(value)
            else:
                key = name.lower().replace(" ", "-") + ("-max" if maximum else "")
                found[key] = int(value) if value.isdecimal() else 0
    return found


class FixtureHost(Host):
    """The host below `root`; the driver's state is a file there too, so that it outlives a process.

    Like real drivers: a change of channels or rings sets up the vectors anew, ice refuses a moderation time while adaptive moderation is on, ixgbe has
    no such flag, and nobody takes more than the maximum.
    """

    def __init__(self, root: Path, driver: str) -> None:
        super().__init__(root)
        self.driver = driver
        self.root_user = True
        self.systemctl = True
        self.refused: dict[str, str] = {}
        self.log: list[str] = []
        self.all_links = [ETH0, ETH2]
        self.routes = [Route("IPv4", 254, 0, (ETH0.index,))]

    def write(self, path: str, text: str) -> None:
        self.log.append(f"write {path}")
        for pattern, reason in self.refused.items():
            if re.search(pattern, path):
                raise RefusedError(f"{path}: {reason}")
        at = self.root / path.lstrip("/")
        if not at.exists():
            raise RefusedError(f"{path}: No such file or directory")
        beside = at.with_name(".new")  # a write to sysfs happens or not; one to a file could be cut off by a kill
        beside.write_text(f"{text}\n")
        beside.replace(at)

    def may_change(self) -> bool:
        return self.root_user

    def links(self) -> list[Link]:
        return self.all_links

    def broad_routes(self) -> list[Route]:
        return self.routes

    def run(self, *command: str) -> None:
        self.log.append(f"run {' '.join(command)}")
        if not self.systemctl:
            raise RefusedError("systemctl is not installed; do it by hand")
        comm = self.root / "proc/812/comm"
        if command == ("systemctl", "stop", "irqbalance"):
            comm.unlink()
        elif command == ("systemctl", "start", "irqbalance"):
            comm.write_text("irqbalance\n")
        else:
            raise AssertionError(command)

    def ethtool(self, kind: str, interface: str) -> dict[str, Value]:
        if interface != ETH2.name:
            raise AbsentError(f"{interface} has no driver")
        state: dict[str, dict[str, Value]] = json.loads((self.root / "ethtool.json").read_text())
        if kind not in state:
            raise AbsentError(f"the driver has no {kind}")
        return state[kind]

    def set_ethtool(self, kind: str, interface: str, name: str, value: Value) -> None:
        self.log.append(f"ethtool {kind} {name} {value}")
        state: dict[str, dict[str, Value]] = json.loads((self.root / "ethtool.json").read_text())
        now = state[kind]
        for pattern, reason in self.refused.items():
            if re.search(pattern, f"{kind} {name}"):
                raise RefusedError(f"{interface} {kind} {name} {value}: {reason}")
        if name not in now or (self.driver == "ixgbe" and name == "adaptive-rx"):
            raise RefusedError(f"{interface} {kind} {name} {value}: the driver does not support it")
        if (most := now.get(f"{name}-max")) is not None and int(value) > int(most):
            raise RefusedError(f"{interface} {kind} {name} {value}: Invalid argument")
        if self.driver == "ice" and name == "rx-usecs" and now["adaptive-rx"] and value != now[name]:
            raise RefusedError(f"{interface} {kind} {name} {value}: cannot be changed if adaptive-rx is enabled")
        before, now[name] = now[name], value
        beside = self.root / ".new"
        beside.write_text(json.dumps(state))
        beside.replace(self.root / "ethtool.json")
        if before != value:
            self._set_up_anew(kind, int(value))

    def _set_up_anew(self, kind: str, value: int) -> None:
        """What a driver does after a change: fresh vectors, and as many queues as there are channels."""
        if kind == "channels":
            queues = self.root / "sys/class/net/eth2/queues"
            for number in range(8):
                for queue, file in ((f"rx-{number}", "rps_cpus"), (f"rx-{number}", "rps_flow_cnt"), (f"tx-{number}", "xps_cpus")):
                    if number >= value:
                        shutil.rmtree(queues / queue, ignore_errors=True)
                    elif not (queues / queue / file).exists():
                        (queues / queue).mkdir(exist_ok=True)
                        (queues / queue / file).write_text("00\n")
            for number, name in self._vectors():
                queue = int(re.search(r"(\d+)(?:@|$)", name)[1])  # type: ignore[index]
                actions = self.root / f"sys/kernel/irq/{number}/actions"
                actions.write_text(f"{name}\n" if queue < value else "\n")
        if kind in ("channels", "rings"):
            for number, _ in self._vectors():
                (self.root / f"proc/irq/{number}/smp_affinity_list").write_text("0-7\n")

    def _vectors(self) -> Iterable[tuple[int, str]]:
        text = (FIXTURES / self.driver / "sysfs.txt").read_text()
        for number, name in re.findall(r"irq/(\d+)/actions = (.*)", text):
            if re.search(r"TxRx|comp", name):
                yield int(number), name


def build(root: Path, driver: str) -> FixtureHost:
    """A fresh host with that NIC below `root`."""
    for text in (FIXTURES / "host.txt", FIXTURES / driver / "sysfs.txt"):
        for line in text.read_text().splitlines():
            path, sign, value = line.partition(" -> ") if " -> " in line else line.partition(" = ")
            at = root / path.lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            if sign == " -> ":
                os.symlink(value, at)
            else:
                at.write_text(f"{value}\n")
    state = {kind: parse(kind, (FIXTURES / driver / f"ethtool-{option}.txt").read_text()) for kind, option in KINDS.items()}
    (root / "ethtool.json").write_text(json.dumps(state))
    return FixtureHost(root, driver)


def everything(root: Path) -> dict[str, str]:
    """All files below a directory with their text."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".new")
    }
