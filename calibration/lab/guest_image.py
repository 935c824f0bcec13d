"""Kernel and initial file system of a guest, made of Debian packages: the cloud kernel and a static busybox.

The packages are fetched by apt-get once and kept unpacked in simnet's cache folder. Nothing is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from simnet.errors import UserError

QEMU = "qemu-system-x86_64"
_KERNEL, _BUSYBOX = "linux-image-cloud-amd64", "busybox-static"
_MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
)
_TOOLS = ("sh", "mount", "insmod", "ip", "cat", "grep", "awk")
_INIT = """\
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in {modules}; do insmod /$module.ko; done
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
ip link set eth0 promisc on up
echo ready
while read word; do
  grep -h -e input /proc/interrupts
  grep NET_RX /proc/softirqs
  cd /sys/class/net/eth0/statistics
  echo rx_dropped $(cat rx_dropped)
  echo rx_packets $(cat rx_packets)
  echo end
done
"""


@dataclass(frozen=True)
class GuestImage:
    """Files for `qemu -kernel` and `-initrd`, and the kernel's release."""

    kernel: Path
    initrd: Path
    release: str


def _home() -> Path:
    home = os.environ.get("SIMNET_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "simnet"
    )
    return Path(home) / "guest"


def missing() -> list[str]:
    """What keeps a guest from being started here, each with what to do about it."""
    problems = []
    if shutil.which(QEMU) is None:
        problems.append(f"there is no {QEMU}: apt-get install --no-install-recommends qemu-system-x86, or leave the guest out")
    if not (_home() / "initrd").exists() and not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg-deb"))):
        problems.append("the guest is made of Debian packages, and there is no apt-get here: leave the guest out")
    return problems


def guest_image() -> GuestImage:
    """The image; fetched and made if it is not in the cache yet.

    Raises
    ------
    UserError
        If the packages cannot be fetched.
    """
    home = _home()
    if not (home / "initrd").exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            _make(Path(scratch), home)
    return GuestImage(home / "kernel", home / "initrd", (home / "release").read_text(encoding="utf-8"))


def describe() -> dict[str, str]:
    """Versions of the guest's kernel and of QEMU; the image is made if it is not there."""
    version = re.search(r"version (\S+)", _run([QEMU, "--version"], Path("/")))
    return {"kernel": guest_image().release, "qemu": version[1] if version else "unknown", "accelerator": "tcg"}


def _run(command: list[str], folder: Path) -> str:
    try:
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        words = (error.stderr or "").strip().splitlines()
        raise UserError(f"the guest's packages: {' '.join(command)}: {words[-1] if words else 'failed'}") from None


def _make(scratch: Path, home: Path) -> None:
    """Fetch, unpack and put together; the initial file system comes last, because it says that all is there."""
    depends = re.search(r"Depends: (linux-image-\S+)", _run(["apt-cache", "depends", _KERNEL], scratch))
    if depends is None:
        raise UserError(f"the guest's packages: no {_KERNEL} here; the guest needs Debian's package lists (apt-get update)")
    _run(["apt-get", "download", "-o", "APT::Sandbox::User=root", depends[1], _BUSYBOX], scratch)
    for package in scratch.glob("*.deb"):
        _run(["dpkg-deb", "-x", package.name, "tree"], scratch)
    [kernel] = (scratch / "tree" / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    modules = {file.stem: file for file in (scratch / "tree").glob(f"**/{release}/kernel/**/*.ko")}
    archive = _Archive()
    for folder in ("bin", "proc", "sys"):
        archive.add(folder, 0o40755)
    archive.add("bin/busybox", 0o100755, (scratch / "tree" / "bin" / "busybox").read_bytes())
    for tool in _TOOLS:
        archive.add(f"bin/{tool}", 0o120777, b"busybox")
    there = [name for name in _MODULES if name in modules]
    for name in there:
        archive.add(f"{name}.ko", 0o100644, modules[name].read_bytes())
    archive.add("init", 0o100755, _INIT.format(modules=" ".join(there)).encode())
    (home / "release").write_text(release, encoding="utf-8")
    shutil.copy(kernel, home / "kernel")
    made = scratch / "initrd"
    made.write_bytes(archive.content())
    made.replace(home / "initrd")


class _Archive:
    """A cpio archive in the form that the kernel unpacks (newc)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, name: str, mode: int, content: bytes = b"") -> None:
        """Add a file, a folder or a link."""
        fields = (len(self._parts) + 1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        self._parts.append(self._padded(head) + self._padded(content))

    @staticmethod
    def _padded(part: bytes) -> bytes:
        return part + bytes(-len(part) % 4)

    def content(self) -> bytes:
        """The archive, its end marked."""
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)
