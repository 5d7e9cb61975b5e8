"""Several pairs of states at once: which of them shifted, beside each other or a control."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from detente import hub
from detente.dated import read_table, select
from detente.detection import SIGNIFICANCE
from detente.errors import InputError, MissingExtraError
from detente.findings import Estimate, Shift, draw_tone, estimate
from detente.prevalence import Confusion
from detente.shifts import Prepared, answer, change_at, prepare

if TYPE_CHECKING:
    import pandas as pd

Pair = tuple[str | None, str | None]

_DRAWS: Final = 1000


@dataclass(frozen=True)
class Comparison:
    """Shifts of several pairs.

    Attributes:
        shifts: One for each pair, in their order.
        adjusted: Their p-values, so adjusted that of the pairs called shifted at most a share of
            ``SIGNIFICANCE`` is expected to be so by chance (Benjamini and Hochberg, 1995);
            ``None`` where there was not enough data.
        differences: How much further each pair's mean tone moved than the control's at the same
            date, with a 90 % interval; ``None`` without a control or without data.
    """

    shifts: tuple[Shift, ...]
    adjusted: tuple[float | None, ...]
    differences: tuple[Estimate | None, ...]

    @property
    def shifted(self) -> tuple[Shift, ...]:
        """The pairs that shifted, chance among many pairs allowed for."""
        return tuple(
            s
            for s, p in zip(self.shifts, self.adjusted, strict=True)
            if s.found and p is not None and p <= SIGNIFICANCE
        )

    def to_frame(self) -> pd.DataFrame:
        """Returns a row a pair: verdict, date, effect, probabilities and the difference."""
        import pandas as pd

        return pd.DataFrame.from_records(
            [
                {
                    "source": s.source,
                    "target": s.target,
                    "verdict": s.verdict,
                    "shifted": s in self.shifted,
                    "date": s.changes[0].date if s.changes else None,
                    "effect": s.effect.value if s.effect else None,
                    "effect_low": s.effect.low if s.effect else None,
                    "effect_high": s.effect.high if s.effect else None,
                    "probability": s.probability,
                    "p_value": s.p_value,
                    "p_adjusted": p,
                    "beyond_control": d.value if d else None,
                    "beyond_control_low": d.low if d else None,
                    "beyond_control_high": d.high if d else None,
                }
                for s, p, d in zip(self.shifts, self.adjusted, self.differences, strict=True)
            ]
        )

    def plot(self, path: str) -> None:
        """Draws the series of all pairs under each other, on one scale.

        Raises:
            InputError: No pair has a series.
            MissingExtraError: matplotlib is not installed (extra ``analysis``).
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError.of("the plot", "analysis") from error
        drawn = [s for s in self.shifts if s.series]
        if not drawn:
            raise InputError("there is no series to draw")
        figure = Figure(figsize=(9, 1.0 + 1.6 * len(drawn)), layout="constrained")
        axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
        for axis, each in zip(axes, drawn, strict=True):
            draw_tone(axis, each)
            axis.set_ylabel("tone")
            pair = f"{each.source or 'all'} toward {each.target or 'all'}"
            axis.set_title(f"{pair}: {each.verdict}", loc="left", fontsize=8)
            axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=150)


def compare(
    rows: Any,  # noqa: ANN401 (as shift takes them)
    pairs: Sequence[Pair],
    *,
    control: Pair | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    trends: bool = True,
    model: str = hub.DEFAULT,
    confusion: Confusion | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Tells which of several pairs shifted.

    Args:
        rows: As :func:`detente.shift` takes them; scored rows save scoring them for each pair.
        pairs: Sources and targets; ``None`` in one of them takes all.
        control: A pair that what moved the others should not have moved. Both changes are taken
            at the other pair's date with the same draws of the classifier's errors.
        start: The first day of the window.
        end: Its last day.
        trends: See :func:`detente.shift`.
        model: See :func:`detente.shift`.
        confusion: See :func:`detente.shift`.
        seed: Of all draws.
        progress: Show a progress bar while scoring.

    Raises:
        InputError: There are no pairs, or the rows cannot be read or lack a pair.
        ModelError: The model is not there, or has no confusion counts.
    """
    from scipy.stats import false_discovery_control

    if not pairs:
        raise InputError("there are no pairs", expected="sources and targets")
    table = read_table(rows)

    def prepared(pair: Pair) -> Prepared:
        return prepare(select(table, *pair, start, end), model, confusion, progress=progress)

    ready = [prepared(pair) for pair in pairs]
    shifts = [
        replace(answer(each, trends=trends, seed=seed), source=source, target=target)
        for each, (source, target) in zip(ready, pairs, strict=True)
    ]
    tested = [i for i, s in enumerate(shifts) if s.p_value is not None]
    adjusted: list[float | None] = [None] * len(shifts)
    if tested:
        p_values = [shifts[i].p_value for i in tested]
        for i, p in zip(tested, false_discovery_control(p_values), strict=True):
            adjusted[i] = float(p)
    differences: list[Estimate | None] = [None] * len(shifts)
    if control is not None:
        beside = prepared(control)
        for i, (own, found) in enumerate(zip(ready, shifts, strict=True)):
            if found.changes:
                main = max(found.changes, key=lambda c: abs(c.effect.value))
                rng = np.random.default_rng(seed)
                rates = own.confusion.draw(_DRAWS, rng)
                moved = [change_at(p.timeline, rates, main.date, rng) for p in (own, beside)]
                if moved[0] is not None and moved[1] is not None:
                    differences[i] = estimate(moved[0] - moved[1])
    return Comparison(tuple(shifts), tuple(adjusted), tuple(differences))
