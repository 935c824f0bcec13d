"""All benchmark figures, printed by one command:

    python -m benchmarks            # everything; ns-3 if Debian's libns3-dev and g++ are installed
    python -m benchmarks --quick    # shorter runs

Every figure is a ratio against a peer, or a time of a whole command, taken in one run, the best of several interleaved repeats. Give it the machine to itself.
"""

from __future__ import annotations

import argparse

from benchmarks.commands import time_commands
from benchmarks.guest_path import compare_guest_path
from benchmarks.receive_path import compare_receive_path


def main() -> None:
    """Run all benchmarks and print their tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="shorter runs, noisier figures")
    quick = parser.parse_args().quick
    print(compare_receive_path(0.1 if quick else 0.4, 2 if quick else 5))
    print(compare_guest_path(0.05 if quick else 0.2, 2 if quick else 5))
    print(time_commands(3 if quick else 7))


if __name__ == "__main__":
    main()
