"""What explains a difference between two hosts: processor, kernel, its configuration and settings. No names, addresses or paths."""

from __future__ import annotations

import gzip
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.collect.processor_events import available

ALIKE = ("cpu_model", "cpus", "architecture", "kernel", "kernel_build", "configuration", "hypervisor", "mitigations")
"""Facts in which hosts must agree before their windows may be looked at as one host's."""

_CONFIGURATION = (
    "HZ",
    "PREEMPT",
    "PREEMPT_NONE",
    "PREEMPT_VOLUNTARY",
    "PREEMPT_DYNAMIC",
    "PREEMPT_RT",
    "NO_HZ_FULL",
    "IRQ_TIME_ACCOUNTING",
    "VIRT_CPU_ACCOUNTING_GEN",
    "SCHEDSTATS",
    "SCHED_AUTOGROUP",
    "BPF_JIT_ALWAYS_ON",
    "MITIGATION_RETPOLINE",
)
_SYSCTLS = (
    "net/core/netdev_max_backlog",
    "net/core/netdev_budget",
    "net/core/netdev_budget_usecs",
    "net/core/dev_weight",
    "net/core/rmem_default",
    "net/core/rmem_max",
    "net/core/bpf_jit_enable",
    "net/core/default_qdisc",
    "kernel/sched_autogroup_enabled",
    "kernel/sched_rt_runtime_us",
    "kernel/timer_migration",
)
_SYSFS = {
    "clocksource": "devices/system/clocksource/clocksource0/current_clocksource",
    "governor": "devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "idle_driver": "devices/system/cpu/cpuidle/current_driver",
    "smt": "devices/system/cpu/smt/control",
    "transparent_hugepages": "kernel/mm/transparent_hugepage/enabled",
}


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _configuration() -> dict[str, str]:
    """Options of the running kernel, if it says."""
    release = platform.release()
    try:
        text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except OSError:
        text = _text(f"/boot/config-{release}") or ""
    options = dict(line.removeprefix("CONFIG_").split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name: options[name] for name in _CONFIGURATION if name in options}


def _processor() -> tuple[str, bool]:
    """Model name, and whether it is a virtual one."""
    lines = {
        key.strip(): value.strip()
        for line in (_text("/proc/cpuinfo") or "").splitlines()
        for key, _, value in [line.partition(":")]
    }
    return lines.get("model name", "unknown"), "hypervisor" in lines.get("flags", "").split()


def _idle_exits() -> dict[str, int]:
    """Microseconds that it takes to leave the slowest idle state that a CPU may use, by CPU; nothing if the kernel chooses none (cpuidle)."""
    exits: dict[str, int] = {}
    for state in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpuidle/state*"):
        if _text(f"{state}/disable") == "0":
            cpu = state.parent.parent.name.removeprefix("cpu")
            exits[cpu] = max(exits.get(cpu, 0), int(_text(f"{state}/latency") or 0))
    return dict(sorted(exits.items(), key=lambda item: int(item[0])))


def facts() -> dict[str, Any]:
    """Facts about this host, as plain JSON."""
    model, virtual = _processor()
    vulnerabilities = sorted(Path("/sys/devices/system/cpu/vulnerabilities").glob("*"))
    return {
        "cpu_model": model,
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "configuration": _configuration(),
        "hypervisor": virtual,
        "mitigations": {file.name: _text(str(file)) for file in vulnerabilities},
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "sysctls": {name: _text(f"/proc/sys/{name}") for name in _SYSCTLS},
        "sysfs": {name: _text(f"/sys/{path}") for name, path in _SYSFS.items()},
        "idle_exit_us": _idle_exits(),
        "scheduling_policy": os.sched_getscheduler(0),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "collectors": available(),
        "python": platform.python_version(),
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the facts that keep two hosts from being looked at as one (see `ALIKE`)."""
    return [name for name in ALIKE if one.get(name) != other.get(name)]
