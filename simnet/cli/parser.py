"""All commands, put together. A command's module has its arguments (`add`) and what it does (`act`), and imports what it uses only then."""

from __future__ import annotations

import argparse

from simnet.cli import calibrate, capture, compare, explain, lesson, listing, pin, report, run, show, sweep, trace, validate

EPILOGUE = """examples:
  simnet run paper/bare-metal
  simnet run paper/bare-metal --set capture.method=pf_packet --set traffic.frame_bytes=256 --json
  simnet run paper/bare-metal --set traffic.source=pcap --set traffic.pcap=trace.pcap
  simnet show paper/bare-metal
  simnet explain paper/vm
  simnet compare paper/vm :guest.io_cpus=7
  simnet pin paper/vm
  simnet sweep paper/factorial --out results
  simnet report results
  simnet validate theory
  simnet trace paper/vm --perfetto vm.pftrace --pcapng vm.pcapng
  simnet lesson livelock
  simnet capture check --interface eth1
"""
COMMANDS = (listing, show, run, explain, sweep, validate, compare, pin, lesson, report, trace, calibrate, capture)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `act` of what it returns runs the command."""
    parser = argparse.ArgumentParser(
        prog="simnet",
        description="Where do the packets go? A performance model of packet reception and capture on Linux.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
