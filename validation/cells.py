"""Many scenarios at once: one thread a scenario, the results by key."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

import simnet

Key = TypeVar("Key", bound=Hashable)
Progress = Callable[[str, float], None]
Question = tuple[str, Mapping[str, Any]]
"""A scenario's name and settings."""


def run_cells(questions: Mapping[Key, Question], progress: Progress, seed: int = 1) -> dict[Key, simnet.Result]:
    """Run every scenario; the order of the answers is that of the questions, whatever finishes first."""
    scenarios = {key: simnet.load(name, settings) for key, (name, settings) in questions.items()}
    longest_first = sorted(scenarios, key=lambda key: -simnet.expected_seconds(scenarios[key]))
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    try:
        futures = {pool.submit(simnet.run, scenarios[key], seed=seed, workers=1): key for key in longest_first}
        for done, future in enumerate(as_completed(futures)):
            progress(str(futures[future]), done / len(futures))
        answers = {key: future.result() for future, key in futures.items()}
        return {key: answers[key] for key in questions}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def run_all(groups: Mapping[str, Mapping[Any, Question]], progress: Progress) -> dict[str, dict[Any, simnet.Result]]:
    """Run groups of questions at the same time; the answers in the same groups."""
    answers = run_cells({(group, key): question for group, cells in groups.items() for key, question in cells.items()}, progress)
    return {group: {key: answers[group, key] for key in cells} for group, cells in groups.items()}
