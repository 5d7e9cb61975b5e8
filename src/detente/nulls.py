"""Is it a step, or what a trend, a season and chance make anyway? A test by block bootstrap.

The mean tone of documents, and the shares of them that are critical and conciliatory, are regressed
on what can move them without a step: nothing or an annual cycle, and either with a line. The
statistic asks how much a step at some boundary explains of any of the three (the exponential
average of Andrews and Ploberger, Econometrica 62, 1994), and against a line: how much more than
the line does (Cox, Journal of the Royal Statistical Society B 24, 1962). Its distribution without
a step comes from series made of the regression and of residuals, drawn in blocks of neighbouring
documents (Künsch, Annals of Statistics 17, 1989), so that dependence between neighbours is not
taken for a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from detente.labels import WAYS

Floats = npt.NDArray[np.float64]
Null = Literal["constant", "linear", "annual", "linear and annual"]

_YEAR: Final = 365.25
_LEAST_YEARS: Final = 2.0
_MOST_UNITS: Final = 2000
_MOST_BOUNDARIES: Final = 60
_LEAST_SPREAD: Final = 0.02


@dataclass(frozen=True, slots=True)
class NullTest:
    """The test of a step against explanations without one.

    Attributes:
        season: An annual cycle is part of every explanation.
        p_none: Share of series without any step or trend that look as much like a step, in (0, 1].
        p_line: Share of series with a line in place of a step that look as much like a step.
        p_of_line: Share of series without any step or trend whose tone looks as much like a line.
        slope: Change of the mean tone a year by the line.
        step: What the best step explains, a chi-square.
        line: What the line explains, a chi-square.
        beyond: What the best step explains besides the line, a chi-square.
    """

    season: bool
    p_none: float
    p_line: float
    p_of_line: float
    slope: float
    step: float
    line: float
    beyond: float

    def p_value(self, *, trends: bool) -> float:
        """Returns the larger p-value: a step has to beat every explanation without one."""
        return max(self.p_none, self.p_line) if trends else self.p_none

    def null(self, *, trends: bool) -> Null:
        """Returns the explanation without a step that came nearest."""
        if trends and self.p_line >= self.p_none:
            return "linear and annual" if self.season else "linear"
        return "annual" if self.season else "constant"


def step_test(
    counts: Floats,
    days: npt.NDArray[np.int64],
    *,
    least: int,
    series: int,
    rng: np.random.Generator,
) -> NullTest | None:
    """Tests for a step in a sequence of documents.

    Args:
        counts: Shape (documents, 3): effective counts of labels, in order of time.
        days: Shape (documents,).
        least: Documents on either side of a boundary.
        series: How many series without a step to draw.
        rng: Draws.

    Returns:
        ``None`` where no step could stand anywhere.
    """
    units, times, least = _units(counts, days, least)
    boundaries = _boundaries(len(units), least, times)
    if not len(boundaries):
        return None
    root = np.sqrt(units.sum(axis=1))
    means = WAYS @ units.T / root**2
    deviations = _deviations(means, root)
    if not deviations.any():
        return NullTest(False, p_none=1, p_line=1, p_of_line=1, slope=0, step=0, line=0, beyond=0)
    # So scaled, what a document adds has a variance of one.
    values = means * root / np.where(deviations > 0, deviations, 1.0)[:, None]
    line = (root * (times - times.mean()))[:, None]
    steps = root[:, None] * (np.arange(len(units))[:, None] >= boundaries)
    base = _base(values, root, line, steps, times)
    with_line = np.column_stack([base, _besides(base, line)])
    along, toward = with_line[:, -1:], _besides(base, steps)

    of_line, of_steps = _squares(values, along), _squares(values, toward)
    # What a real step would add to the residuals must not be drawn as if it were chance.
    best = steps[:, [of_steps.max(axis=0).argmax()]]
    everything = np.column_stack([with_line, _besides(with_line, best)])
    residuals = values - _projected(values, everything)
    residuals *= np.sqrt(len(units) / max(len(units) - everything.shape[1], 1))
    source = _blocks(len(units), _block_length(residuals[0]), series, rng)
    drawn = residuals.T[source].swapaxes(1, 2)

    none, lines = (_projected(values, without) + drawn for without in (base, with_line))
    found, line_found = _average(of_steps), _average(of_line)
    more = _average(_squares(lines, toward)) - _average(_squares(lines, along))
    return NullTest(
        season=base.shape[1] > 1,
        p_none=_share(_average(_squares(none, toward)) >= found),
        p_line=_share(more >= found - line_found),
        p_of_line=_share(_squares(none, along)[:, 0, 0] >= of_line[0, 0]),
        slope=float((values @ along)[0, 0] / (along.T @ line)[0, 0] * deviations[0] * _YEAR),
        step=float(of_steps.max()),
        line=float(of_line.max()),
        beyond=float(_squares(values, _besides(with_line, steps)).max()),
    )


def _units(counts: Floats, days: npt.NDArray[np.int64], least: int) -> tuple[Floats, Floats, int]:
    """Returns at most ``_MOST_UNITS`` units: documents, or neighbouring documents together."""
    together = -(-len(counts) // _MOST_UNITS)
    starts = np.arange(0, len(counts), together)
    units = np.add.reduceat(counts, starts, axis=0)
    return units, days[starts].astype(np.float64), -(-least // together)


def _boundaries(units: int, least: int, times: Floats) -> npt.NDArray[np.int64]:
    """Returns places for a step, at most ``_MOST_BOUNDARIES``, never within a day."""
    inside = np.arange(least, units - least + 1)
    inside = inside[times[inside] > times[inside - 1]] if len(inside) else inside
    if len(inside) > _MOST_BOUNDARIES:
        inside = inside[np.linspace(0, len(inside) - 1, _MOST_BOUNDARIES).round().astype(int)]
    return inside


def _deviations(means: Floats, root: Floats) -> Floats:
    """Returns the standard deviation of one statement in each way, shape (ways,).

    From neighbours: their differences hardly know of steps, trends and seasons (von Neumann,
    Annals of Mathematical Statistics 12, 1941).
    """
    differences = np.diff(means) / np.hypot(1 / root[1:], 1 / root[:-1])
    return np.asarray(np.sqrt((differences**2).mean(axis=1)))


def _base(values: Floats, root: Floats, line: Floats, steps: Floats, times: Floats) -> Floats:
    """Returns what stands in every explanation, orthonormal: a constant, and a season if any.

    There is a season where it explains more of some value than the Bayesian information criterion
    asks for, besides the better of a line and a step: either may look like part of a season.
    """
    constant = _orthonormal(root[:, None])
    phase = 2 * np.pi * times / _YEAR
    annual = np.column_stack([np.sin(phase), np.cos(phase)])
    # Speeches of one week in every year say nothing of the seasons.
    spread = np.linalg.eigvalsh(np.cov(annual.T, aweights=root**2))[0]
    if np.ptp(times) < _LEAST_YEARS * _YEAR or spread <= _LEAST_SPREAD:
        return constant
    seasonal = _orthonormal(np.column_stack([root, root[:, None] * annual]))
    moves = np.column_stack([line, steps])
    without, explained = (
        _squares(values, base).sum(axis=1) + _squares(values, _besides(base, moves)).max(axis=1)
        for base in (constant, seasonal)
    )
    return seasonal if (explained - without).max() > 2 * np.log(len(times)) else constant


def _orthonormal(columns: Floats) -> Floats:
    """Returns an orthonormal basis of columns, shape (units, columns)."""
    return np.linalg.qr(columns)[0]


def _besides(base: Floats, columns: Floats) -> Floats:
    """Returns what columns add to an orthonormal base, each of length one.

    Zero for a column that adds nothing.
    """
    rest = columns - base @ (base.T @ columns)
    length = np.linalg.norm(rest, axis=0)
    adds = length > 1e-6 * np.linalg.norm(columns, axis=0)
    return np.where(adds, rest / np.where(adds, length, 1.0), 0.0)


def _projected(values: Floats, base: Floats) -> Floats:
    """Returns what an orthonormal base explains of values, shape (ways, units)."""
    return np.asarray(values @ base @ base.T)


def _squares(values: Floats, directions: Floats) -> Floats:
    """Returns what each direction explains of values (…, units): a chi-square, (…, directions)."""
    return (values @ directions) ** 2


def _average(explained: Floats) -> Floats:
    """Returns the log of the mean of exp(explained / 2) over ways and directions.

    Args:
        explained: Shape (…, ways, directions).
    """
    half = explained / 2
    top = half.max(axis=(-2, -1), keepdims=True)
    return np.asarray(top[..., 0, 0] + np.log(np.exp(half - top).mean(axis=(-2, -1))))


def _share(as_much: npt.NDArray[np.bool_]) -> float:
    """Returns a p-value from which of the drawn series look as much like it."""
    return (1 + int(as_much.sum())) / (len(as_much) + 1)


def _block_length(residuals: Floats) -> int:
    """Returns how many neighbours to draw together (Andrews, Econometrica 59, 1991, AR(1))."""
    centred = residuals - residuals.mean()
    r = float(np.clip(centred[1:] @ centred[:-1] / max(centred @ centred, 1e-12), 0.0, 0.9))
    length = 1.1447 * (4 * r**2 * len(centred) / (1 - r**2) ** 2) ** (1 / 3)
    return int(np.clip(round(length), 1, max(len(centred) // 5, 1)))


def _blocks(
    units: int, length: int, series: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Returns which unit's residual goes where, shape (series, units), in circular blocks."""
    starts = rng.integers(0, units, size=(series, -(-units // length), 1))
    return ((starts + np.arange(length)) % units).reshape(series, -1)[:, :units]
