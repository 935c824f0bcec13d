"""Means, intervals and the end of the warm-up: against the definitions, scipy and hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from simnet.results.statistics import Estimate, controlled_interval, mser5, quantile_bins, t_interval, t_quantile

DRAWS = 4000
REPLICATIONS = 5
"""The default of measure.replications."""


def mser5_by_definition(series: NDArray[np.float64]) -> int:
    """White, Cobb & Spratt (2000): the cut of batch means of five, in the first half, with the least sum of squares over (n - d) squared."""
    means = [float(np.mean(series[i : i + 5])) for i in range(0, len(series) // 5 * 5, 5)]

    def statistic(cut: int) -> float:
        kept = means[cut:]
        mean = sum(kept) / len(kept)
        return sum((x - mean) ** 2 for x in kept) / len(kept) ** 2

    return 5 * min(range(len(means) // 2 + 1), key=statistic)


def replications(rng: np.random.Generator, explained: float, count: int = REPLICATIONS) -> tuple[list[float], list[float]]:
    """Normal values of mean 7, and a control of mean 3 that explains a share of their variance."""
    shared, own = rng.normal(size=(2, count))
    values = 7 + math.sqrt(explained) * shared + math.sqrt(1 - explained) * own
    return values.tolist(), (3 + shared).tolist()


def coverage(estimates: list[Estimate], truth: float) -> float:
    """Share of the intervals that hold the truth."""
    return float(np.mean([abs(e.mean - truth) <= (e.ci95 or 0.0) for e in estimates]))


def least_coverage(draws: int = DRAWS, sigmas: float = 4.0) -> float:
    """What 95 % intervals cover at least of so many independent draws, but for one time in 30 000 (binomial)."""
    return 0.95 - sigmas * math.sqrt(0.95 * 0.05 / draws)


@pytest.mark.parametrize(
    ("series", "cut"),
    [
        pytest.param([7] * 50, 0, id="constant"),
        pytest.param([0, 2] * 25, 0, id="steady"),
        pytest.param([100] * 10 + [5] * 50, 10, id="step"),
        pytest.param([100] * 3 + [5] * 57, 5, id="step within a batch"),
        pytest.param([100] * 20 + [5] * 3 + [5] * 40, 20, id="incomplete batch at the end"),
        pytest.param([5] * 50 + [100] * 10, 0, id="change at the end"),
        pytest.param([60 - i for i in range(60)], 30, id="no end in sight: cut at half"),
        pytest.param([100] * 10 + [5] * 9, 0, id="too short to tell"),
    ],
)
def test_mser5_on_a_series_made_by_hand(series: list[float], cut: int) -> None:
    assert mser5(np.array(series, dtype=float)) == cut


@pytest.mark.parametrize("seed", range(20))
def test_mser5_is_the_minimum_of_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ages = np.arange(rng.integers(20, 200))
    series = 10 * np.exp(-ages / rng.uniform(1, 30)) + rng.normal(size=len(ages))
    assert mser5(series) == mser5_by_definition(series)


def test_t_interval_by_hand() -> None:
    """1 to 5: mean 3, variance 10 / 4, and 2.776 is the t quantile for 4 degrees of freedom in any table."""
    estimate = t_interval([1, 2, 3, 4, 5])
    assert estimate.mean == 3
    assert estimate.ci95 == pytest.approx(2.776 * math.sqrt(2.5 / 5), rel=2e-4)


@pytest.mark.parametrize("values", [[1.0, 2.0], [12.1, 11.8, 12.6, 12.0, 11.9], [0.1, -0.1, 5e6, -7.5, 3.0, 3.0, 3.0]])
def test_t_interval_is_that_of_scipy(values: list[float]) -> None:
    estimate = t_interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (estimate.mean, estimate.ci95) == pytest.approx((np.mean(values), (high - low) / 2))


def test_one_replication_has_no_interval() -> None:
    assert t_interval([4.0]) == Estimate(4.0, None)
    assert t_interval([4.0]).relative == math.inf


@pytest.mark.parametrize(
    ("estimate", "relative"), [(Estimate(50.0, 1.0), 0.02), (Estimate(-50.0, 1.0), 0.02), (Estimate(0.0, 0.0), 0.0)]
)
def test_relative_half_width(estimate: Estimate, relative: float) -> None:
    assert estimate.relative == relative


def test_an_estimate_in_another_unit() -> None:
    assert Estimate(10.0, 2.0).scaled(-3) == Estimate(-30.0, 6.0)
    assert Estimate(10.0, None).scaled(2) == Estimate(20.0, None)


def test_the_control_variate_is_the_regression_at_the_known_mean() -> None:
    """Lavenberg & Welch (1981): the intercept of a regression on the control less its mean, with n - 2 degrees of freedom."""
    offered = [98.0, 101.5, 103.0, 99.0, 100.2, 97.1]
    captured = [49.2, 50.6, 51.6, 49.4, 50.2, 48.5]
    line = stats.linregress([x - 100.0 for x in offered], captured)
    estimate = controlled_interval(captured, offered, 100.0)
    assert (estimate.mean, estimate.ci95) == pytest.approx((line.intercept, stats.t.ppf(0.975, 4) * line.intercept_stderr))


@pytest.mark.parametrize(
    ("control", "mean"),
    [
        pytest.param([1.0, 2.0, 3.0, 4.0, 5.0], None, id="its mean is not known"),
        pytest.param([1.0, 1.0, 1.0, 1.0, 1.0], 1.0, id="it does not vary"),
    ],
)
def test_a_useless_control_is_not_used(control: list[float], mean: float | None) -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert controlled_interval(values, control, mean) == t_interval(values)


def test_three_replications_are_too_few_for_a_control() -> None:
    assert controlled_interval([1.0, 2.0, 3.0], [1.0, 2.0, 3.1], 2.0) == t_interval([1.0, 2.0, 3.0])


def test_a_strong_control_keeps_the_mean_and_takes_the_variance() -> None:
    """It leaves 1 % of the variance, times (n - 2) / (n - 3) for the estimated slope (Lavenberg & Welch): 1.14 % with ten replications."""
    rng = np.random.default_rng(1)
    drawn = [replications(rng, 0.99, 10) for _ in range(DRAWS)]
    plain = np.array([t_interval(values).mean for values, _ in drawn])
    controlled = np.array([controlled_interval(values, control, 3.0).mean for values, control in drawn])
    assert abs(controlled.mean() - 7) < 4 * controlled.std() / math.sqrt(DRAWS)
    assert controlled.var() / plain.var() == pytest.approx(0.01 * 8 / 7, rel=0.15)


@pytest.mark.parametrize("count", [2, 5, 30])
def test_the_t_interval_covers_the_mean_as_often_as_it_says(count: int) -> None:
    rng = np.random.default_rng(count)
    estimates = [t_interval(rng.normal(7, 2, count).tolist()) for _ in range(DRAWS)]
    assert least_coverage() < coverage(estimates, 7.0) < 1.9 - least_coverage()


@pytest.mark.parametrize(
    "explained",
    [
        0.5,
        0.8,
        0.9,
        0.999,
    ],
)
def test_the_controlled_interval_covers_the_mean_as_often_as_it_says(explained: float) -> None:
    rng = np.random.default_rng(5)
    estimates = [controlled_interval(*replications(rng, explained), 3.0) for _ in range(DRAWS)]
    assert coverage(estimates, 7.0) > least_coverage()


@pytest.mark.parametrize("degrees_of_freedom", [*range(1, 60), 1000])
def test_quantiles_of_students_t(degrees_of_freedom: int) -> None:
    assert t_quantile(degrees_of_freedom) == pytest.approx(float(stats.t.ppf(0.975, degrees_of_freedom)), rel=1e-12)


def test_quantiles_of_a_histogram() -> None:
    """Ten observations, 1 to 10 by size: the median is the fifth, the 99 % quantile the tenth."""
    histogram = np.array([0, 4, 0, 1, 4, 1, 0])
    assert quantile_bins(histogram, [0.4, 0.5, 0.9, 0.99, 1.0]) == [1, 3, 4, 5, 5]
    assert quantile_bins(np.zeros(3, dtype=np.int64), [0.5, 0.99]) == [None, None]
