"""All generators by the name that a campaign gives them, and the choice of one that works here."""

from __future__ import annotations

from calibration.lab.topology import Lab
from calibration.load.senders import SendmmsgLoad
from calibration.load.xdp import XdpLoad

Generator = XdpLoad | SendmmsgLoad
GENERATORS: dict[str, type[XdpLoad] | type[SendmmsgLoad]] = {"xdp": XdpLoad, "sendmmsg": SendmmsgLoad}


def choose(wanted: str, cpu: int) -> tuple[str, str]:
    """Which generator to use.

    Parameters
    ----------
    wanted
        A name, or `auto`: in the kernel if that can be done.

    Returns
    -------
    tuple of str
        Its name, and why not the other one.

    Raises
    ------
    OSError
        If XDP was asked for and cannot be used.
    """
    if wanted == "sendmmsg":
        return wanted, "asked for"
    lab = Lab()
    try:
        XdpLoad(lab.sender, lab.load_index, cpu, 64, 1).close()
    except OSError as error:
        if wanted == "xdp":
            raise
        return "sendmmsg", f"live XDP frames cannot be used here: {error.strerror}"
    finally:
        lab.close()
    return "xdp", "asked for" if wanted == "xdp" else "works here, and paces better than user space"
