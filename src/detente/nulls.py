"""Is it a step, or what a trend, a season and chance make anyway? A test by block bootstrap.

Shares of labels are regressed on what can move them without a step: nothing, a linear trend, an
annual cycle, or both. The statistic asks how much better a step at some boundary explains what
is left (the exponential average of Andrews and Ploberger, Econometrica 62, 1994). Its
distribution without a step comes from series made of the regression and of its residuals, drawn
in blocks of neighbouring documents (Künsch, Annals of Statistics 17, 1989), so that dependence
between neighbours is not taken for a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Null = Literal["constant", "linear", "annual", "linear and annual"]

_YEAR: Final = 365.25
_LEAST_YEARS: Final = 2.0
_MOST_UNITS: Final = 2000
_MOST_BOUNDARIES: Final = 60
_RESPONSES: Final = (0, 2)
"""Shares that are regressed: critical and conciliatory; neutral is the rest."""
_LEAST_SPREAD: Final = 0.02
_SCALE: Final = 10 * _YEAR


@dataclass(frozen=True, slots=True)
class NullTest:
    """The test of a step against the best explanation without one.

    Attributes:
        null: What explains the series best without a step.
        p_value: Share of series without a step that look as much like one, in (0, 1].
        slope: Change of the mean tone a year by the linear trend, where there is one in the null.
    """

    null: Null
    p_value: float
    slope: float | None


@dataclass(frozen=True, slots=True)
class _Fit:
    """A weighted regression of both shares on one design, for many series at once.

    Attributes:
        gram: Shape (series, columns, columns).
        residuals: Shape (series, units, 2), times the unit's weight.
        gain: Shape (series,): what the design explains beyond a constant, a chi-square.
        slopes: Shape (series, columns, 2).
    """

    gram: Floats
    residuals: Floats
    gain: Floats
    slopes: Floats


def step_test(
    counts: Floats,
    days: npt.NDArray[np.int64],
    *,
    least: int,
    series: int,
    trends: bool = True,
    rng: np.random.Generator,
) -> NullTest | None:
    """Tests for a step in a sequence of documents.

    Args:
        counts: Shape (documents, 3): effective counts of labels, in order of time.
        days: Shape (documents,).
        least: Documents on either side of a boundary.
        series: How many series without a step to draw.
        trends: A linear trend is an explanation, too.
        rng: Draws.

    Returns:
        ``None`` where no step could stand anywhere.
    """
    units, times, least = _units(counts, days, least)
    weights = units.sum(axis=1)
    shares = units[:, _RESPONSES] / weights[:, None]
    precision: Floats = np.asarray(np.linalg.pinv(_covariance(shares, weights)), np.float64)
    designs = _designs(times, weights)
    boundaries = _boundaries(len(units), least, times)
    if not len(boundaries):
        return None
    if not trends:
        designs = {null: design for null, design in designs.items() if "linear" not in null}
    tests = {
        null: _p_value(designs[null], shares, weights, precision, boundaries, series, rng)
        for null in _explanations(designs, shares, weights, precision)
    }
    null = max(tests, key=lambda n: tests[n])
    p_value = tests[null]
    fit = _regress(designs[null], shares[None], weights[None], precision)
    slope = None
    if "linear" in null:
        slope = float(fit.slopes[0][1] @ np.array([-1.0, 1.0]) / _SCALE * _YEAR)
    return NullTest(null, p_value, slope)


def _units(counts: Floats, days: npt.NDArray[np.int64], least: int) -> tuple[Floats, Floats, int]:
    """Returns at most ``_MOST_UNITS`` units: documents, or neighbouring documents together."""
    together = -(-len(counts) // _MOST_UNITS)
    starts = np.arange(0, len(counts), together)
    units = np.add.reduceat(counts, starts, axis=0)
    return units, days[starts].astype(np.float64), -(-least // together)


def _covariance(shares: Floats, weights: Floats) -> Floats:
    """Returns the covariance of the shares of one statement, shape (2, 2), from neighbours.

    Differences of neighbours hardly know of steps, trends and seasons (von Neumann, Annals of
    Mathematical Statistics 12, 1941).
    """
    scale = np.sqrt(1 / weights[1:] + 1 / weights[:-1])
    differences = np.diff(shares, axis=0) / scale[:, None]
    return np.asarray(differences.T @ differences / len(differences))


def _designs(times: Floats, weights: Floats) -> dict[Null, Floats]:
    """Returns the columns of each explanation without a step, shape (units, columns)."""
    constant = np.ones(len(times))
    linear = (times - times.mean()) / _SCALE
    phase = 2 * np.pi * times / _YEAR
    annual = np.column_stack([np.sin(phase), np.cos(phase)])
    designs: dict[Null, Floats] = {"constant": constant[:, None]}
    if np.ptp(times) > 0:
        designs["linear"] = np.column_stack([constant, linear])
    # Speeches of one week in every year say nothing of the seasons.
    spread = np.linalg.eigvalsh(np.cov(annual.T, aweights=weights))[0]
    if np.ptp(times) >= _LEAST_YEARS * _YEAR and spread > _LEAST_SPREAD:
        designs["annual"] = np.column_stack([constant, annual])
        designs["linear and annual"] = np.column_stack([constant, linear, annual])
    return designs


def _boundaries(units: int, least: int, times: Floats) -> npt.NDArray[np.int64]:
    """Returns places for a step, at most ``_MOST_BOUNDARIES``, never within a day."""
    inside = np.arange(least, units - least + 1)
    inside = inside[times[inside] > times[inside - 1]] if len(inside) else inside
    if len(inside) > _MOST_BOUNDARIES:
        inside = inside[np.linspace(0, len(inside) - 1, _MOST_BOUNDARIES).round().astype(int)]
    return inside


def _explanations(
    designs: dict[Null, Floats], shares: Floats, weights: Floats, precision: Floats
) -> list[Null]:
    """Returns every explanation without a step that a step has to beat.

    A season, where the series has one by the Bayesian information criterion; with and without
    a trend, where there is one. Every step looks like a trend of a sort, and every trend like a
    step: a test against the better of both alone would take one for the other.
    """
    penalty = len(_RESPONSES) * np.log(len(shares))
    merit = {
        null: _regress(design, shares[None], weights[None], precision).gain[0]
        - penalty * (design.shape[1] - 1)
        for null, design in designs.items()
    }
    nulls: list[Null] = ["constant", "linear"]
    if "annual" in max(merit, key=lambda n: merit[n]):
        nulls = ["annual", "linear and annual"]
    return [n for n in nulls if n in merit and (n != nulls[1] or merit[n] > merit[nulls[0]])]


def _p_value(
    design: Floats,
    shares: Floats,
    weights: Floats,
    precision: Floats,
    boundaries: npt.NDArray[np.int64],
    series: int,
    rng: np.random.Generator,
) -> float:
    """Returns the share of series of one explanation that look as much like a step."""
    fit = _regress(design, shares[None], weights[None], precision)
    found = _gains_of_step(design, fit, weights[None], boundaries, precision)
    expected = design @ fit.slopes[0]
    # What a real step would add to the residuals must not be drawn as if it were chance.
    step = np.arange(len(shares)) >= boundaries[found[0].argmax()]
    with_step = np.column_stack([design, step])
    whole = _regress(with_step, shares[None], weights[None], precision)
    residuals = shares - with_step @ whole.slopes[0]
    residuals *= np.sqrt(len(shares) / max(len(shares) - with_step.shape[1], 1))
    source = _blocks(len(shares), _block_length(residuals, weights), series, rng)
    again = _regress(design, expected + residuals[source], weights[source], precision)
    without = _gains_of_step(design, again, weights[source], boundaries, precision)
    return (1 + int((_average(without) >= _average(found)).sum())) / (series + 1)


def _regress(design: Floats, shares: Floats, weights: Floats, precision: Floats) -> _Fit:
    """Fits a design (units, columns) to shares (series, units, 2), weights (series, units)."""
    gram = np.einsum("uc,su,ud->scd", design, weights, design, optimize=True)
    moment = np.einsum("uc,su,sur->scr", design, weights, shares, optimize=True)
    slopes = np.linalg.solve(gram, moment)
    mean = moment[:, 0] / gram[:, 0, 0][:, None]
    explained = np.einsum("scr,scq->srq", slopes, moment) - gram[:, :1, :1] * (
        mean[:, :, None] * mean[:, None, :]
    )
    residuals = weights[..., None] * (shares - design @ slopes)
    return _Fit(gram, residuals, np.einsum("srq,rq->s", explained, precision), slopes)


def _gains_of_step(
    design: Floats,
    fit: _Fit,
    weights: Floats,
    boundaries: npt.NDArray[np.int64],
    precision: Floats,
) -> Floats:
    """Returns what a step at each boundary explains besides a design, (series, boundaries)."""
    moved = _after(fit.residuals, boundaries)
    weight = _after(weights[..., None], boundaries)[..., 0]
    shared = np.stack(
        [_after(weights[..., None] * c[:, None], boundaries)[..., 0] for c in design.T], axis=-1
    )
    solved = np.linalg.solve(fit.gram, shared.swapaxes(1, 2))
    own = weight - np.einsum("sbc,scb->sb", shared, solved)
    explained = np.einsum("sbr,rq,sbq->sb", moved, precision, moved, optimize=True)
    return np.asarray(explained / np.maximum(own, 1e-9 * weight))


def _after(values: Floats, boundaries: npt.NDArray[np.int64]) -> Floats:
    """Returns the sums from each boundary to the end: (series, boundaries, …)."""
    upto = np.cumsum(values, axis=1)
    return upto[:, -1:] - upto[:, boundaries - 1]


def _average(gains: Floats) -> Floats:
    """Returns the log of the mean over boundaries of exp(gain / 2), shape (series,)."""
    half = gains / 2
    top = half.max(axis=1)
    return np.asarray(top + np.log(np.exp(half - top[:, None]).mean(axis=1)))


def _block_length(residuals: Floats, weights: Floats) -> int:
    """Returns how many neighbours to draw together (Andrews, Econometrica 59, 1991, AR(1))."""
    scores = (residuals @ np.array([-1.0, 1.0])) * np.sqrt(weights)
    scores -= scores.mean()
    r = float(np.clip(scores[1:] @ scores[:-1] / max(scores @ scores, 1e-12), 0.0, 0.9))
    length = 1.1447 * (4 * r**2 * len(scores) / (1 - r**2) ** 2) ** (1 / 3)
    return int(np.clip(round(length), 1, max(len(scores) // 5, 1)))


def _blocks(
    units: int, length: int, series: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Returns which unit's residual goes where, shape (series, units), in circular blocks."""
    starts = rng.integers(0, units, size=(series, -(-units // length), 1))
    return ((starts + np.arange(length)) % units).reshape(series, -1)[:, :units]
