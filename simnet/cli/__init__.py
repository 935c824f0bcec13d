"""The command line: thin, and quick to start."""

from __future__ import annotations

from simnet.cli.main import main

__all__ = ["main"]
